//! A registry image, run by docker or podman (`registry.image`).
//!
//! It reads the same rendered file as any other registry, and has what that
//! names at the same paths: the storage, certificates, the database's socket.

use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use super::unready::Unready;
use crate::config::Config;
use crate::root::Root;
use crate::sys;

/// Engines, in the order in which they are looked for.
const ENGINES: [&str; 2] = ["docker", "podman"];
/// Label by which a container tells whose it is.
const LABEL: &str = "com.khulnasoft.kdk.root";
/// Sockets of Docker that tell that it is meant.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

/// Variables by which a shell says which engine it means, and how.
const VARIABLES: [&str; 8] = [
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINER_HOST",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
];

/// Returns what the engine's command must have in its environment, too.
pub fn environment() -> Vec<(String, String)> {
    let given = |name: &&str| Some(((*name).to_owned(), sys::env::var(name)?));
    VARIABLES.iter().filter_map(given).collect()
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
    argv.extend(user(config, program));
    if sys::net::CONTAINERS_SHARE_NETWORK {
        argv.extend(["--network", "host"].map(str::to_owned));
    } else if is_service {
        let (host, port) = published(config);
        argv.extend(["--publish".to_owned(), format!("{host}:{port}:{port}")]);
    }
    // Where SELinux is on, it would keep the container from the root's files.
    argv.extend(["--security-opt", "label=disable"].map(str::to_owned));
    for (path, is_writable) in mounts(config) {
        let mode = if is_writable { "" } else { ",readonly" };
        argv.extend([
            "--mount".to_owned(),
            format!("type=bind,source={path},target={path}{mode}"),
        ]);
    }
    // By their names: a command line can be read by everybody.
    for name in config.registry_env().keys() {
        argv.extend(["--env".to_owned(), name.clone()]);
    }
    if config.registry_needs_bundle() && !config.registry_env().contains_key("SSL_CERT_FILE") {
        argv.extend(["--env", "SSL_CERT_FILE"].map(str::to_owned));
    }
    argv.push(image.to_owned());
    argv
}

/// Returns as whom it runs: as the caller, unless told otherwise.
fn user(config: &Config, program: &str) -> Vec<String> {
    let (user, group) = sys::running::ids();
    let (user, group) = (
        config.registry_uid().unwrap_or(user),
        config.registry_gid().unwrap_or(group),
    );
    let mut argv = vec!["--user".to_owned(), format!("{user}:{group}")];
    if program == "podman" && sys::process::user_id() != 0 {
        // Else the caller's files would belong to somebody unknown in there.
        argv.push("--userns=keep-id".to_owned());
    }
    argv
}

/// Returns where the image's registry is reached where containers have a network of their own.
fn published(config: &Config) -> (String, u16) {
    if config.registry_has_front() {
        ("127.0.0.1".to_owned(), config.registry_backend_port())
    } else {
        (config.registry_listen_address(), config.registry_port())
    }
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
    all
}

/// Checks that the image is there to be run.
///
/// # Errors
/// When there is no engine, it does not answer, or does not have the image.
pub fn check(config: &Config, image: &str) -> Result<(), Unready> {
    let Some(program) = engine(config) else {
        let engine = config.registry_engine();
        let engine = if engine == "auto" {
            "docker or podman".to_owned()
        } else {
            engine
        };
        return Err(Unready::NoEngine { engine });
    };
    ask(program, &["image", "inspect", "--format", "{{.Id}}", image]).map_err(|reason| {
        let is_missing = ["no such image", "image not known"]
            .iter()
            .any(|text| reason.to_lowercase().contains(text));
        if is_missing {
            Unready::NoImage {
                engine: program,
                image: image.to_owned(),
            }
        } else {
            Unready::Engine {
                engine: program,
                reason,
            }
        }
    })
}

/// Gets the image where the engine does not have it.
///
/// # Errors
/// When there is no engine, or it does not get it.
pub fn prepare(config: &Config, say: impl FnOnce(&str)) -> Result<(), Unready> {
    let Some(image) = config.registry_image() else {
        return Ok(());
    };
    match check(config, &image) {
        Err(Unready::NoImage { engine, image }) => {
            say(&format!("{engine} pull {image}"));
            ask(engine, &["pull", "--quiet", &image]).map_err(|reason| Unready::NotPulled { engine, image, reason })
        }
        other => other,
    }
}

/// Returns the process of the root's container, where it runs.
pub fn process(config: &Config) -> Option<i32> {
    config.registry_image()?;
    let inspect = ["container", "inspect", "--format", "{{.State.Pid}}"];
    let said = output(engine(config)?, &[&inspect[..], &[&name(config.root())]].concat()).ok()?;
    said.trim().parse().ok().filter(|pid| *pid > 0)
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

fn ask(program: &str, arguments: &[&str]) -> Result<(), String> {
    output(program, arguments).map(drop)
}

/// Runs an engine's command; returns what it says, or why it failed.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(line.unwrap_or("it did not say why").trim().to_owned())
}
