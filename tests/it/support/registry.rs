//! The real registry server on a free port.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder, Response};

use super::postgres::TestPostgres;
use super::{Face, KDK, Output, TestRoot, temporary};

/// The log of a server.
struct Lines {
    passed: VecDeque<String>,
    coming: mpsc::Receiver<String>,
}

impl Lines {
    #[track_caller]
    fn next(&mut self) -> String {
        self.passed.pop_front().unwrap_or_else(|| {
            let coming = self.coming.recv_timeout(Duration::from_secs(20));
            coming.expect("the line comes")
        })
    }
}

pub struct TestRegistry {
    child: Child,
    pub directory: tempfile::TempDir,
    pub address: String,
    pub client: Client,
    lines: std::sync::Mutex<Lines>,
    face: Face,
    /// The database that goes with it.
    database: Option<String>,
}

impl TestRegistry {
    /// Starts a registry with deletion enabled.
    pub fn start() -> Self {
        Self::with(temporary(), "", &[])
    }

    /// Starts a registry on a directory, with more configuration and environment.
    pub fn with(directory: tempfile::TempDir, more: &str, env: &[(&str, &str)]) -> Self {
        Self::on_face(Face::Files, directory, more, env)
    }

    /// The same, on one of the faces.
    pub fn on_face(face: Face, directory: tempfile::TempDir, more: &str, env: &[(&str, &str)]) -> Self {
        let config = directory.path().join("config.yml");
        let database = face.database(directory.path());
        let section = database
            .as_deref()
            .map_or_else(String::new, |name| TestPostgres::shared().section(name, true));
        let end = if more.is_empty() || more.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        let text = format!(
            "version: 0.1\nstorage:\n{}  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n{more}{end}{section}",
            face.storage(directory.path())
        );
        std::fs::write(&config, text).expect("written");
        let mut registry = Self::on(directory, &config, env);
        registry.face = face;
        registry.database = database;
        registry
    }

    /// Starts a registry on a configuration file.
    pub fn on(directory: tempfile::TempDir, config: &std::path::Path, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(KDK);
        command
            .args(["registry", "serve"])
            .arg(config)
            .env_clear()
            .envs(std::env::var("KDK_FAILPOINTS").map(|v| ("KDK_FAILPOINTS", v)))
            .envs(env.iter().copied());
        Self::of(command, directory)
    }

    /// The same, from a shell that does something first.
    pub fn under(first: &str, directory: tempfile::TempDir, config: &std::path::Path) -> Self {
        let mut command = Command::new("sh");
        let script = format!("{first}; exec \"$0\" registry serve \"$1\"");
        command.args(["-c", &script, KDK]).arg(config);
        Self::of(command, directory)
    }

    /// Talks to the registry of a root, which runs already.
    pub fn in_root(root: &TestRoot) -> Self {
        let mut command = Command::new("tail");
        command.args(["-n", "+1", "-F"]).arg(root.join("log/registry/current"));
        Self::of(command, temporary())
    }

