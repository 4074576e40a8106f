//! What `KDK_FAILPOINTS` asks for.

use std::io;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, raise};

/// What happens at a place, and at which times.
#[derive(Debug)]
struct Point {
    name: String,
    action: Action,
    /// The first and the last time, from 1.
    from: usize,
    to: usize,
    reached: AtomicUsize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
    Panic,
    Delay(Duration),
    Hold(PathBuf),
    /// With an error, once there is a file of that name where one is given.
    Fail(i32, Option<PathBuf>),
}

/// How often a place that is held looks whether it may go on.
const LOOK: Duration = Duration::from_millis(10);

static PLAN: LazyLock<Vec<Point>> = LazyLock::new(|| {
    let text = crate::sys::env::var("KDK_FAILPOINTS").unwrap_or_default();
    parse(&text).unwrap_or_else(|wrong| panic!("KDK_FAILPOINTS: {wrong} is not understood"))
});

/// Says whether anything is to happen anywhere.
pub fn is_planned() -> bool {
    !PLAN.is_empty()
}

/// Does what is asked for at a place; mostly nothing.
///
/// # Errors
/// With the error that the place is to fail with.
pub fn reach(name: &str) -> io::Result<()> {
    for point in PLAN.iter().filter(|point| point.name == name) {
        let time = point.reached.fetch_add(1, Ordering::Relaxed) + 1;
        if time < point.from || time > point.to {
            continue;
        }
        match &point.action {
            Action::Kill => drop(raise(Signal::SIGKILL)),
            Action::Stop => drop(raise(Signal::SIGSTOP)),
            Action::Panic => panic!("as {name} is to"),
            Action::Delay(time) => std::thread::sleep(*time),
            Action::Hold(path) => {
                while !path.exists() {
                    std::thread::sleep(LOOK);
                }
            }
            Action::Fail(_, Some(path)) if !path.exists() => {}
            Action::Fail(code, _) => return Err(io::Error::from_raw_os_error(*code)),
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Point>, String> {
    text.split(';')
        .filter(|part| !part.is_empty())
        .map(|part| point(part).ok_or_else(|| part.to_owned()))
        .collect()
}

fn point(text: &str) -> Option<Point> {
    let (name, what) = text.split_once('=')?;
    let (action, times) = what.split_once('@').unwrap_or((what, "1+"));
    let (from, to) = match times.strip_suffix('+') {
        Some(from) => (from.parse().ok()?, usize::MAX),
        None => (times.parse().ok()?, times.parse().ok()?),
    };
    Some(Point {
        name: name.to_owned(),
        action: match action.split_once(':').unwrap_or((action, "")) {
            ("kill", "") => Action::Kill,
            ("stop", "") => Action::Stop,
            ("panic", "") => Action::Panic,
            ("full", path) => Action::Fail(libc::ENOSPC, some_path(path)),
            ("fail", path) => Action::Fail(libc::EIO, some_path(path)),
            ("hold", path) if !path.is_empty() => Action::Hold(path.into()),
            ("delay", time) => Action::Delay(Duration::from_millis(time.parse().ok()?)),
            _ => return None,
        },
        from,
        to,
        reached: AtomicUsize::new(0),
    })
}

fn some_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_or_refused() {
        let plan = parse("a=kill;b:c=delay:20@3;d=full@2+;e=hold:/x/y@1").expect("understood");
        let read: Vec<_> = plan
            .iter()
            .map(|point| (point.name.as_str(), point.action.clone(), point.from, point.to))
            .collect();
        assert_eq!(
            read,
            [
                ("a", Action::Kill, 1, usize::MAX),
                ("b:c", Action::Delay(Duration::from_millis(20)), 3, 3),
                ("d", Action::Fail(libc::ENOSPC, None), 2, usize::MAX),
                ("e", Action::Hold("/x/y".into()), 1, 1),
            ]
        );
        for wrong in ["a", "a=explode", "a=kill@x", "a=delay", "a=kill:1", "a=hold"] {
            assert_eq!(parse(wrong).expect_err("refused"), wrong);
        }
    }
}
