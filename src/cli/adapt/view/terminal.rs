//! The terminal: taken whole while the view lives, and given back as it was whatever ends it, a panic included. What it
//! can show is asked of its environment.

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stderr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::{panic, thread};

/// How many colours a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// None, or none wanted.
    Grey,
    Sixteen,
    Palette,
    True,
}

impl Depth {
    /// What the terminal says of itself in its environment.
    pub fn of(environment: impl Fn(&str) -> Option<String>) -> Depth {
        let value = |name: &str| environment(name).unwrap_or_default();
        if !value("NO_COLOR").is_empty() {
            return Depth::Grey;
        }
        let (term, colours) = (value("TERM"), value("COLORTERM"));
        if colours.contains("truecolor") || colours.contains("24bit") || term.ends_with("-direct") {
            Depth::True
        } else if term.contains("256color") {
            Depth::Palette
        } else if term.is_empty() || term == "dumb" || term.starts_with("vt") {
            Depth::Grey
        } else {
            Depth::Sixteen
        }
    }
}

/// Whether there is a person at a terminal: what is drawn goes to standard error, and keys come from standard input or,
/// where that is a camera's pipe, from the terminal itself.
pub fn is_there() -> bool {
    let keys = || io::stdin().is_terminal() || File::open("/dev/tty").is_ok();
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    io::stderr().is_terminal() && !dumb && keys()
}

type Hook = dyn Fn(&panic::PanicHookInfo<'_>) + Send + Sync;

/// The whole terminal, until it is dropped.
pub struct Screen {
    pub terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
    earlier_hook: Arc<Hook>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If it refuses; then it is as it was.
    pub fn open() -> io::Result<Screen> {
        enable_raw_mode()?;
        let opened = execute!(io::stderr(), EnterAlternateScreen).and_then(|()| {
            Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(
                1 << 16,
                io::stderr(),
            )))
        });
        let terminal = opened.inspect_err(|_| restore())?;
        let earlier_hook: Arc<Hook> = Arc::from(panic::take_hook());
        let (hook, main) = (Arc::clone(&earlier_hook), thread::current().id());
        panic::set_hook(Box::new(move |info| {
            // Other threads' panics are caught and reported by those who wait for them; a decoder's are common.
            if thread::current().id() == main {
                restore();
                hook(info);
            }
        }));
        Ok(Screen {
            terminal,
            earlier_hook,
        })
    }
}

/// What the terminal sends from now on. It is waited for on a thread that nobody waits for: where the line is cut, the
/// library below never comes back from reading. The channel closes if reading fails.
pub fn events() -> Receiver<Event> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
        if !thread::panicking() {
            let hook = Arc::clone(&self.earlier_hook);
            panic::set_hook(Box::new(move |info| hook(info)));
        }
    }
}

/// Gives the terminal back. Where it is gone nobody is left to mind.
fn restore() {
    let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_the_terminal_names() {
        let depth = |variables: &[(&str, &str)]| {
            Depth::of(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let xterm = ("TERM", "xterm-256color");
        assert_eq!(depth(&[xterm, ("COLORTERM", "truecolor")]), Depth::True);
        assert_eq!(depth(&[xterm]), Depth::Palette);
        assert_eq!(depth(&[("TERM", "linux")]), Depth::Sixteen);
        assert_eq!(depth(&[("TERM", "vt100")]), Depth::Grey);
        assert_eq!(depth(&[]), Depth::Grey);
        let no_colour = [xterm, ("COLORTERM", "truecolor"), ("NO_COLOR", "1")];
        assert_eq!(depth(&no_colour), Depth::Grey);
        assert_eq!(depth(&[xterm, ("NO_COLOR", "")]), Depth::Palette);
    }
}
