//! Named places at which a test makes the real binary fail, wait, stop or die.
//! In release builds there are none.
//!
//! `KDK_FAILPOINTS` is a list of `NAME=ACTION` with `;` between. An action is
//! `kill` (signal 9), `stop` (signal 19, until somebody sends 18), `delay:MS`,
//! `full` (no space left on the device) or `fail` (an input/output error);
//! `@N` after it means the Nth time only (from 1), `@N+` from then on.

/// Does what is asked for at a place; mostly nothing.
///
/// # Errors
/// With the error that the place is to fail with.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reach(_name: &str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
pub use plan::reach;

/// The same at a place that cannot fail.
#[inline]
pub fn pass(name: &str) {
    let _ = reach(name);
}

#[cfg(debug_assertions)]
mod plan {
    use std::io;
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

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Kill,
        Stop,
        Delay(Duration),
        Fail(i32),
    }

    static PLAN: LazyLock<Vec<Point>> = LazyLock::new(|| {
        let text = crate::sys::env::var("KDK_FAILPOINTS").unwrap_or_default();
        parse(&text).unwrap_or_else(|wrong| panic!("KDK_FAILPOINTS: {wrong} is not understood"))
    });

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
            match point.action {
                Action::Kill => drop(raise(Signal::SIGKILL)),
                Action::Stop => drop(raise(Signal::SIGSTOP)),
                Action::Delay(time) => std::thread::sleep(time),
                Action::Fail(code) => return Err(io::Error::from_raw_os_error(code)),
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
                ("full", "") => Action::Fail(libc::ENOSPC),
                ("fail", "") => Action::Fail(libc::EIO),
                ("delay", time) => Action::Delay(Duration::from_millis(time.parse().ok()?)),
                _ => return None,
            },
            from,
            to,
            reached: AtomicUsize::new(0),
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn plans_are_read_or_refused() {
            let plan = parse("a=kill;b:c=delay:20@3;d=full@2+").expect("understood");
            let read: Vec<_> = plan
                .iter()
                .map(|point| (point.name.as_str(), point.action, point.from, point.to))
                .collect();
            assert_eq!(
                read,
                [
                    ("a", Action::Kill, 1, usize::MAX),
                    ("b:c", Action::Delay(Duration::from_millis(20)), 3, 3),
                    ("d", Action::Fail(libc::ENOSPC), 2, usize::MAX),
                ]
            );
            for wrong in ["a", "a=explode", "a=kill@x", "a=delay", "a=kill:1"] {
                assert_eq!(parse(wrong).expect_err("refused"), wrong);
            }
        }
    }
}
