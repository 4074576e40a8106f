//! The state of one job, and how long it pauses between tries. No I/O.

use std::time::{Duration, Instant};

use super::protocol::StateName;

/// A job that ran this long was healthy: its next failure is the first again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// Failures in a row that make a crash loop.
const LOOP_FROM: u32 = 3;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What a job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It does not run.
    Down,
    /// It waits for others.
    Waiting,
    /// Its address is being looked at.
    Checking,
    /// It runs.
    Alive {
        /// Process id of its leader, and of its group.
        pid: i32,
        /// Since when.
        since: Instant,
        /// How far it is.
        phase: Phase,
    },
    /// It ended by itself and pauses.
    Backoff {
        /// Until when.
        until: Instant,
    },
    /// It cannot be started.
    Failed {
        /// Why.
        reason: String,
        /// The port that another process holds, when that is why.
        port_taken: Option<u16>,
        /// When it is tried again.
        until: Instant,
    },
}

/// How far a running job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not ready yet.
    Starting,
    /// Ready.
    Ready,
    /// Its leader has ended by itself; what is left of its group is ended.
    Ending,
    /// Asked to end; killed at the time given.
    Stopping {
        /// When it is killed; nothing once it was.
        kill_at: Option<Instant>,
    },
}

impl JobState {
    /// Returns the state's name. `failures` is the count in a row.
    pub fn name(&self, failures: u32) -> StateName {
        match self {
            Self::Down => StateName::Down,
            Self::Waiting => StateName::Waiting,
            Self::Checking => StateName::Starting,
            Self::Alive {
                phase: Phase::Starting, ..
            } if failures >= LOOP_FROM => StateName::CrashLoop,
            Self::Alive {
                phase: Phase::Starting, ..
            } => StateName::Starting,
            Self::Alive {
                phase: Phase::Ready, ..
            } => StateName::Ready,
            Self::Alive {
                phase: Phase::Stopping { .. } | Phase::Ending,
                ..
            } => StateName::Stopping,
            Self::Backoff { .. } if failures >= LOOP_FROM => StateName::CrashLoop,
            Self::Backoff { .. } => StateName::Backoff,
            Self::Failed { .. } => StateName::Failed,
        }
    }

    /// Returns the leader's process id while the job runs.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Alive { pid, .. } => Some(*pid),
            _ => None,
        }
    }
}

/// Counts a failure. `ran` is how long the job ran. Returns the new count.
pub fn count_failure(failures: u32, ran: Duration) -> u32 {
    if ran >= HEALTHY_AFTER {
        1
    } else {
        failures.saturating_add(1)
    }
}

/// Returns the pause before the next try: 1 s, 2 s, 4 s … 60 s.
pub fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    Duration::from_secs(1 << doublings).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let pauses: Vec<u64> = (0..9).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(count_failure(5, Duration::from_secs(1)), 6);
        assert_eq!(count_failure(5, Duration::from_secs(11)), 1);
    }
}
