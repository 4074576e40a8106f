//! The daemon: one loop owns all state; threads wait for processes, probes,
//! names and clients, and tell the loop by messages.

mod connections;
mod home;
mod managed;
mod waiting;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use self::connections::Listening;
use self::home::Home;
use self::managed::{Job, check_address};
use self::waiting::{Goal, Waiter};
use super::job::{self, Found, Running};
use super::protocol::{Envelope, JobSpec, Reply, Request, VERSION};
use super::state::{JobState, Phase, count_failure, pause};
use super::store::Store;
use super::{Paths, client, log, probe};
use crate::sys;
use crate::sys::clock::{Clock, monotonic};
use crate::sys::fs::Lock;
use crate::sys::process::Identity;

/// How often the loop looks whether its socket is still there.
const SOCKET_CHECK: Duration = Duration::from_secs(3);

/// What the loop is told.
enum Message {
    /// A client asks for something; nothing when it is of another version.
    Client(Option<Envelope>, Sender<Reply>),
    /// A job's address was looked at.
    Checked {
        name: String,
        generation: u64,
        outcome: Result<(), (String, Option<u16>)>,
    },
    /// A job is ready.
    Ready { name: String, generation: u64 },
    /// A job's leader has ended.
    LeaderEnded { name: String, generation: u64, how: String },
    /// All of a job has ended.
    Ended { name: String, generation: u64 },
}

struct Daemon {
    paths: Paths,
    build: String,
    jobs: BTreeMap<String, Job>,
    waiters: Vec<Waiter>,
    sender: Sender<Message>,
    listening: Listening,
    ending: bool,
    home: Home,
}

/// Runs the daemon of a root until it is told to end. Returns at once when
/// another one has the lock.
///
/// # Errors
/// When the lock, the socket or the store cannot be used.
pub fn run(paths: Paths) -> io::Result<()> {
    sys::fs::create_private_dir(&paths.state)?;
    sys::fs::create_private_dir(&paths.jobs())?;
    let Some(lock) = Lock::try_take(&paths.lock())? else {
        return Ok(());
    };
    // For systems that do not tell who has a file open.
    lock.file().set_len(0)?;
    lock.file().write_all(std::process::id().to_string().as_bytes())?;
    let (sender, receiver) = mpsc::channel();
    let mut daemon = Daemon {
        build: client::build_id(),
        jobs: BTreeMap::new(),
        waiters: Vec::new(),
        listening: Listening::start(&paths, &sender)?,
        home: Home::of(&paths)?,
        paths,
        sender,
        ending: false,
    };
    daemon.adopt()?;
    daemon.run(&receiver);
    // Nobody may connect to a daemon that will not answer.
    daemon.listening.end(daemon.home.is_lost())?;
    for message in receiver.try_iter() {
        if let Message::Client(_, reply) = message {
            let _ = reply.send(Reply::Outdated);
        }
    }
    // Answers under way go out before the process ends.
    std::thread::sleep(Duration::from_millis(30));
    Ok(())
}

