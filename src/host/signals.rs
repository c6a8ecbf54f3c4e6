//! Ctrl-C and SIGTERM, which end a program, and SIGHUP, which ends it or has it read its configuration again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The exit code of a program that a second signal ends.
const INTERRUPTED: i32 = 130;

#[cfg(unix)]
mod unix {
    use super::INTERRUPTED;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::{SigId, flag, low_level};
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex, PoisonError};

    /// What a closed terminal does until [`reload`] is called.
    static HANG_UP: Mutex<Vec<SigId>> = Mutex::new(Vec::new());

    pub fn stop(stop: &Arc<AtomicBool>) {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // Whoever starts this with nohup wants it to go on.
            if signal == SIGHUP && is_ignored(SIGHUP) {
                continue;
            }
            // In this order: the first signal finds the flag unset, and the second set. Where a handler cannot be set the
            // program still ends, only less gently.
            let ends = flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(stop));
            let sets = flag::register(signal, Arc::clone(stop));
            if signal == SIGHUP {
                let mut hang_up = HANG_UP.lock().unwrap_or_else(PoisonError::into_inner);
                hang_up.extend(ends.into_iter().chain(sets));
            }
        }
    }

    /// Whether the program was started with a signal ignored, as far as the system says that in words.
    fn is_ignored(signal: i32) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        ignored.is_some_and(|bits| bits >> (signal - 1) & 1 == 1)
    }

    pub fn reload(reload: &Arc<AtomicBool>) {
        let mut hang_up = HANG_UP.lock().unwrap_or_else(PoisonError::into_inner);
        for id in hang_up.drain(..) {
            low_level::unregister(id);
        }
        let _ = flag::register(SIGHUP, Arc::clone(reload));
    }
}

/// A flag that the first Ctrl-C, SIGTERM or SIGHUP sets; the second one ends the program at once. To be called once.
pub fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    unix::stop(&stop);
    #[cfg(not(unix))]
    {
        use std::sync::atomic::Ordering;
        let flag = Arc::clone(&stop);
        // Without a handler the program still ends on Ctrl-C, only less gently.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(INTERRUPTED);
            }
        });
    }
    stop
}

/// A flag that SIGHUP sets from now on, instead of ending the program. Where there is no such signal, nothing sets it.
#[cfg_attr(not(feature = "serve"), expect(dead_code))]
pub fn reload_flag() -> Arc<AtomicBool> {
    let reload = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    unix::reload(&reload);
    reload
}
