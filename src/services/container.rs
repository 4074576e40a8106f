//! A registry image, run by docker or podman (`registry.image`).
//!
//! It reads the same rendered file as any other registry, and has what that
//! names at the same paths: the storage, certificates, the database's socket.

use std::io::Read as _;
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::environment::registry_env;
use super::unready::Unready;
use crate::config::Config;
use crate::root::Root;
use crate::sys;
use crate::sys::fs::{PUBLIC, read_optional, write_atomic};

/// Engines, in the order in which they are looked for.
const ENGINES: [&str; 2] = ["docker", "podman"];
/// Label by which a container tells whose it is.
const LABEL: &str = "com.khulnasoft.kdk.root";
/// Sockets of Docker that tell that it is meant.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];
/// How long an engine may take to say what it knows.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a program that tell whether it is a script around another.
const SCRIPT: u64 = 4096;
/// How long it may take to get an image.
const PULL: Duration = Duration::from_mins(30);
/// Variables by which a shell says which engine it means, and how, or by which
/// the engine's program finds its own things.
const VARIABLES: [&str; 13] = [
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINER_CONNECTION",
    "CONTAINER_HOST",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "SSH_AUTH_SOCK",
    "STORAGE_DRIVER",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
];

/// Returns what the engine's program must have in its environment, too.
pub fn environment() -> Vec<(String, String)> {
    let given = |name: &&str| Some(((*name).to_owned(), sys::env::var(name)?));
    VARIABLES.iter().filter_map(given).collect()
}

/// Says whether the engine's program goes by a variable itself: the image's is
/// then another one.
pub fn is_of_engine(name: &str) -> bool {
    VARIABLES.contains(&name) || ["HOME", "PATH", "TMPDIR", "USER", "XDG_RUNTIME_DIR"].contains(&name)
}

/// Returns the engine that runs the image: the one that is asked for, else
/// docker where its engine seems to be there, else podman.
pub fn engine(config: &Config) -> Option<&'static str> {
    let is_here = |name: &&&str| sys::process::find_program(name).is_some();
    if let Some(asked) = ENGINES.iter().find(|name| **name == config.registry_engine()) {
        return Some(*asked).filter(|name| is_here(&name));
    }
    let mut here = ENGINES.iter().filter(is_here);
    let first = here.next()?;
    let has_docker = sys::env::var("DOCKER_HOST").is_some()
        || SOCKETS.iter().any(|path| Utf8Path::new(path).exists())
        || sys::env::home().is_some_and(|home| home.join(".docker/run/docker.sock").exists());
    Some(if has_docker {
        first
    } else {
        here.next().unwrap_or(first)
    })
}

/// Says whether a program is podman, which some systems call docker, too.
fn is_podman(program: &str) -> bool {
    let path = sys::process::find_program(program).unwrap_or_else(|| program.into());
    let path = path.canonicalize_utf8().unwrap_or(path);
    if path.file_name() == Some("podman") {
        return true;
    }
    let mut start = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(SCRIPT).read_to_end(&mut start));
    read.is_ok() && start.starts_with(b"#!") && String::from_utf8_lossy(&start).contains("podman")
}

/// Says whether docker's engine is one without root's rights: its containers
/// have a network and users of their own.
fn is_rootless_docker() -> bool {
    let host = sys::env::var("DOCKER_HOST").unwrap_or_default();
    host.starts_with("unix:///run/user/") && !host.contains("podman")
}

/// Returns the name of a root's container.
pub fn name(root: &Root) -> String {
    format!("kdk-registry-{}", root.hash())
}