impl Daemon {
    fn run(&mut self, receiver: &Receiver<Message>) {
        while !self.ending {
            if let Some(stop) = self.home.look(&self.build) {
                self.serve(Some(stop), mpsc::channel().0);
            }
            let due = self.next_deadline().map(|at| at.saturating_duration_since(monotonic()));
            match receiver.recv_timeout(due.unwrap_or(SOCKET_CHECK).min(SOCKET_CHECK)) {
                Ok(message) => self.take(message),
                Err(_) if !self.home.is_there() => {}
                Err(_) => self.listening.renew(&self.paths, &self.sender),
            }
            self.advance();
            self.answer_waiters();
            self.ending |= self.home.is_lost() && !self.jobs.values().any(Job::has_process);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Client(envelope, reply) => self.serve(envelope, reply),
            Message::Checked {
                name,
                generation,
                outcome,
            } => {
                if self
                    .jobs
                    .get(&name)
                    .is_some_and(|job| job.generation == generation && job.state == JobState::Checking)
                {
                    match outcome {
                        Ok(()) => self.start(&name),
                        Err((reason, port)) => self.fail(&name, reason, port),
                    }
                }
            }
            Message::Ready { name, generation } => {
                if let Some(job) = self.current(&name, generation)
                    && let JobState::Alive {
                        phase: phase @ Phase::Starting,
                        ..
                    } = &mut job.state
                {
                    *phase = Phase::Ready;
                }
            }
            Message::LeaderEnded { name, generation, how } => {
                if let Some(job) = self.current(&name, generation)
                    && let JobState::Alive { phase, .. } = &mut job.state
                {
                    job.last_end = how;
                    job.leader_gone = true;
                    if matches!(phase, Phase::Starting | Phase::Ready) {
                        *phase = Phase::Ending;
                    }
                }
            }
            Message::Ended { name, generation } => self.ended(&name, generation),
        }
    }

    fn current(&mut self, name: &str, generation: u64) -> Option<&mut Job> {
        self.jobs.get_mut(name).filter(|job| job.generation == generation)
    }

    fn serve(&mut self, envelope: Option<Envelope>, reply: Sender<Reply>) {
        let envelope = envelope.filter(|envelope| envelope.version == VERSION && envelope.build == self.build);
        let Some(envelope) = envelope else {
            self.save();
            self.ending = true;
            let _ = reply.send(Reply::Outdated);
            return;
        };
        match envelope.request {
            Request::HandOver => {
                self.save();
                self.ending = true;
                let _ = reply.send(self.done());
            }
            Request::Status => drop(reply.send(self.done())),
            Request::Start { jobs, wait_seconds } => {
                let names = jobs.iter().map(|spec| spec.name.clone()).collect();
                jobs.into_iter().for_each(|spec| self.want(spec));
                self.save();
                self.waiters
                    .push(Waiter::new(Goal::Up, names, Duration::from_secs(wait_seconds), reply));
            }
            Request::Restart { jobs, wait_seconds } => {
                let mut limit = Duration::from_secs(wait_seconds);
                let names: Vec<String> = jobs.iter().map(|spec| spec.name.clone()).collect();
                for spec in jobs {
                    let name = spec.name.clone();
                    self.want(spec);
                    let Some(job) = self.jobs.get_mut(&name) else { continue };
                    limit += job.stop();
                    job.restarts = 0;
                }
                self.save();
                self.waiters.push(Waiter::new(Goal::Up, names, limit, reply));
            }
            Request::Stop { names, kill } => {
                let names = names.unwrap_or_else(|| self.jobs.keys().cloned().collect());
                let mut limit = Duration::ZERO;
                for name in &names {
                    let Some(job) = self.jobs.get_mut(name) else { continue };
                    job.wanted = false;
                    limit += Duration::from_secs(job.spec.stop.grace_seconds);
                    match (&mut job.state, kill) {
                        (JobState::Alive { pid, phase, .. }, true) => {
                            sys::process::signal_group(*pid, Signal::SIGKILL);
                            *phase = Phase::Stopping { kill_at: None };
                        }
                        (JobState::Alive { .. } | JobState::Down, _) => {}
                        _ => job.state = JobState::Down,
                    }
                }
                self.save();
                self.waiters
                    .push(Waiter::new(Goal::Down, names, limit + waiting::MARGIN, reply));
            }
        }
    }

