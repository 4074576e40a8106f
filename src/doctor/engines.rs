//! Whether the engines of this machine reach the registry: each is asked to
//! pull a name that cannot exist, and a refusal by the registry is a yes.

use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use crate::clients::setup::apply::{State, state};
use crate::clients::setup::containerd::DIRECTORY;
use crate::clients::setup::{self, Client as _};
use crate::clients::{Found, needs};
use crate::config::Config;
use crate::sys;

/// How long an engine may take to say what it hears.
const PATIENCE: Duration = Duration::from_secs(8);

/// Asks docker, podman and containerd.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.used_registry() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    if !scene.registry_may_answer(config) {
        return Verdict::Skipped("the registry does not run".to_owned());
    }
    let image = format!(
        "{}/kdk-doctor/there-is-none:{}",
        config.registry_address(),
        std::process::id()
    );
    let here: Vec<Found> = [Found::Docker, Found::Podman]
        .into_iter()
        .filter(|client| client.is_here())
        .collect();
    let has_ctr = sys::process::find_program("ctr").is_some();
    if here.is_empty() && !has_ctr {
        return Verdict::Skipped("neither docker nor podman nor ctr is on the PATH".to_owned());
    }
    // Of those that were not told yet it is said already.
    let mut told: Vec<&str> = here
        .into_iter()
        .filter(|client| needs::of(config, *client).is_empty())
        .map(Found::program)
        .collect();
    if has_ctr && containerd_is_told(config) {
        told.push("ctr");
    }
    if told.is_empty() {
        return Verdict::Skipped("no engine was told of the registry".to_owned());
    }
    let mut found = Vec::new();
    let mut asked = 0;
    let heard = std::thread::scope(|scope| {
        let asking: Vec<_> = told
            .iter()
            .map(|program| (*program, scope.spawn(|| ask(program, &image))))
            .collect();
        let heard = asking
            .into_iter()
            .map(|(program, answer)| (program, answer.join().unwrap_or_default()));
        heard.collect::<Vec<_>>()
    });
    for (program, text) in heard {
        match judge(program, &text) {
            Heard::NoEngine => {}
            Heard::Reached => asked += 1,
            Heard::Not(finding) => {
                asked += 1;
                found.push(*finding);
            }
        }
    }
    if asked == 0 {
        return Verdict::Skipped("no engine runs here".to_owned());
    }
    found.into()
}

/// Says whether containerd was told of the registry.
fn containerd_is_told(config: &Config) -> bool {
    let plan = setup::containerd::Containerd.plan(&setup::Scene::of(config));
    plan.is_ok_and(|plan| !plan.files.is_empty() && matches!(state(&plan), Ok(State::Set)))
}

/// What was heard from an engine.
enum Heard {
    /// It reached the registry.
    Reached,
    /// It does not run.
    NoEngine,
    /// It did not reach it.
    Not(Box<Finding>),
}

/// Asks an engine for an image; returns what it says.
fn ask(program: &str, image: &str) -> String {
    let arguments: &[&str] = match program {
        "ctr" => &["images", "pull", "--hosts-dir", DIRECTORY],
        _ => &["pull", "-q"],
    };
    let mut command = Command::new(program);
    command.args(arguments).arg(image);
    match sys::running::output_within(&mut command, PATIENCE) {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) if error.kind() == ErrorKind::TimedOut => "no answer in time".to_owned(),
        Err(_) => "cannot connect".to_owned(),
    }
}

/// Tells from what an engine says whether it reached the registry.
fn judge(program: &str, text: &str) -> Heard {
    let has = |parts: &[&str]| parts.iter().any(|part| text.to_lowercase().contains(part));
    if has(&[
        "cannot connect",
        "is the docker daemon running",
        "failed to connect to the docker api",
        "permission denied",
        "failed to dial",
        "connection error",
    ]) {
        return Heard::NoEngine;
    }
    if has(&[
        "manifest unknown",
        ": not found",
        "not found: manifest",
        "unauthorized",
        "denied",
        "authentication required",
        "authorization failed",
        "401 unauthorized",
        "403 forbidden",
        "no basic auth",
        "invalid status code from registry 40",
    ]) {
        return Heard::Reached;
    }
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing")
        .trim();
    let found = |id, why| Finding::problem(id, format!("{program} does not reach the registry: {last}")).why(why);
    let name = if program == "ctr" { "containerd" } else { program };
    let setup = ["setup", name, "--apply"];
    Heard::Not(Box::new(if has(&["http response to https client"]) {
        found(
            "engine-plain-http",
            "it takes plain HTTP only from registries that it was told of",
        )
        .suggest(&setup)
    } else if has(&["x509", "certificate"]) {
        found("engine-distrusts", "it does not trust the certificate").suggest(&setup)
    } else if has(&["no such host", "server misbehaving", "name resolution", "lookup "]) {
        found("engine-name", "it cannot resolve the registry's name").suggest(&["setup", "hosts"])
    } else {
        found("engine-unreachable", "").suggest(&["status"])
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_say_is_understood() {
        let id = |text: &str| match judge("docker", text) {
            Heard::Reached => "reached",
            Heard::NoEngine => "none",
            Heard::Not(finding) => finding.id,
        };
        for (text, expected) in [
            (
                "Error response from daemon: manifest for r.test:5000/a:1 not found: manifest unknown: manifest unknown",
                "reached",
            ),
            (
                "Error response from daemon: Head \"https://r.test:5000/v2/a/manifests/1\": no basic auth credentials",
                "reached",
            ),
            (
                "ctr: failed to resolve reference \"r.test:5000/a:1\": pulling from host r.test:5000 failed with status code [manifests 1]: 401 Unauthorized",
                "reached",
            ),
            (
                "ctr: failed to resolve reference \"r.test:5000/a:1\": failed to authorize: failed to fetch anonymous token: unexpected status: 403 Forbidden",
                "reached",
            ),
            (
                "ctr: failed to dial \"/run/containerd/containerd.sock\": connection error: desc = \"transport: error while dialing\"",
                "none",
            ),
            (
                "ctr: failed to resolve reference \"r.test:5000/a:1\": failed to do request: Head \"https://r.test:5000/v2/a/manifests/1\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
                "engine-distrusts",
            ),
            (
                "Error: initializing source docker://r.test:5000/a:1: Requesting bearer token: invalid status code from registry 403 (Forbidden): denied",
                "reached",
            ),
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                "none",
            ),
            (
                "Error response from daemon: Get \"https://r.test:5000/v2/\": http: server gave HTTP response to HTTPS client",
                "engine-plain-http",
            ),
            (
                "Error response from daemon: Get \"https://r.test:5000/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
                "engine-distrusts",
            ),
            (
                "Error response from daemon: Get \"https://r.test:5000/v2/\": dial tcp: lookup r.test: no such host",
                "engine-name",
            ),
            (
                "Error response from daemon: Get \"https://r.test:5000/v2/\": dial tcp 10.0.0.1:5000: connect: connection refused",
                "engine-unreachable",
            ),
        ] {
            assert_eq!(id(text), expected, "{text}");
        }
    }
}
