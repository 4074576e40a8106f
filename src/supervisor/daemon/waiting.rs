//! Clients that wait for jobs to become something.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::Daemon;
use super::managed::Job;
use crate::supervisor::protocol::{Failure, JobStatus, Reply, StateName};
use crate::supervisor::state::{JobState, Phase};
use crate::sys::clock::monotonic;

/// Time beyond the jobs' grace before a client is told that one survives.
pub const MARGIN: Duration = Duration::from_secs(10);

/// What a client waits for.
#[derive(Clone, Copy)]
pub enum Goal {
    /// All are ready, or have failed.
    Up,
    /// All have ended.
    Down,
}

/// A client that waits.
pub struct Waiter {
    goal: Goal,
    names: Vec<String>,
    /// When it is answered, however things are.
    pub deadline: Instant,
    reply: Sender<Reply>,
    told: BTreeMap<String, StateName>,
}

impl Waiter {
    /// Makes a waiter.
    pub fn new(goal: Goal, names: Vec<String>, limit: Duration, reply: Sender<Reply>) -> Self {
        Self {
            goal,
            names,
            deadline: monotonic() + limit,
            reply,
            told: BTreeMap::new(),
        }
    }
}

impl Daemon {
    /// Tells clients what has changed, and those who need wait no longer what came of it.
    pub(super) fn answer_waiters(&mut self) {
        let now = monotonic();
        let statuses: Vec<JobStatus> = self.jobs.values().map(Job::status).collect();
        let mut waiters = std::mem::take(&mut self.waiters);
        waiters.retain_mut(|waiter| {
            for status in statuses.iter().filter(|status| waiter.names.contains(&status.name)) {
                if waiter.told.insert(status.name.clone(), status.state) != Some(status.state) {
                    let _ = waiter.reply.send(Reply::Progress(status.clone()));
                }
            }
            let late = now >= waiter.deadline;
            let verdicts: Vec<_> = waiter
                .names
                .iter()
                .map(|name| self.verdict(name, waiter.goal, late))
                .collect();
            if verdicts.iter().any(Option::is_none) {
                return true;
            }
            let failures = verdicts.into_iter().flatten().filter_map(Result::err).collect();
            let _ = waiter.reply.send(Reply::Done {
                jobs: statuses.clone(),
                failures,
            });
            false
        });
        self.waiters = waiters;
        let idle = self.jobs.values().all(|job| !job.wanted && job.state.pid().is_none());
        if idle && self.waiters.is_empty() {
            self.save();
            self.ending = true;
        }
    }

    /// Judges whether a job has become what somebody waits for.
    fn verdict(&self, name: &str, goal: Goal, late: bool) -> Option<Result<(), Failure>> {
        let failure = |reason: String, port_taken| {
            Some(Err(Failure {
                name: name.to_owned(),
                reason,
                port_taken,
            }))
        };
        let Some(job) = self.jobs.get(name) else {
            return Some(Ok(()));
        };
        match (goal, &job.state) {
            (
                Goal::Up,
                JobState::Alive {
                    phase: Phase::Ready, ..
                },
            )
            | (Goal::Down, JobState::Down) => Some(Ok(())),
            (Goal::Up, JobState::Down) => failure("was stopped meanwhile".to_owned(), None),
            (Goal::Up, _) if !job.wanted => failure("was stopped meanwhile".to_owned(), None),
            (Goal::Up, JobState::Failed { reason, port_taken, .. }) => failure(reason.clone(), *port_taken),
            (Goal::Up, JobState::Backoff { .. }) => {
                failure(format!("ended before it was ready: {}", job.last_end), None)
            }
            (Goal::Up, JobState::Waiting) => {
                let broken = job.spec.depends_on.iter().find(|needed| {
                    self.jobs
                        .get(*needed)
                        .is_some_and(|other| matches!(other.state, JobState::Failed { .. } | JobState::Backoff { .. }))
                });
                match broken {
                    Some(needed) => failure(format!("needs {needed}, which does not run"), None),
                    None if late => failure("was not started in time".to_owned(), None),
                    None => None,
                }
            }
            (Goal::Up, _) if late => failure("is not ready yet".to_owned(), None),
            (Goal::Down, _) if job.wanted => Some(Ok(())),
            (Goal::Down, JobState::Alive { pid, .. }) if late => failure(format!("does not end (process {pid})"), None),
            _ => None,
        }
    }
}
