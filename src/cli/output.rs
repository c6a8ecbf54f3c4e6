//! What people and machines read. With `--json` standard output carries JSON alone; everything for people goes
//! to standard error. Without it, results go to standard output, and progress, warnings and errors to standard
//! error. Whatever is printed passes through [`crate::visible`], line by line: names and messages come from outside.

use super::usage;
use crate::frames::{self, FolderError, LeftOut};
use crate::masked::mask_urls;
use crate::visible::{VisibleJson, shown};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use unicode_width::UnicodeWidthStr;

/// The two streams and how much to say.
pub struct Output {
    json: bool,
    quiet: bool,
    verbose: u8,
    /// Set once standard output is gone (`edge-rlp ... | head`), which is not a failure but a reason to stop.
    closed: AtomicBool,
    /// Why results could not be written though somebody waits for them, as on a full disk.
    lost: OnceLock<io::Error>,
}

impl Output {
    /// Output for `--json`, `--quiet` and a count of `-v`.
    pub fn new(json: bool, quiet: bool, verbose: u8) -> Output {
        Output {
            json,
            quiet,
            verbose,
            closed: AtomicBool::new(false),
            lost: OnceLock::new(),
        }
    }

    /// Whether standard output is for machines.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether nobody reads standard output any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Fails where results were lost: on a full disk, say, but not where nobody reads them any more.
    pub fn check_written(&self) -> anyhow::Result<()> {
        match self.lost.get() {
            Some(error) => Err(anyhow::anyhow!(
                "the results cannot be written to standard output ({error}), and some are lost: send it to where there is room"
            )),
            None => Ok(()),
        }
    }

    /// One line of results for people, on standard output; nothing with `--json`.
    pub fn line(&self, text: impl Display) {
        if !self.json {
            self.write(&shown(&text.to_string()));
        }
    }

    /// The same in fields that tabs separate.
    pub fn fields(&self, fields: impl IntoIterator<Item = String>) {
        if !self.json {
            let fields = fields.into_iter().map(|field| shown(&field).into_owned());
            self.write(&fields.collect::<Vec<_>>().join("\t"));
        }
    }

    /// One JSON object on a line of its own, on standard output; nothing without `--json`.
    pub fn object(&self, value: &impl Serialize) -> serde_json::Result<()> {
        if self.json {
            let mut line = Vec::new();
            value.serialize(&mut serde_json::Serializer::with_formatter(
                &mut line,
                VisibleJson,
            ))?;
            self.write(&String::from_utf8_lossy(&line));
        }
        Ok(())
    }

    /// Warns of files that are not read, and of folders that are left out.
    pub fn left_out(&self, left_out: &LeftOut) {
        if !left_out.is_empty() {
            self.warn(format_args!("left out {left_out}"));
        }
    }

    /// The picture files that `paths` mean; what is left out is told.
    ///
    /// # Errors
    /// A path that does not exist or cannot be read, and a folder without pictures.
    pub fn pictures_in(&self, paths: &[impl AsRef<Path>]) -> Result<Vec<PathBuf>, FolderError> {
        let found = frames::pictures_in(paths)?;
        self.left_out(&found.left_out);
        Ok(found.paths)
    }

    /// Warns of folders of pictures that are left out.
    pub fn unused_folders(&self, folders: &[PathBuf]) {
        for folder in folders {
            self.warn(format!(
                "{}: no label has this folder's name; left out",
                folder.display()
            ));
        }
    }

