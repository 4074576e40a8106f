//! The daemon: one loop owns all state; threads wait for processes, probes
//! and clients, and tell the loop by messages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::Signal;

use super::job::{self, Found, Running};
use super::protocol::{Envelope, Failure, JobSpec, JobStatus, Reply, Request, StateName, VERSION};
use super::state::{JobState, Phase, count_failure, pause};
use super::store::{Store, Stored};
use super::{Paths, client, log, probe};
use crate::sys;
use crate::sys::clock::{Clock, monotonic};
use crate::sys::fs::Lock;
use crate::sys::process::Identity;

/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
/// Time beyond a job's grace before a waiting client is told that it survives.
const MARGIN: Duration = Duration::from_secs(10);

enum Message {
    Client(Envelope, Sender<Reply>),
    /// A job's leader and all of its group have ended.
    Ended {
        name: String,
        generation: u64,
        how: String,
    },
    /// A job is ready.
    Ready {
        name: String,
        generation: u64,
    },
}

struct Job {
    spec: JobSpec,
    wanted: bool,
    state: JobState,
    identity: Option<Identity>,
    started_at: Option<Timestamp>,
    restarts: u32,
    failures: u32,
    last_end: String,
    /// Counts starts, so that messages about an earlier process are told apart.
    generation: u64,
    cancel_probe: Arc<AtomicBool>,
    pipe: Option<File>,
}

enum Goal {
    Up,
    Down,
}

struct Waiter {
    goal: Goal,
    names: Vec<String>,
    deadline: Instant,
    reply: Sender<Reply>,
    told: BTreeMap<String, StateName>,
}

struct Daemon {
    paths: Paths,
    build: String,
    jobs: BTreeMap<String, Job>,
    waiters: Vec<Waiter>,
    sender: Sender<Message>,
    ending: bool,
}

/// Runs the daemon of a root until it is told to end. Returns at once when
/// another one has the lock.
///
/// # Errors
/// When the lock, the socket or the store cannot be used.
pub fn run(paths: Paths) -> io::Result<()> {
    sys::fs::create_private_dir(&paths.jobs())?;
    let Some(_lock) = Lock::try_take(&paths.lock())? else {
        return Ok(());
    };
    let listener = listen(&paths)?;
    let (sender, receiver) = mpsc::channel();
    let mut daemon = Daemon {
        build: client::build_id(),
        paths: paths.clone(),
        jobs: BTreeMap::new(),
        waiters: Vec::new(),
        sender: sender.clone(),
        ending: false,
    };
    daemon.adopt()?;
    std::thread::spawn(move || accept(&listener, &sender));
    daemon.run(&receiver);
    sys::fs::remove(&paths.socket)?;
    Ok(())
}

fn listen(paths: &Paths) -> io::Result<UnixListener> {
    if let Some(parent) = paths.socket.parent() {
        sys::fs::create_private_dir(parent)?;
        // A socket away from the root lies where others may make directories.
        if sys::fs::owner(parent)? != sys::process::user_id()
            || sys::fs::mode(parent).is_none_or(|mode| mode & 0o077 != 0)
        {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{parent} is not private to this user"),
            ));
        }
    }
    // Whoever held the lock before is gone, and so is its socket's use.
    sys::fs::remove(&paths.socket)?;
    UnixListener::bind(&paths.socket)
}

fn accept(listener: &UnixListener, sender: &Sender<Message>) {
    for stream in listener.incoming().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            // A client that goes away loses its answer, nothing else.
            let _ = converse(&stream, &sender);
        });
    }
}

