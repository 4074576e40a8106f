//! What tests stand on: a root, a registry, a namespace, waiting.

pub mod driver;
pub mod face;
pub mod image;
pub mod namespace;
pub mod postgres;
pub mod registry;
pub mod root;
pub mod source;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub use face::Face;
pub use registry::TestRegistry;
pub use root::TestRoot;

/// The binary under test.
pub const KDK: &str = env!("CARGO_BIN_EXE_kdk");

/// What a command did.
#[derive(Debug)]
#[must_use]
pub struct Output {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn of(command: &mut Command) -> Self {
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            command: format!("{command:?}"),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Asserts success and returns standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            self.code, 0,
            "{}\nstdout: {}\nstderr: {}",
            self.command, self.stdout, self.stderr
        );
        self.stdout
    }

    /// Asserts an exit code and returns standard error.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(
            self.code, code,
            "{}\nstdout: {}\nstderr: {}",
            self.command, self.stdout, self.stderr
        );
        self.stderr
    }

    /// Asserts failure of any kind and returns both streams.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_ne!(
            self.code, 0,
            "{} succeeded\nstdout: {}\nstderr: {}",
            self.command, self.stdout, self.stderr
        );
        format!("{}{}", self.stdout, self.stderr)
    }

    /// All that it said, for snapshots.
    pub fn shown(&self) -> String {
        format!(
            "exit code: {}\n----- stdout -----\n{}----- stderr -----\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// Waits for a condition with a deadline.
#[track_caller]
pub fn wait<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns a directory for a test, short and fast, removed with the guard.
pub fn temporary() -> tempfile::TempDir {
    let base = if Path::new("/dev/shm").is_dir() {
        "/dev/shm"
    } else {
        "/tmp"
    };
    tempfile::Builder::new()
        .prefix("kdk-")
        .tempdir_in(base)
        .expect("a directory")
}

/// Takes a TCP port out of a range that no system hands out by itself. It
/// stays taken, across test processes too, until this process ends.
pub fn port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
    let directory = PathBuf::from(format!("/tmp/kdk-test-ports-{}", nix::unistd::getuid()));
    std::fs::create_dir_all(&directory).expect("a directory");
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 30_000, "no port is left");
        let file = std::fs::File::create(directory.join(port.to_string())).expect("a lock file");
        if let Ok(lock) = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            let free = std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
            if free {
                // The descriptor stays open on purpose: so does the lock.
                std::mem::forget(lock);
                return port;
            }
        }
    }
}

/// Where `support/bootstrap --peers` put the programs.
pub fn peers() -> PathBuf {
    let peers = std::env::var("KDK_PEERS").expect("KDK_PEERS names the programs: run make test-clients");
    PathBuf::from(peers).join("bin")
}

/// Says whether tests that need special rights and packages may be passed
/// over. In CI they may not.
pub fn may_skip() -> bool {
    std::env::var_os("KDK_REQUIRE_CLIENTS").is_none() && std::env::var_os("CI").is_none()
}

/// Answers every request the same, as a proxy or some service elsewhere does.
pub fn answers(head: &'static str) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
        }
    });
    port
}
