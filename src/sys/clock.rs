//! Time, injected: the only place that reads the system's clocks.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A source of wall-clock time.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// A clock that stands still, for tests and reproducible output.
    Fixed(Timestamp),
}

impl Clock {
    /// Returns the current time.
    #[expect(clippy::disallowed_methods, reason = "this is the room that reads the clock")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => super::simulation::now().map_or_else(Timestamp::now, |(now, _)| now),
            Self::Fixed(at) => *at,
        }
    }
}

/// Returns a point on the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the room that reads the clock")]
pub fn monotonic() -> Instant {
    super::simulation::now().map_or_else(Instant::now, |(_, now)| now)
}

/// Calls `probe` until it yields a value or `limit` has passed.
///
/// For states of other processes that announce themselves by no event.
pub fn wait_until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = monotonic() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if monotonic() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Formats a time as svlogd does: `2024-09-26_21:36:36.51052` (UTC).
pub fn log_stamp(at: Timestamp) -> String {
    let micros = at.subsec_microsecond();
    format!("{}.{:05}", at.strftime("%Y-%m-%d_%H:%M:%S"), micros / 10)
}

/// Formats a time for backup names: `20240926213636` (UTC).
pub fn backup_stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%d%H%M%S").to_string()
}

/// Formats a length of time for people: `45s`, `3m 12s`, `2h 5m`, `3d 4h`.
pub fn human_duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_stamp_is_svlogd_s() {
        let at: Timestamp = "2024-09-26T21:36:36.510521Z".parse().expect("valid");
        assert_eq!(log_stamp(at), "2024-09-26_21:36:36.51052");
    }

    #[test]
    fn durations_read_naturally() {
        let read: Vec<_> = [5, 75, 3_700, 90_000].map(human_duration).to_vec();
        assert_eq!(read, ["5s", "1m 15s", "1h 1m", "1d 1h"]);
    }
}
