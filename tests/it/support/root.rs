//! A KDK root with ports of its own, driven by the real binary.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{KDK, Output, port, temporary, wait};

pub struct TestRoot {
    directory: tempfile::TempDir,
    pub registry_port: u16,
    pub rails_port: u16,
}

impl TestRoot {
    /// Makes an empty root.
    pub fn new() -> Self {
        Self::with("")
    }

    /// Makes a root whose registry is enabled, with more settings.
    pub fn with_registry(more: &str) -> Self {
        let root = Self::with("");
        let (registry, rails) = (root.registry_port, root.rails_port);
        root.write(
            "kdk.yml",
            &format!("port: {rails}\nregistry:\n  enabled: true\n  port: {registry}\n{more}"),
        );
        root
    }

    /// Makes a root with these settings.
    pub fn with(settings: &str) -> Self {
        let root = Self {
            directory: temporary(),
            registry_port: port(),
            rails_port: port(),
        };
        root.write("kdk.yml", settings);
        root
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn join(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Prepares a command in this root, with an environment that is always the same.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(KDK);
        // By its name, as for a user, so that output does not depend on where the tree lies.
        let binary = Path::new(KDK).parent().expect("a directory").display();
        let path = format!("{binary}:{}", std::env::var("PATH").unwrap_or_default());
        let home = self.join("home");
        std::fs::create_dir_all(&home).expect("made");
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .envs([("PATH", path.as_str()), ("LANG", "C.UTF-8"), ("TZ", "UTC")])
            .env("HOME", home);
        command
    }

    pub fn kdk(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// Reconfigures and starts; returns when all is ready.
    #[track_caller]
    pub fn up(&self) {
        self.kdk(&["reconfigure"]).ok();
        self.kdk(&["start"]).ok();
    }

    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let said = self.kdk(&["status", "--json"]);
        // One that is broken is told of by the exit code, too.
        assert!([0, 1].contains(&said.code), "{}", said.stderr);
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.stdout))
    }

    /// Returns what `status` says of one service.
    #[track_caller]
    pub fn service(&self, name: &str) -> serde_json::Value {
        let all = self.status();
        all.as_array()
            .expect("a list")
            .iter()
            .find(|job| job["name"] == name)
            .cloned()
            .unwrap_or_else(|| panic!("{name} is not in {all}"))
    }

    pub fn pid(&self, name: &str) -> i32 {
        i32::try_from(
            self.service(name)["pid"]
                .as_i64()
                .unwrap_or_else(|| panic!("{name} does not run")),
        )
        .expect("small")
    }

    #[track_caller]
    pub fn wait_for_state(&self, name: &str, state: &str) -> serde_json::Value {
        wait(&format!("{name} is {state}"), || {
            Some(self.service(name)).filter(|job| job["state"] == state)
        })
    }

    pub fn registry_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.registry_port)
    }

    pub fn rails_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.rails_port)
    }

    /// Makes a personal access token of the admin.
    #[track_caller]
    pub fn token(&self) -> String {
        let made: serde_json::Value =
            serde_json::from_str(&self.kdk(&["token", "create", "--user", "root", "--json"]).ok()).expect("JSON");
        made["token"].as_str().expect("text").to_owned()
    }

    /// Replaces what differs from run to run.
    pub fn stable(&self, text: &str) -> String {
        let root = self.path().to_str().expect("UTF-8");
        text.replace(root, "$ROOT")
            .replace(&self.registry_port.to_string(), "$REGISTRY_PORT")
            .replace(&self.rails_port.to_string(), "$RAILS_PORT")
            .replace(KDK, "kdk")
    }

    /// Every process whose command line names this root, the daemon's included.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let root = self.path().to_str().expect("UTF-8");
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let cwd = std::fs::read_link(entry.path().join("cwd"))
                .map(|path| path.display().to_string())
                .unwrap_or_default();
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let alive = !line.is_empty();
            if alive && (cwd.starts_with(root) || line.contains(root)) {
                found.push((pid, line));
            }
        }
        found
    }

    /// Returns the daemon's process id.
    pub fn daemon(&self) -> Option<i32> {
        self.processes()
            .into_iter()
            .find(|(_, line)| line.contains(" supervise"))
            .map(|(pid, _)| pid)
    }
}

impl Drop for TestRoot {
    fn drop(&mut self) {
        if self.join(".kdk/supervisor.json").exists() {
            let _ = Output::of(&mut self.command(&["kill", "--yes"]));
        }
        // As root, PostgreSQL's data are elsewhere.
        if let Ok(elsewhere) = std::fs::read_link(self.join("postgresql")) {
            let _ = std::fs::remove_dir_all(&elsewhere);
            let _ = std::fs::remove_file(elsewhere.with_extension("root"));
        }
    }
}