    /// Whether only results, warnings and errors are wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// What is going on, for people, on standard error; nothing with `--quiet`.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            print_error(text);
        }
    }

    /// What only `-v` shows.
    pub fn detail(&self, text: impl Display) {
        if self.verbose > 0 && !self.quiet {
            print_error(text);
        }
    }

    /// Something that went wrong without stopping the work.
    pub fn warn(&self, text: impl Display) {
        print_error(format_args!("warning: {text}"));
    }

    /// A progress bar of `length` steps, seen on a terminal only. `what` stands before it, in a few words.
    pub fn progress(&self, what: &'static str, length: u64) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(length), self.target());
        let style = ProgressStyle::with_template("{prefix:>9} {bar:30} {pos}/{len} {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.with_prefix(what)
    }

    /// Something that turns while work of unknown length goes on, seen on a terminal only.
    pub fn spinner(&self, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        if let Ok(style) = ProgressStyle::with_template("{prefix:>9} {spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        bar.with_prefix(what)
    }

    /// A bar for bytes on their way, seen on a terminal only; how many there will be is not known yet.
    #[cfg(feature = "pull")]
    pub fn transfer(&self, what: String) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        let style = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.with_message(shown(&what).into_owned())
    }

    fn target(&self) -> ProgressDrawTarget {
        if io::stderr().is_terminal() && !self.quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        }
    }

    fn write(&self, line: &str) {
        let mut stdout = io::stdout().lock();
        if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            if error.kind() != io::ErrorKind::BrokenPipe {
                let _ = self.lost.set(error);
            }
            self.closed.store(true, Ordering::Relaxed);
        }
    }
}

/// One line on standard error. A terminal that is gone, as when an ssh line is cut, must not end the program.
pub fn print_error(line: impl Display) {
    // What others wrote, an operating system or a server, may hold an address.
    let _ = writeln!(io::stderr(), "{}", mask_urls(&shown(&line.to_string())));
}

/// `1 picture`, `2 pictures`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Refuses to write over a file that holds something else than `what`, such as the list of labels that was meant to be read; `is` tells
/// by how a file begins.
///
/// # Errors
/// If it does.
pub fn check_replaced(path: &Path, what: &str, is: impl Fn(&[u8]) -> bool) -> anyhow::Result<()> {
    // Of what is no regular file it is said elsewhere that it is none.
    if !path.symlink_metadata().is_ok_and(|of| of.is_file()) {
        return Ok(());
    }
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(512).read_to_end(&mut begin));
    if read.is_err() || begin.is_empty() || is(&begin) {
        return Ok(());
    }
    Err(usage(format!(
        "{} holds something else than {what}: nothing was begun; name another file, or remove that one",
        path.display()
    )))
}

/// A share as people read it: `87.5 %`.
pub fn percent(share: f32) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// The columns that a text takes on a terminal where it is printed: two for each wide letter, none for those that combine.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(&*shown(text))
}

/// Rows as lines, every column as wide as its widest cell.
pub fn aligned<R: AsRef<[String]>>(rows: &[R]) -> Vec<String> {
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row.as_ref()) {
            *widest = width(cell).max(*widest);
        }
    }
    let line = |row: &R| {
        let cells = row.as_ref().iter().zip(&widths);
        let padded = cells.map(|(cell, widest)| {
            let space = " ".repeat(widest - width(cell));
            format!("{}{space}", shown(cell))
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Seconds since 1970 as a date and a time of day.
pub fn date(seconds: u64) -> String {
    // The first second of the year 10000, which RFC 3339 cannot write.
    const END: u64 = 253_402_300_800;
    if seconds >= END {
        return "after the year 9999 UTC".into();
    }
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    // 2026-01-31T12:59:59Z
    let text = humantime::format_rfc3339_seconds(time).to_string();
    format!("{} {} UTC", &text[..10], &text[11..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(date(4_107_542_399), "2100-02-28 23:59 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00 UTC");
        assert!(date(u64::MAX).ends_with("UTC"));
    }

    #[test]
    fn tables_are_aligned_whatever_the_script() {
        let rows = [["a", "b"], ["название", "c"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), ["a         b", "название  c"]);
        // Wide letters, and one that combines with the letter before it.
        let rows = [["消火栓", "b"], ["cafe\u{301}", "c"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), ["消火栓  b", "cafe\u{301}    c"]);
    }
}
