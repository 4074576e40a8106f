//! Asking a job whether it is ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::protocol::Ready;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks until the job is ready; false when `cancelled` came first.
pub fn until_ready(ready: &Ready, cancelled: &Arc<AtomicBool>) -> bool {
    let client = match ready {
        Ready::Http(_) => reqwest::blocking::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // It is only asked whether it answers; nothing is sent to it that
            // somebody else must not have.
            .tls_danger_accept_invalid_certs(true)
            .build()
            .ok(),
        _ => None,
    };
    let mut pause = Duration::from_millis(10);
    while !cancelled.load(Ordering::Relaxed) {
        let answered = match ready {
            Ready::Running => true,
            Ready::Http(url) => client.as_ref().is_some_and(|client| client.get(url).send().is_ok()),
            Ready::Succeeds(command) => succeeds(command),
            Ready::Socket(path) => std::os::unix::net::UnixStream::connect(path).is_ok(),
        };
        if answered {
            return true;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(250));
    }
    false
}

/// Asks once whether a job is ready that tells by a command or a socket.
pub fn is_ready(ready: &Ready) -> bool {
    match ready {
        Ready::Running | Ready::Http(_) => true,
        Ready::Succeeds(command) => succeeds(command),
        Ready::Socket(path) => std::os::unix::net::UnixStream::connect(path).is_ok(),
    }
}

fn succeeds(command: &[String]) -> bool {
    let Some((program, arguments)) = command.split_first() else {
        return false;
    };
    let quiet = std::process::Stdio::null;
    std::process::Command::new(program)
        .args(arguments)
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .status()
        .is_ok_and(|status| status.success())
}