/// Returns the command that runs the image, up to and with its name, for one
/// run or as the root's registry.
pub fn command(config: &Config, image: &str, is_service: bool) -> Vec<String> {
    let root = config.root();
    let program = engine(config).unwrap_or(ENGINES[0]);
    let mut argv: Vec<String> = [program, "run", "--rm", "--pull", "never", "--log-driver", "none"]
        .map(str::to_owned)
        .to_vec();
    if is_service {
        argv.extend(["--name".to_owned(), name(root)]);
        argv.extend(["--label".to_owned(), format!("{LABEL}={}", root.path())]);
    }
    let (user, group) = ids(config);
    argv.extend(["--user".to_owned(), format!("{user}:{group}")]);
    if sys::process::user_id() != 0 && is_podman(program) {
        // Else the caller's files would belong to somebody unknown in there.
        argv.push("--userns=keep-id".to_owned());
    }
    if sys::net::CONTAINERS_SHARE_NETWORK {
        argv.extend(["--network", "host"].map(str::to_owned));
    } else if is_service {
        let (host, port) = published(config);
        argv.extend(["--publish".to_owned(), format!("{host}:{port}:{port}")]);
    }
    // Where SELinux is on, it would keep the container from the root's files.
    argv.extend(["--security-opt", "label=disable"].map(str::to_owned));
    for (path, is_writable) in mounts(config) {
        // What is not made yet is no hindrance to a question.
        if is_service || path.exists() {
            argv.extend(["--mount".to_owned(), mount(&path, is_writable)]);
        }
    }
    for (name, value) in registry_env(config) {
        // By its name: a command line can be read by everybody.
        let value = if is_of_engine(&name) {
            format!("{name}={value}")
        } else {
            name
        };
        argv.extend(["--env".to_owned(), value]);
    }
    for (name, is_set) in [
        ("SSL_CERT_FILE", config.registry_needs_bundle()),
        ("OTEL_TRACES_EXPORTER", true),
    ] {
        if is_set && !config.registry_env().contains_key(name) {
            argv.extend(["--env", name].map(str::to_owned));
        }
    }
    argv.push(image.to_owned());
    argv
}

/// Returns as whom it runs: as the caller, unless told otherwise.
pub fn ids(config: &Config) -> (u64, u64) {
    let (user, group) = sys::running::ids();
    (
        config.registry_uid().unwrap_or(user),
        config.registry_gid().unwrap_or(group),
    )
}

/// Gives what it reads and writes to whom it runs as, where that is somebody
/// else; only root can.
///
/// # Errors
/// Those of the file system.
pub fn give_files(config: &Config) -> std::io::Result<()> {
    let (user, group) = ids(config);
    let is_own = (user, group) == sys::running::ids();
    if !config.runs_registry() || config.registry_image().is_none() || is_own || sys::process::user_id() != 0 {
        return Ok(());
    }
    let (Ok(user), Ok(group)) = (u32::try_from(user), u32::try_from(group)) else {
        return Ok(());
    };
    let root = config.root();
    sys::running::give(&root.registry_config(), user, group)?;
    if config.registry_self_signed() && !config.registry_has_front() {
        sys::running::give(&root.registry_pair().1, user, group)?;
    }
    let Some(storage) = config.registry_storage_path() else {
        return Ok(());
    };
    // Beside what is a registry's others may have theirs in there.
    let storage = storage.canonicalize_utf8().unwrap_or(storage);
    std::os::unix::fs::chown(&storage, Some(user), Some(group))?;
    for name in ["docker", ".kdk"] {
        let path = storage.join(name);
        if path.is_dir() {
            sys::running::give(&path, user, group)?;
        }
    }
    Ok(())
}

/// Returns where the image's registry is reached where containers have a network of their own.
fn published(config: &Config) -> (String, u16) {
    if config.registry_has_front() {
        ("127.0.0.1".to_owned(), config.registry_backend_port())
    } else {
        (config.registry_listen_address(), config.registry_port())
    }
}

/// Writes a mount; the engine reads it as a line of CSV.
fn mount(path: &Utf8Path, is_writable: bool) -> String {
    let field = |name: &str| {
        let text = format!("{name}={path}");
        if text.contains([',', '"']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text
        }
    };
    let mode = if is_writable { "" } else { ",readonly" };
    format!("type=bind,{},{}{mode}", field("source"), field("target"))
}

/// Returns what is in the container at its own path, and whether it may be written.
fn mounts(config: &Config) -> Vec<(Utf8PathBuf, bool)> {
    let root = config.root();
    let mut all = vec![(root.registry_config(), false)];
    all.extend(config.registry_storage_path().map(|path| (path, true)));
    if config.registry_self_signed() && !config.registry_has_front() {
        let (certificate, key) = root.registry_pair();
        all.extend([(certificate, false), (key, false)]);
    }
    if config.registry_auth_enabled() {
        all.push((config.path(&config.registry_rootcertbundle()), false));
    }
    if config.registry_needs_bundle() {
        all.push((root.service_bundle(), false));
    }
    let database = config.registry_database_host();
    if config.registry_database_enabled() != "false" && database.starts_with('/') {
        all.push((database.into(), true));
    }
    // Files that the user's own part of the configuration names: keys, passwords.
    let mut named = Vec::new();
    files(&Value::Object(config.registry_config()), &mut named);
    files(
        &Value::Object(config.registry_storage().unwrap_or_default()),
        &mut named,
    );
    all.extend(named.into_iter().map(|path| (path, false)));
    let mut unique: Vec<(Utf8PathBuf, bool)> = Vec::new();
    for (path, is_writable) in all {
        if unique.iter().all(|(known, _)| *known != path) {
            unique.push((path, is_writable));
        }
    }
    unique
}