fn converse(stream: &UnixStream, sender: &Sender<Message>) -> io::Result<()> {
    let mut writer = stream;
    for line in BufReader::new(stream).lines() {
        let (reply, replies) = mpsc::channel();
        match serde_json::from_str::<Envelope>(&line?) {
            Ok(envelope) => {
                if sender.send(Message::Client(envelope, reply)).is_err() {
                    return Ok(());
                }
            }
            // Whatever it says, it is of another version.
            Err(_) => drop(reply.send(Reply::Outdated)),
        }
        for reply in replies {
            let mut text = serde_json::to_string(&reply).map_err(io::Error::other)?;
            text.push('\n');
            writer.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

impl Daemon {
    fn run(&mut self, receiver: &Receiver<Message>) {
        while !self.ending {
            let timeout = self
                .next_deadline()
                .map_or(IDLE, |at| at.saturating_duration_since(monotonic()));
            match receiver.recv_timeout(timeout) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.advance();
            self.answer_waiters();
        }
        // Answers under way go out before the process ends.
        std::thread::sleep(Duration::from_millis(20));
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Client(envelope, reply) => self.serve(envelope, reply),
            Message::Ready { name, generation } => {
                if let Some(job) = self.jobs.get_mut(&name).filter(|job| job.generation == generation)
                    && let JobState::Alive {
                        phase: phase @ Phase::Starting,
                        ..
                    } = &mut job.state
                {
                    *phase = Phase::Ready;
                }
            }
            Message::Ended { name, generation, how } => self.ended(&name, generation, how),
        }
    }

    fn serve(&mut self, envelope: Envelope, reply: Sender<Reply>) {
        let current = envelope.version == VERSION && envelope.build == self.build;
        match envelope.request {
            Request::HandOver => {
                self.save();
                self.ending = true;
                let _ = reply.send(Reply::Done {
                    jobs: self.statuses(),
                    failures: Vec::new(),
                });
            }
            _ if !current => {
                self.save();
                self.ending = true;
                let _ = reply.send(Reply::Outdated);
            }
            Request::Status => drop(reply.send(Reply::Done {
                jobs: self.statuses(),
                failures: Vec::new(),
            })),
            Request::Start { jobs, wait_seconds } => {
                let names = jobs.iter().map(|spec| spec.name.clone()).collect();
                jobs.into_iter().for_each(|spec| self.want(spec));
                let deadline = monotonic() + Duration::from_secs(wait_seconds);
                self.waiters.push(Waiter {
                    goal: Goal::Up,
                    names,
                    deadline,
                    reply,
                    told: BTreeMap::new(),
                });
            }
            Request::Stop { names, kill } => {
                let names = names.unwrap_or_else(|| self.jobs.keys().cloned().collect());
                let mut longest = Duration::ZERO;
                for name in &names {
                    let Some(job) = self.jobs.get_mut(name) else { continue };
                    job.wanted = false;
                    longest += Duration::from_secs(job.spec.stop.grace_seconds);
                    match (&mut job.state, kill) {
                        (JobState::Alive { pid, phase, .. }, true) => {
                            sys::process::signal_group(*pid, Signal::SIGKILL);
                            *phase = Phase::Stopping { kill_at: None };
                        }
                        (JobState::Waiting | JobState::Backoff { .. } | JobState::Failed { .. }, _) => {
                            job.state = JobState::Down
                        }
                        _ => {}
                    }
                }
                self.save();
                let deadline = monotonic() + longest + MARGIN;
                self.waiters.push(Waiter {
                    goal: Goal::Down,
                    names,
                    deadline,
                    reply,
                    told: BTreeMap::new(),
                });
            }
        }
    }

    /// Takes over what an earlier daemon left.
    fn adopt(&mut self) -> io::Result<()> {
        let store = Store::load(&self.paths.store())?;
        for (name, stored) in store.jobs {
            let found = job::find(&self.paths.jobs(), &name, stored.process.as_ref())?;
            let mut job = Job::new(stored.spec, stored.wanted, stored.restarts);
            job.started_at = stored.started_at;
            self.jobs.insert(name.clone(), job);
            match found {
                Found::Leader(identity) => self.take_over(&name, identity),
                Found::Leftovers(group) => {
                    job::end_group(group, Duration::from_secs(2));
                    self.lost(&name);
                }
                Found::Nothing => self.lost(&name),
            }
        }
        // A job that was started and never came to be stored: nobody knows how to run it.
        for name in job::names(&self.paths.jobs()) {
            if !self.jobs.contains_key(&name)
                && let Found::Leader(Identity { pid, .. }) | Found::Leftovers(pid) =
                    job::find(&self.paths.jobs(), &name, None)?
            {
                job::end_group(pid, Duration::from_secs(5));
            }
        }
        self.save();
        Ok(())
    }

    fn take_over(&mut self, name: &str, identity: Identity) {
        let pipe = self.pipe(name);
        let Some(job) = self.jobs.get_mut(name) else { return };
        if let Ok(pipe) = pipe {
            job.pipe = Some(pipe);
        }
        job.identity = Some(identity.clone());
        let phase = if job.wanted { Phase::Starting } else { Phase::Ready };
        job.state = JobState::Alive {
            pid: identity.pid,
            since: monotonic(),
            phase,
        };
        self.watch(name, Running::Adopted(identity));
    }

    /// A job that should run and ended while nobody looked.
    fn lost(&mut self, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        if job.wanted {
            job.last_end = "ended while no supervisor ran".to_owned();
            job.restarts += 1;
            job.failures = 1;
            job.state = JobState::Backoff {
                until: monotonic() + pause(1),
            };
        }
    }

    fn want(&mut self, spec: JobSpec) {
        let name = spec.name.clone();
        let job = self.jobs.entry(name).or_insert_with(|| Job::new(spec.clone(), true, 0));
        job.spec = spec;
        job.wanted = true;
        if matches!(
            job.state,
            JobState::Down | JobState::Failed { .. } | JobState::Backoff { .. }
        ) {
            job.state = JobState::Waiting;
            job.failures = 0;
        }
    }

    fn ended(&mut self, name: &str, generation: u64, how: String) {
        let Some(job) = self.jobs.get_mut(name).filter(|job| job.generation == generation) else {
            return;
        };
        let JobState::Alive { since, phase, .. } = job.state else {
            return;
        };
        job.cancel_probe.store(true, Ordering::Relaxed);
        job.identity = None;
        job.last_end = how;
        let asked = matches!(phase, Phase::Stopping { .. });
        job.state = match (job.wanted, asked) {
            (false, _) => JobState::Down,
            // It was stopped and wanted again while it ended.
            (true, true) => JobState::Waiting,
            (true, false) => {
                job.failures = count_failure(job.failures, since.elapsed());
                job.restarts += 1;
                JobState::Backoff {
                    until: monotonic() + pause(job.failures),
                }
            }
        };
        self.save();
    }

    /// Does what has become possible or due.
    fn advance(&mut self) {
        let now = monotonic();
        for job in self.jobs.values_mut() {
            match &mut job.state {
                JobState::Backoff { until } if *until <= now => job.state = JobState::Waiting,
                JobState::Alive {
                    pid,
                    phase: Phase::Stopping { kill_at },
                    ..
                } if kill_at.is_some_and(|at| at <= now) => {
                    sys::process::signal_group(*pid, Signal::SIGKILL);
                    *kill_at = None;
                }
                _ => {}
            }
        }
        let startable: Vec<String> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.wanted && job.state == JobState::Waiting && self.may_start(job))
            .map(|(name, _)| name.clone())
            .collect();
        for name in startable {
            self.start(&name);
        }
        let stoppable: Vec<String> = self
            .jobs
            .iter()
            .filter(|(name, job)| {
                let alive = matches!(
                    job.state,
                    JobState::Alive {
                        phase: Phase::Starting | Phase::Ready,
                        ..
                    }
                );
                alive && !job.wanted && self.may_stop(name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in stoppable {
            let Some(job) = self.jobs.get_mut(&name) else { continue };
            job.cancel_probe.store(true, Ordering::Relaxed);
            let grace = Duration::from_secs(job.spec.stop.grace_seconds);
            let signal = job.spec.stop.signal.os();
            if let JobState::Alive { pid, phase, .. } = &mut job.state {
                sys::process::signal_group(*pid, signal);
                *phase = Phase::Stopping {
                    kill_at: Some(now + grace),
                };
            }
        }
    }

    fn may_start(&self, job: &Job) -> bool {
        let ready = |name: &String| {
            self.jobs.get(name).is_none_or(|other| {
                matches!(
                    other.state,
                    JobState::Alive {
                        phase: Phase::Ready,
                        ..
                    }
                )
            })
        };
        job.spec.depends_on.iter().all(ready)
    }

    /// Jobs that depend on it and are to end as well end first.
    fn may_stop(&self, name: &str) -> bool {
        !self.jobs.values().any(|other| {
            !other.wanted && other.state.pid().is_some() && other.spec.depends_on.iter().any(|needed| needed == name)
        })
    }

    fn start(&mut self, name: &str) {
        let pipe = self.pipe(name);
        let jobs = self.paths.jobs();
        let Some(job) = self.jobs.get_mut(name) else { return };
        let fail = |job: &mut Job, reason: String, port_taken| job.state = JobState::Failed { reason, port_taken };
        if let Err((reason, port)) = check_address(&job.spec) {
            return fail(job, reason, port);
        }
        let output = pipe.and_then(|pipe| {
            let output = log::writer(&pipe)?;
            job.pipe = Some(pipe);
            Ok(output)
        });
        match output.and_then(|output| job::start(&job.spec, &jobs, output)) {
            Err(error) => fail(job, error.to_string(), None),
            Ok(None) => match job::find(&jobs, name, None) {
                // Somebody started it meanwhile, which only an earlier daemon can have.
                Ok(Found::Leader(identity)) => self.take_over(name, identity),
                Ok(Found::Leftovers(group)) => {
                    job::end_group(group, Duration::from_secs(2));
                    job.state = JobState::Backoff { until: monotonic() };
                }
                _ => fail(job, "its pid file is locked by an unknown process".to_owned(), None),
            },
            Ok(Some(child)) => {
                let running = Running::Child(child);
                job.identity = Identity::of(running.pid());
                job.started_at = Some(Clock::System.now());
                job.state = JobState::Alive {
                    pid: running.pid(),
                    since: monotonic(),
                    phase: Phase::Starting,
                };
                self.watch(name, running);
                self.save();
            }
        }
    }

    /// Waits for a process's end and readiness in threads of their own.
    fn watch(&mut self, name: &str, running: Running) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        job.generation += 1;
        job.cancel_probe = Arc::default();
        let generation = job.generation;
        let (ready, cancelled, sender, probed) = (
            job.spec.ready.clone(),
            Arc::clone(&job.cancel_probe),
            self.sender.clone(),
            name.to_owned(),
        );
        std::thread::spawn(move || {
            if probe::until_ready(&ready, &cancelled) {
                let _ = sender.send(Message::Ready {
                    name: probed,
                    generation,
                });
            }
        });
        let (sender, name) = (self.sender.clone(), name.to_owned());
        std::thread::spawn(move || {
            let how = running.wait();
            let _ = sender.send(Message::Ended { name, generation, how });
        });
    }

    /// Returns the pipe that a job writes to; the first time, its log is started.
    fn pipe(&self, name: &str) -> io::Result<File> {
        if let Some(pipe) = self.jobs.get(name).and_then(|job| job.pipe.as_ref()) {
            return pipe.try_clone();
        }
        let pipe = log::open_pipe(&self.paths.jobs().join(format!("{name}.pipe")))?;
        log::copy(pipe.try_clone()?, self.paths.log(name));
        Ok(pipe)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let jobs = self.jobs.values().filter_map(|job| match job.state {
            JobState::Backoff { until } => Some(until),
            JobState::Alive {
                phase: Phase::Stopping { kill_at },
                ..
            } => kill_at,
            _ => None,
        });
        jobs.chain(self.waiters.iter().map(|waiter| waiter.deadline)).min()
    }

    fn answer_waiters(&mut self) {
        let now = monotonic();
        let statuses = self.statuses();
        let mut waiters = std::mem::take(&mut self.waiters);
        waiters.retain_mut(|waiter| {
            for status in statuses.iter().filter(|status| waiter.names.contains(&status.name)) {
                if waiter.told.insert(status.name.clone(), status.state) != Some(status.state) {
                    let _ = waiter.reply.send(Reply::Progress(status.clone()));
                }
            }
            let verdicts: Vec<Option<Result<(), Failure>>> = waiter
                .names
                .iter()
                .map(|name| self.verdict(name, &waiter.goal, now >= waiter.deadline))
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
        if idle && self.waiters.is_empty() && !self.jobs.is_empty() {
            self.save();
            self.ending = true;
        }
    }

    /// Judges whether a job has become what somebody waits for.
    fn verdict(&self, name: &str, goal: &Goal, late: bool) -> Option<Result<(), Failure>> {
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
            (Goal::Up, JobState::Failed { reason, port_taken }) => failure(reason.clone(), *port_taken),
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
            (Goal::Up, JobState::Alive { .. }) if late => failure("is not ready yet".to_owned(), None),
            (Goal::Down, _) if job.wanted => Some(Ok(())),
            (Goal::Down, JobState::Alive { pid, .. }) if late => failure(format!("does not end (process {pid})"), None),
            _ => None,
        }
    }

    fn statuses(&self) -> Vec<JobStatus> {
        self.jobs.values().map(Job::status).collect()
    }

    fn save(&self) {
        let jobs = self.jobs.iter().map(|(name, job)| {
            let stored = Stored {
                spec: job.spec.clone(),
                wanted: job.wanted,
                process: job.identity.clone(),
                started_at: job.started_at,
                restarts: job.restarts,
            };
            (name.clone(), stored)
        });
        let store = Store {
            version: VERSION,
            jobs: jobs.collect(),
        };
        if let Err(error) = store.save(&self.paths.store()) {
            // The jobs' pid files still tell a successor what runs.
            let _ = writeln!(io::stderr(), "{error}");
        }
    }
}

impl Job {
    fn new(spec: JobSpec, wanted: bool, restarts: u32) -> Self {
        Self {
            spec,
            wanted,
            state: JobState::Down,
            identity: None,
            started_at: None,
            restarts,
            failures: 0,
            last_end: String::new(),
            generation: 0,
            cancel_probe: Arc::default(),
            pipe: None,
        }
    }

    fn status(&self) -> JobStatus {
        let state = self.state.name(self.failures);
        let detail = match &self.state {
            JobState::Failed { reason, .. } => reason.clone(),
            JobState::Backoff { until } => {
                let seconds = until.saturating_duration_since(monotonic()).as_secs() + 1;
                format!("{}; next try in {seconds}s", self.last_end)
            }
            JobState::Waiting if !self.spec.depends_on.is_empty() => format!("for {}", self.spec.depends_on.join(", ")),
            JobState::Alive {
                phase: Phase::Starting, ..
            } => "not ready yet".to_owned(),
            _ => String::new(),
        };
        let uptime_seconds = match self.state {
            // By the wall clock: the job may be older than this daemon.
            JobState::Alive { .. } => self
                .started_at
                .map(|at| u64::try_from(Clock::System.now().duration_since(at).as_secs()).unwrap_or(0)),
            _ => None,
        };
        JobStatus {
            name: self.spec.name.clone(),
            state,
            detail,
            pid: self.state.pid(),
            uptime_seconds,
            restarts: self.restarts,
            address: self.spec.address.clone(),
            fingerprint: self.spec.fingerprint.clone(),
        }
    }
}

/// Checks that a job will be able to listen; names who is in its way.
fn check_address(spec: &JobSpec) -> Result<(), (String, Option<u16>)> {
    let Some((host, port)) = spec.listen.as_deref().and_then(|listen| listen.rsplit_once(':')) else {
        return Ok(());
    };
    let Ok(port) = port.parse::<u16>() else { return Ok(()) };
    let addresses = sys::net::resolve(host).map_err(|_| (format!("the host name {host} does not resolve"), None))?;
    let Some(address) = addresses.first() else {
        return Ok(());
    };
    match sys::net::try_listen(SocketAddr::new(*address, port)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = sys::net::port_holder(port);
            let by = holder.map_or_else(
                || "another process".to_owned(),
                |holder| format!("{} (process {})", holder.name, holder.pid),
            );
            Err((format!("port {port} is taken by {by}"), Some(port)))
        }
        Err(error) => Err((format!("cannot listen on {host}:{port}: {error}"), None)),
    }
}
