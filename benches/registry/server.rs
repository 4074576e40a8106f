//! A registry under test: kdk's own, or Debian's docker-registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Kdk,
    DockerRegistry,
    /// Another build of kdk.
    Other(&'static str),
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kdk => "kdk",
            Self::DockerRegistry => "docker-registry",
            Self::Other(_) => "the other",
        }
    }

    pub fn command(self, verb: &str) -> Command {
        let mut command = Command::new(self.program());
        if self != Self::DockerRegistry {
            command.arg("registry");
        }
        command.arg(verb);
        command
    }

    pub fn program(self) -> &'static str {
        match self {
            Self::Kdk => env!("CARGO_BIN_EXE_kdk"),
            Self::Other(program) => program,
            Self::DockerRegistry => "docker-registry",
        }
    }
}

pub struct Server {
    child: Child,
    pub address: String,
    pub started_in: Duration,
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

/// Writes a configuration; returns its path.
pub fn configure(directory: &Path, port: u16) -> PathBuf {
    fs::create_dir_all(directory).expect("made");
    let path = directory.join("config.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n    maxthreads: 100\n  cache:\n    blobdescriptor: inmemory\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: benchmark\n",
        directory.join("storage").display()
    );
    fs::write(&path, text).expect("written");
    path
}

impl Server {
    pub fn start(kind: Kind, directory: &Path) -> Self {
        let port = free_port();
        let mut command = kind.command("serve");
        command.arg(configure(directory, port));
        Self::run(kind.name(), &mut command, port)
    }

    /// Starts kdk's front before a server.
    pub fn front(directory: &Path, upstream: &str) -> Self {
        let port = free_port();
        let config = directory.join("front.yml");
        fs::write(&config, format!("listen: 127.0.0.1:{port}\nupstream: {upstream}\n")).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kdk"));
        command.args(["front", "serve"]).arg(config);
        Self::run("the front", &mut command, port)
    }

    fn run(name: &str, command: &mut Command, port: u16) -> Self {
        let address = format!("127.0.0.1:{port}");
        let began = Instant::now();
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error} (install it with: make bootstrap)"));
        loop {
            let ready = Client::connect(&address).and_then(|mut client| client.request("GET", "/v2/", "", b""));
            if ready.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{name} does not start");
            std::thread::sleep(Duration::from_micros(500));
        }
        Self {
            child,
            address,
            started_in: began.elapsed(),
        }
    }

    fn status(&self, key: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.trim().split(' ').next()?.parse::<f64>().ok())
            .unwrap_or(f64::NAN)
            / 1024.0
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// Highest resident memory so far in MiB.
    pub fn peak_memory(&self) -> f64 {
        self.status("VmHWM:")
    }

    /// Seconds of CPU used so far.
    pub fn cpu(&self) -> f64 {
        cpu_of(self.child.id())
    }
}

fn cpu_of(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(f64::NAN)
    };
    // utime and stime, in hundredths of a second (proc(5)).
    (ticks(12) + ticks(13)) / 100.0
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