    /// Runs what writes a registry's log.
    fn of(mut command: Command, directory: tempfile::TempDir) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("started");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // In a root, there is a stamp before each.
            let lines = output.lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line.find('{').map_or("", |at| &line[at..]).to_owned())));
        });
        let mut registry = Self {
            child,
            directory,
            address: String::new(),
            client: Client::new(),
            lines: std::sync::Mutex::new(Lines {
                passed: VecDeque::new(),
                coming: lines,
            }),
            face: Face::Files,
            database: None,
        };
        let mut passed = VecDeque::new();
        registry.address = registry
            .wait_for_line(|line| {
                passed.push_back(line.to_string());
                line["msg"]
                    .as_str()
                    .and_then(|text| text.strip_prefix("listening on ").map(str::to_owned))
            })
            .split(',')
            .next()
            .expect("an address")
            .to_owned();
        // What is said beside the start may come before the address: who waits for it still finds it.
        registry.lines.get_mut().expect("not poisoned").passed = passed;
        registry
    }

    /// Starts Debian's docker-registry on a configuration file.
    pub fn docker(directory: tempfile::TempDir, config: &std::path::Path) -> Self {
        Self::rival("docker-registry".as_ref(), directory, config)
    }

    /// Starts another registry on a configuration file.
    pub fn rival(program: &std::path::Path, directory: tempfile::TempDir, config: &std::path::Path) -> Self {
        let text = std::fs::read_to_string(config).expect("read");
        let address = text
            .lines()
            .find_map(|line| Some(line.trim().strip_prefix("addr: ")?.trim_matches('"')))
            .expect("an address")
            .to_owned();
        let child = Command::new(program)
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let registry = Self {
            child,
            directory,
            address,
            client: Client::new(),
            lines: std::sync::Mutex::new(Lines {
                passed: VecDeque::new(),
                coming: mpsc::channel().1,
            }),
            face: Face::Files,
            database: None,
        };
        super::wait("the other registry answers", || {
            registry
                .request("GET", "/v2/")
                .send()
                .ok()
                .filter(|answer| [200, 401].contains(&answer.status().as_u16()))
        });
        registry
    }

    /// Waits for a log line from which `pick` picks something.
    #[track_caller]
    pub fn wait_for_line<T>(&self, mut pick: impl FnMut(&serde_json::Value) -> Option<T>) -> T {
        let began = std::time::Instant::now();
        loop {
            assert!(began.elapsed() < Duration::from_mins(1), "the line does not come");
            let line = self.lines.lock().expect("not poisoned").next();
            let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            if let Some(found) = pick(&line) {
                return found;
            }
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            self.url(path)
        };
        self.client
            .request(Method::from_bytes(method.as_bytes()).expect("a method"), url)
    }

    pub fn send(&self, method: &str, path: &str) -> Response {
        self.request(method, path).send().expect("answered")
    }

    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path)
    }

    /// Pushes a blob as docker does and returns its digest.
    #[track_caller]
    pub fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = digest(content);
        let started = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"));
        assert_eq!(started.status(), 202);
        let location = header(&started, "location");
        let patched = self
            .request("PATCH", &location)
            .body(content.to_vec())
            .send()
            .expect("answered");
        assert_eq!(patched.status(), 202);
        let location = header(&patched, "location");
        let done = self.send("PUT", &format!("{location}&digest={digest}"));
        assert_eq!(done.status(), 201);
        digest
    }

    /// Pushes an image with one layer and returns its manifest's bytes and digest.
    #[track_caller]
    pub fn push_image(&self, repository: &str, tag: &str, seed: &str) -> (Vec<u8>, String) {
        let (manifest, answer) = self.try_image(repository, tag, seed);
        assert_eq!(answer.status(), 201, "{:?}", answer.text());
        let digest = digest(&manifest);
        (manifest, digest)
    }

    /// Pushes an image; returns its manifest and what was answered to it.
    pub fn try_image(&self, repository: &str, tag: &str, seed: &str) -> (Vec<u8>, Response) {
        let config = self.push_blob(repository, format!("{{\"seed\":\"{seed}\"}}").as_bytes());
        let layer_content = format!("layer {seed}");
        let layer = self.push_blob(repository, layer_content.as_bytes());
        // Odd white space on purpose: the bytes must come back as they went.
        let manifest = format!(
            "{{ \"schemaVersion\":2,\n\t\"mediaType\":\"{OCI_MANIFEST}\",\"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{config}\",\"size\":{}}},\"layers\":[{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"{layer}\",\"size\":{}}}] }}\n",
            seed.len() + 11,
            layer_content.len()
        );
        let answer = self.put_manifest(repository, tag, OCI_MANIFEST, manifest.as_bytes());
        (manifest.into_bytes(), answer)
    }

    pub fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, content: &[u8]) -> Response {
        let request = self.request("PUT", &format!("/v2/{repository}/manifests/{reference}"));
        request
            .header("content-type", media_type)
            .body(content.to_vec())
            .send()
            .expect("answered")
    }

    /// Runs a verb of `kdk registry` on its configuration.
    pub fn verb(&self, arguments: &[&str]) -> Output {
        let config = self.directory.path().join("config.yml");
        Output::of(Command::new(KDK).arg("registry").args(arguments).arg(config))
    }

    /// Kills the server; its directory stays.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    /// Starts another server on the storage of one that has ended.
    pub fn again(mut self, more: &str, env: &[(&str, &str)]) -> Self {
        let directory = std::mem::replace(&mut self.directory, temporary());
        self.database = None;
        Self::on_face(self.face, directory, more, env)
    }

    /// Kills the server and starts another on the same storage.
    pub fn kill_and_restart(mut self) -> Self {
        self.kill();
        self.again("", &[])
    }

    /// Stops the server; its directory stays.
    pub fn stop(&mut self) {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.pid()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .expect("sent");
        self.child.wait().expect("reaped");
    }

    /// Starts another server with the configuration of one that was stopped.
    pub fn restart_with_own_configuration(mut self) -> Self {
        let directory = std::mem::replace(&mut self.directory, temporary());
        let config = directory.path().join("config.yml");
        Self::on(directory, &config, &[])
    }

    /// Starts another server on the directory of one that was stopped.
    pub fn restart(self) -> Self {
        self.again("", &[])
    }

    /// Returns the database that goes with it.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("small")
    }

    /// Waits until the server has ended; returns its exit code.
    pub fn wait_end(&mut self) -> Option<i32> {
        self.child.wait().expect("reaped").code()
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(database) = &self.database {
            TestPostgres::shared().forget(database);
        }
    }
}

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub fn digest(content: &[u8]) -> String {
    kdk::registry::oci::Digest::of(kdk::registry::oci::Algorithm::Sha256, content).to_string()
}

#[track_caller]
pub fn header(response: &Response, name: &str) -> String {
    let value = response
        .headers()
        .get(name)
        .unwrap_or_else(|| panic!("{name} is missing: {response:?}"));
    value.to_str().expect("text").to_owned()
}

/// Asserts an error answer: status and code.
#[track_caller]
pub fn assert_error(response: Response, status: u16, code: &str) -> serde_json::Value {
    let got = response.status();
    let body: serde_json::Value = response.json().expect("JSON");
    assert_eq!(
        (got.as_u16(), body["errors"][0]["code"].as_str()),
        (status, Some(code)),
        "{body}"
    );
    body
}