/// Gathers the files that a configuration names by absolute paths.
fn files(tree: &Value, found: &mut Vec<Utf8PathBuf>) {
    match tree {
        Value::String(text) if text.starts_with('/') && Utf8Path::new(text).is_file() => found.push(text.into()),
        Value::Array(list) => list.iter().for_each(|item| files(item, found)),
        Value::Object(map) => map.values().for_each(|item| files(item, found)),
        _ => {}
    }
}

/// Checks that the image is there to be run.
///
/// # Errors
/// When there is no engine, it does not answer, or does not have the image.
pub fn check(config: &Config, image: &str) -> Result<(), Unready> {
    id(config, image).map(drop)
}

/// Returns the id of an image.
fn id(config: &Config, image: &str) -> Result<String, Unready> {
    let Some(program) = engine(config) else {
        let engine = config.registry_engine();
        let engine = if engine == "auto" {
            "docker or podman".to_owned()
        } else {
            engine
        };
        return Err(Unready::NoEngine { engine });
    };
    let unable = |reason: String| Unready::Engine {
        engine: program,
        reason,
    };
    if program == "docker" && is_rootless_docker() {
        return Err(unable(
            "its engine has no root's rights, and so a network of its own, in which nobody would find the registry"
                .to_owned(),
        ));
    }
    let inspect = ["image", "inspect", "--format", "{{.Id}}", image];
    output(program, &inspect, PATIENCE).map_err(|reason| {
        let is_missing = ["no such image", "image not known"]
            .iter()
            .any(|text| reason.to_lowercase().contains(text));
        if is_missing {
            Unready::NoImage {
                engine: program,
                image: image.to_owned(),
            }
        } else {
            unable(reason)
        }
    })
}

/// Gets the image where the engine does not have it, and notes which it is: one
/// that was built anew is another one.
///
/// # Errors
/// When there is no engine, or it does not get it.
pub fn prepare(config: &Config, say: impl FnOnce(&str)) -> Result<(), Unready> {
    let Some(image) = config.registry_image() else {
        return Ok(());
    };
    let id = match id(config, &image) {
        Err(Unready::NoImage { engine, image }) => {
            say(&format!("{engine} pull {image}"));
            output(engine, &["pull", "--quiet", &image], PULL).map_err(|reason| Unready::NotPulled {
                engine,
                image: image.clone(),
                reason,
            })?;
            id(config, &image)?
        }
        other => other?,
    };
    let stamp = stamp(config.root());
    // Without it a new image is not noticed, and nothing else is lost.
    if read_optional(&stamp).ok().flatten().as_ref() != Some(&id) {
        let _ = write_atomic(&stamp, id.as_bytes(), PUBLIC);
    }
    Ok(())
}

/// Returns the file that holds the id of the image that was applied last.
pub fn stamp(root: &Root) -> Utf8PathBuf {
    root.state().join("registry-image")
}

/// Returns the process of the root's container, where it runs.
pub fn process(config: &Config) -> Option<i32> {
    config.registry_image()?;
    let name = name(config.root());
    let inspect = ["container", "inspect", "--format", "{{.State.Pid}}", &name];
    let said = output(engine(config)?, &inspect, PATIENCE).ok()?;
    said.parse().ok().filter(|pid| *pid > 0)
}

/// Returns the command that removes the root's container: an engine's command
/// that is killed takes none with it.
pub fn remains(config: &Config) -> Vec<String> {
    match engine(config).filter(|_| config.registry_image().is_some()) {
        Some(program) => vec![
            program.to_owned(),
            "rm".to_owned(),
            "--force".to_owned(),
            name(config.root()),
        ],
        None => Vec::new(),
    }
}

/// Runs an engine's command; returns what it says, or why it failed.
fn output(program: &str, arguments: &[&str], limit: Duration) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments);
    if arguments.first() != Some(&"pull") {
        // As the service has it; who pulls may need a proxy, and logins.
        command
            .env_clear()
            .envs(super::environment::environment())
            .envs(environment());
    }
    let output = sys::running::output_within(&mut command, limit).map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(line.unwrap_or("it did not say why").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_a_line_of_csv() {
        assert_eq!(
            mount(Utf8Path::new("/a b/c"), false),
            "type=bind,source=/a b/c,target=/a b/c,readonly"
        );
        assert_eq!(
            mount(Utf8Path::new("/a,b/\"c"), true),
            "type=bind,\"source=/a,b/\"\"c\",\"target=/a,b/\"\"c\""
        );
    }
}
