//! `kdk login`: log a container client in, without showing the token.

use std::io::Write as _;
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::token;
use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::config::Config;
use crate::reconfigure::ADMIN;
use crate::sys;

/// User name that goes with a token, as in the documents.
const LOGIN_NAME: &str = "khulnasoft-token";

/// Arguments of `kdk login`.
#[derive(Debug, Args)]
#[command(
    after_help = "A new token is made for every login; it reaches the client on its standard input.\n\nExamples:\n  kdk login\n  kdk login --client podman --user anna --expires 8h"
)]
pub struct LoginArgs {
    /// Client to log in (default: docker where it is installed, else podman)
    #[arg(long)]
    client: Option<Client>,
    /// User to log in as
    #[arg(long, default_value = ADMIN)]
    user: String,
    /// How long the login holds, such as 8h or 720h
    #[arg(long, default_value = "720h", value_parser = token::parse_duration)]
    expires: SignedDuration,
    /// HOST:PORT to log in to (default: the registry's)
    #[arg(long)]
    address: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Client {
    Docker,
    Podman,
}

/// Mints a token and hands it to the client.
pub fn run(session: &Session, args: &LoginArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    if !config.registry_enabled() {
        return Err(CommandError::user("the registry is not enabled")
            .hint("enable it with: kdk config set registry.enabled true && kdk reconfigure && kdk start"));
    }
    if !config.registry_auth_enabled() {
        session
            .ui
            .done("The registry asks for no login (registry.auth_enabled is false).");
        return Ok(());
    }
    let client = pick(args.client)?;
    let name = if client == Client::Docker { "docker" } else { "podman" };
    let address = args.address.clone().unwrap_or_else(|| config.registry_address());
    let identity = token::identity(&config)?;
    let expires = sys::clock::Clock::System
        .now()
        .checked_add(args.expires)
        .map_err(|error| CommandError::user(error.to_string()))?;
    let (made, secret) = identity.create_token(&args.user, &format!("kdk login --client {name}"), Some(expires))?;
    let outcome = log_in(name, &command_line(client, &config, &address), &secret);
    if outcome.is_err() {
        // Nobody knows the token: it must not stay.
        identity.revoke_token(made.id)?;
    }
    outcome?;
    session.ui.done(&format!(
        "{name} is logged in to {address} as {} until {}.",
        args.user,
        expires.strftime("%Y-%m-%d %H:%M UTC")
    ));
    Ok(())
}

fn pick(asked: Option<Client>) -> Result<Client, CommandError> {
    let installed = |client: Client| {
        sys::process::find_program(if client == Client::Docker { "docker" } else { "podman" }).is_some()
    };
    match asked {
        Some(client) if installed(client) => Ok(client),
        Some(client) => Err(CommandError::user(format!(
            "{} is not on the PATH",
            if client == Client::Docker { "docker" } else { "podman" }
        ))),
        None => [Client::Docker, Client::Podman]
            .into_iter()
            .find(|client| installed(*client))
            .ok_or_else(|| {
                CommandError::user("neither docker nor podman is on the PATH")
                    .hint("any client can log in as khulnasoft-token with a token from: kdk token create")
            }),
    }
}

fn command_line(client: Client, config: &Config, address: &str) -> Vec<String> {
    let mut line: Vec<String> = ["login", "--username", LOGIN_NAME, "--password-stdin"]
        .map(str::to_owned)
        .to_vec();
    if client == Client::Podman && !config.registry_self_signed() {
        line.push("--tls-verify=false".to_owned());
    }
    line.push(address.to_owned());
    line
}

fn log_in(program: &str, arguments: &[String], secret: &str) -> Result<(), CommandError> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A client that ended at once says why itself.
        let _ = input.write_all(secret.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let mut error = CommandError::user(format!("{program} login failed: {said}"));
    if said.contains("certificate") || said.contains("x509") {
        error = error.hint("let it trust the registry with: kdk trust-docker-registry");
    } else if said.contains("HTTP response to HTTPS client") {
        error = error.hint("the registry speaks plain HTTP; add it to insecure-registries of the Docker daemon, or set registry.self_signed");
    } else if said.contains("refused") || said.contains("no such host") {
        error = error.hint("see whether it runs with: kdk status");
    }
    Err(error)
}
