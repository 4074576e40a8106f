//! A small machine of its own: network, mounts, processes, hosts file.
//!
//! Docker trusts 127.0.0.0/8 without a certificate, so whether it trusts the
//! registry's can only be seen on another address. Here it is one that exists
//! in the namespace alone, with `/etc/docker` and the hosts file of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{KDK, Output, may_skip, wait};

/// Address that exists in the namespace alone (RFC 5737, TEST-NET-2).
pub const ADDRESS: &str = "198.51.100.10";

const INIT: &str = r#"set -e
mount --make-rprivate /
ip link set lo up
ip addr add "$2/32" dev lo
mount --bind "$1/etc" /etc
for directory in /run /dev/shm /var/lib /var/tmp; do
  mount -t tmpfs -o mode=1777 tmpfs "$directory"
done
echo ready > "$1/ready"
# This shell stays the first process and reaps.
sleep infinity & wait
"#;

pub struct Namespace {
    directory: tempfile::TempDir,
    outer: Child,
    inner: i32,
}

impl Namespace {
    /// Makes a namespace in which `kdk.test` and `registry.test` are at `address`.
    ///
    /// Nothing when rights are missing and that may be so.
    pub fn new(address: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(may_skip(), "tests with real clients need root");
            eprintln!("passed over: tests with real clients need root");
            return None;
        }
        // Short: the path of containerd's socket is below it.
        let directory = tempfile::Builder::new()
            .prefix("k")
            .tempdir_in("/tmp")
            .expect("a directory");
        let top = directory.path();
        for name in ["home", "tmp", "xdg"] {
            std::fs::create_dir(top.join(name)).expect("made");
        }
        Output::of(Command::new("cp").args(["-a", "/etc"]).arg(top.join("etc"))).ok();
        for name in ["docker", "containers"] {
            let _ = std::fs::remove_dir_all(top.join("etc").join(name));
            std::fs::create_dir(top.join("etc").join(name)).expect("made");
        }
        let write = |name: &str, text: &str| std::fs::write(top.join(name), text).expect("written");
        write(
            "etc/hosts",
            &format!("127.0.0.1 localhost\n{address} kdk.test registry.test\n"),
        );
        write(
            "etc/containers/policy.json",
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        );
        write("etc/containers/registries.conf", "unqualified-search-registries = []\n");
        write("auth.json", "{}");
        write("init.sh", INIT);
        let outer = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--ipc",
                "--fork",
                "--kill-child=KILL",
                "--mount-proc",
                "sh",
            ])
            .arg(top.join("init.sh"))
            .arg(top)
            .arg(ADDRESS)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare runs");
        let ready = top.join("ready");
        wait("the namespace is up", || ready.exists().then_some(()));
        let outer_pid = outer.id().to_string();
        let inner = wait("the namespace has a first process", || {
            std::fs::read_to_string(format!("/proc/{outer_pid}/task/{outer_pid}/children"))
                .ok()?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        Some(Self {
            directory,
            outer,
            inner,
        })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Prepares a program in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let top = self.path().display();
        let binary = Path::new(KDK).parent().expect("a directory").display();
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.inner.to_string(), "-n", "-m", "-p", "-i", "env", "-i"])
            .arg(format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin:{binary}"))
            .arg(format!("HOME={top}/home"))
            .arg(format!("TMPDIR={top}/tmp"))
            .arg(format!("XDG_RUNTIME_DIR={top}/xdg"))
            .arg(format!("DOCKER_HOST=unix://{top}/d.sock"))
            .arg("LANG=C.UTF-8")
            .arg(program);
        command
    }

    /// Runs a shell script in a directory below the namespace's own.
    pub fn sh(&self, directory: &str, script: &str) -> Output {
        let mut command = self.command("bash");
        let directory = self.join(directory);
        std::fs::create_dir_all(&directory).expect("made");
        command.args(["-c", &format!("set -e; cd '{}'; {script}", directory.display())]);
        Output::of(&mut command)
    }

    /// Starts a real Docker Engine, with a configuration when one is given.
    pub fn start_docker(&self, daemon_json: &str) {
        std::fs::write(self.join("etc/docker/daemon.json"), daemon_json).expect("written");
        let top = self.path().display().to_string();
        let log = std::fs::File::create(self.join("dockerd.log")).expect("made");
        let mut command = self.command("dockerd");
        command
            .args([
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
                "--storage-driver=vfs",
            ])
            .args(["--data-root", &format!("{top}/dd"), "--exec-root", &format!("{top}/dx")])
            .args(["-p", &format!("{top}/d.pid"), "-H", &format!("unix://{top}/d.sock")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("cloned"))
            .stderr(log);
        command.spawn().expect("dockerd runs");
        wait("the Docker Engine answers", || {
            (self.sh("", "docker version").code == 0).then_some(())
        });
    }

    /// Says what `/etc/docker` holds for a registry.
    pub fn docker_certificate(&self, address: &str) -> PathBuf {
        self.join("etc/docker/certs.d").join(address).join("ca.crt")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        // The kernel ends all processes of the namespace with its first.
        let inner = PathBuf::from(format!("/proc/{}", self.inner));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while inner.exists() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
