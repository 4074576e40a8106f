//! Signals by name, as specs and configuration write them.

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// A signal that may be sent to stop or reload a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM: please end.
    Term,
    /// SIGINT: end now, cleanly (PostgreSQL's fast shutdown).
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGKILL: no chance to clean up.
    Kill,
}

impl StopSignal {
    /// Returns the operating system's signal.
    pub fn os(self) -> Signal {
        match self {
            Self::Term => Signal::SIGTERM,
            Self::Int => Signal::SIGINT,
            Self::Quit => Signal::SIGQUIT,
            Self::Kill => Signal::SIGKILL,
        }
    }
}

/// Restores the default action of SIGPIPE, so that `kdk … | head` ends quietly.
#[expect(unsafe_code, reason = "signal() has no safe form")]
pub fn restore_sigpipe() {
    // SAFETY: called first thing in main, before any thread exists; SIG_DFL
    // installs no handler of ours.
    unsafe {
        let _ = nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl);
    }
}