    /// Takes over what an earlier daemon left.
    fn adopt(&mut self) -> io::Result<()> {
        let store = Store::load(&self.paths.store())?.of_root(&self.paths);
        let same_boot = store.boot == sys::process::boot_id();
        for (name, stored) in store.jobs {
            let found = job::find(&self.paths.jobs(), &name, stored.process.as_ref())?;
            // What ran before the machine was started anew is not started by itself.
            let mut job = Job::new(stored.spec, stored.wanted && same_boot, stored.restarts);
            job.started_at = stored.started_at;
            job.running = stored.running;
            let ran = job.as_running().clone();
            self.jobs.insert(name.clone(), job);
            match found {
                Found::Leader(identity) => self.take_over(&name, identity),
                found => {
                    if let Found::Leftovers(group) = found {
                        job::end_processes(group, &job::pid_file(&self.paths.jobs(), &name));
                    }
                    job::end_remains(&ran);
                    self.lost(&name);
                }
            }
        }
        // Jobs that run and are not in the store: it was lost, or a daemon was
        // killed before it wrote. They go on as what the system says they are.
        for name in job::names(&self.paths.jobs()) {
            if self.jobs.contains_key(&name) {
                continue;
            }
            match job::find(&self.paths.jobs(), &name, None)? {
                Found::Leader(identity) => match managed::reconstruct(&name, identity.pid) {
                    Some(spec) => {
                        self.jobs.insert(name.clone(), Job::new(spec, true, 0));
                        self.take_over(&name, identity);
                    }
                    None => job::end_processes(identity.pid, &job::pid_file(&self.paths.jobs(), &name)),
                },
                Found::Leftovers(group) => job::end_processes(group, &job::pid_file(&self.paths.jobs(), &name)),
                Found::Nothing => {}
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
        job.state = JobState::Alive {
            pid: identity.pid,
            since: monotonic(),
            phase: Phase::Starting,
        };
        self.watch(name, Running::Adopted(identity));
    }

    /// A job that should run and ended while nobody looked.
    fn lost(&mut self, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        if job.wanted {
            "ended while no supervisor ran".clone_into(&mut job.last_end);
            job.failures = 1;
            job.state = JobState::Backoff {
                until: monotonic() + pause(1),
            };
        }
    }

    fn want(&mut self, spec: JobSpec) {
        let name = spec.name.clone();
        let job = self.jobs.entry(name).or_insert_with(|| Job::new(spec.clone(), true, 0));
        job.ask(spec);
    }

    fn ended(&mut self, name: &str, generation: u64) {
        let Some(job) = self.current(name, generation) else {
            return;
        };
        let JobState::Alive { since, phase, .. } = job.state else {
            return;
        };
        job.cancel_probe();
        job.identity = None;
        job.running = None;
        let asked = matches!(phase, Phase::Stopping { .. });
        job.state = match (job.wanted, asked) {
            (false, _) => JobState::Down,
            // It is being restarted.
            (true, true) => JobState::Waiting,
            (true, false) => {
                job.failures = count_failure(job.failures, since.elapsed());
                let pause = pause(job.failures);
                job.note(&format!("{}; started again in {}s", job.last_end, pause.as_secs()));
                JobState::Backoff {
                    until: monotonic() + pause,
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
                JobState::Backoff { until } if *until <= now => {
                    job.restarts += 1;
                    job.state = JobState::Waiting;
                }
                JobState::Failed { until, .. } if job.wanted && *until <= now => job.state = JobState::Waiting,
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
        startable.iter().for_each(|name| self.check(name));
        let stoppable: Vec<String> = self
            .jobs
            .iter()
            .filter(|(name, job)| job.is_running() && !job.wanted && self.may_stop(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in stoppable {
            if let Some(job) = self.jobs.get_mut(&name) {
                job.stop();
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

    /// Looks at a job's address in a thread: names may take long to resolve.
    fn check(&mut self, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        job.state = JobState::Checking;
        job.generation += 1;
        let (spec, generation, sender, name) = (job.spec.clone(), job.generation, self.sender.clone(), name.to_owned());
        std::thread::spawn(move || {
            let outcome = check_address(&spec);
            let _ = sender.send(Message::Checked {
                name,
                generation,
                outcome,
            });
        });
    }

    fn fail(&mut self, name: &str, reason: String, port_taken: Option<u16>) {
        let pipe = self.pipe(name).ok();
        let Some(job) = self.jobs.get_mut(name) else { return };
        job.pipe = pipe;
        job.failures = job.failures.saturating_add(1);
        let pause = pause(job.failures);
        job.note(&format!("not started: {reason}; next try in {}s", pause.as_secs()));
        job.state = JobState::Failed {
            reason,
            port_taken,
            until: monotonic() + pause,
        };
    }

    fn start(&mut self, name: &str) {
        let jobs = self.paths.jobs();
        let pipe = self.pipe(name);
        let Some(job) = self.jobs.get_mut(name) else { return };
        let output = pipe.and_then(|pipe| {
            job.pipe = Some(pipe);
            log::writer(&self.paths.pipe(name))
        });
        match output.and_then(|output| job::start(&job.spec, &jobs, output)) {
            Err(error) => self.fail(name, error.to_string(), None),
            Ok(None) => match job::find(&jobs, name, None) {
                // Somebody started it meanwhile, which only an earlier daemon can have.
                Ok(Found::Leader(identity)) => self.take_over(name, identity),
                found => {
                    let group = found.map_or(0, |found| found.group());
                    job.state = JobState::Backoff {
                        until: monotonic() + pause(1),
                    };
                    let file = job::pid_file(&jobs, name);
                    std::thread::spawn(move || job::end_processes(group, &file));
                }
            },
            Ok(Some(child)) => {
                let running = Running::Child(child);
                job.identity = Identity::of(running.pid());
                job.started_at = Some(Clock::System.now());
                job.running = Some(job.spec.clone());
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
        job.leader_gone = false;
        let cancelled = job.new_probe();
        let generation = job.generation;
        let ran = job.as_running().clone();
        let ready = ran.ready.clone();
        let (sender, probed) = (self.sender.clone(), name.to_owned());
        std::thread::spawn(move || {
            if probe::until_ready(&ready, &cancelled) {
                let _ = sender.send(Message::Ready {
                    name: probed,
                    generation,
                });
            }
        });
        let (sender, name) = (self.sender.clone(), name.to_owned());
        let file = job::pid_file(&self.paths.jobs(), &name);
        std::thread::spawn(move || {
            let group = running.pid();
            let how = running.wait();
            let _ = sender.send(Message::LeaderEnded {
                name: name.clone(),
                generation,
                how,
            });
            job::clean_up(group, &file, &ran);
            let _ = sender.send(Message::Ended { name, generation });
        });
    }

    /// Returns the pipe that a job writes to; the first time, its log is started.
    fn pipe(&self, name: &str) -> io::Result<File> {
        if let Some(pipe) = self.jobs.get(name).and_then(|job| job.pipe.as_ref()) {
            return pipe.try_clone();
        }
        let pipe = log::open_pipe(&self.paths.pipe(name))?;
        log::copy(pipe.try_clone()?, self.paths.log(name), self.paths.log_limits());
        Ok(pipe)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let jobs = self.jobs.values().filter_map(|job| match job.state {
            JobState::Backoff { until } => Some(until),
            JobState::Failed { until, .. } if job.wanted => Some(until),
            JobState::Alive {
                phase: Phase::Stopping { kill_at },
                ..
            } => kill_at,
            _ => None,
        });
        jobs.chain(self.waiters.iter().map(|waiter| waiter.deadline)).min()
    }

    fn done(&self) -> Reply {
        Reply::Done {
            jobs: self.jobs.values().map(Job::status).collect(),
            failures: Vec::new(),
        }
    }

    fn save(&self) {
        let jobs = self.jobs.iter().map(|(name, job)| (name.clone(), job.stored()));
        let store = Store {
            version: VERSION,
            boot: sys::process::boot_id(),
            jobs: jobs.collect(),
        };
        if !self.home.is_lost()
            && let Err(error) = store.save(&self.paths.store())
        {
            // The jobs' pid files still tell a successor what runs.
            let _ = writeln!(io::stderr(), "{error}");
        }
    }
}
