//! `kdk login`: log a container client in, without showing the token.

use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::token;
use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::{failures, tokens};
use crate::clients::{self, Found, hosts, insecure};
use crate::config::Config;
use crate::doctor::{elsewhere, logins};
use crate::reconfigure::ADMIN;
use crate::roots::Rival;
use crate::services::{self, FRONT, REGISTRY};
use crate::sys;
use crate::sys::net::Taker;

/// User name that goes with a token, as in the documents.
const LOGIN_NAME: &str = "khulnasoft-token";
/// How long a login holds unless told otherwise.
const HOLDS: &str = "720h";
/// How long it may take until the system tells who listens.
const STARTING: std::time::Duration = std::time::Duration::from_secs(1);
/// How often it is looked whether anybody can log in, before that counts.
const LOOKS: usize = 3;
/// Variable that says yes beforehand.
const CONFIRM: &str = "KDK_LOGIN_CONFIRM";

/// Arguments of `kdk login`.
#[derive(Debug, Args)]
#[command(
    after_help = "A new token is made for every login, and replaces the one before; it reaches\nthe client on its standard input, and goes only where this root's own registry\nlistens.\n\nExamples:\n  kdk login\n  kdk login --client podman --user anna --expires 8h"
)]
pub struct LoginArgs {
    /// Client to log in (default: docker where it is installed, else podman)
    #[arg(long)]
    client: Option<Client>,
    /// User to log in as
    #[arg(long, default_value = ADMIN)]
    user: String,
    /// How long the login holds, such as 8h or 720h
    #[arg(long, default_value = HOLDS, value_parser = token::parse_duration)]
    expires: SignedDuration,
    /// HOST:PORT to log in to (default: the registry's)
    #[arg(long)]
    address: Option<String>,
    /// Send the token even where the system does not tell who listens there
    #[arg(long)]
    force: bool,
    /// Write what podman needs for plain HTTP without asking
    #[arg(long, short)]
    yes: bool,
}

/// A client that can be logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Client {
    Docker,
    Podman,
}

/// Returns the client that is asked for, or the one that is there.
fn find(asked: Option<Client>) -> Result<Found, CommandError> {
    let named = asked.map(|client| match client {
        Client::Docker => Found::Docker,
        Client::Podman => Found::Podman,
    });
    match named {
        Some(client) if client.is_here() => Ok(client),
        Some(client) => Err(CommandError::user(format!("{client} is not on the PATH"))),
        None => clients::preferred().ok_or_else(|| {
            CommandError::user("neither docker nor podman is on the PATH")
                .hint("any client can log in as khulnasoft-token with a token from: kdk token create")
        }),
    }
}

/// Mints a token and hands it to the client.
pub fn run(session: &Session, args: &LoginArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    if !config.registry_enabled() {
        return Err(CommandError::user("the registry is not enabled")
            .hint("enable it with: kdk config set registry.enabled true && kdk up"));
    }
    if !config.registry_auth_enabled() {
        session
            .ui
            .done("The registry asks for no login (registry.auth_enabled is false).");
        return Ok(());
    }
    let client = find(args.client)?;
    log_in(session, &config, client, args)
}

/// Logs a client in as the administrator; returns which, or nothing where
/// nobody need log in.
pub fn log_in_as_admin(
    session: &Session,
    config: &Config,
    client: Option<Client>,
    yes: bool,
) -> Result<Option<Found>, CommandError> {
    if !config.registry_auth_enabled() {
        return Ok(None);
    }
    let client = find(client)?;
    let args = LoginArgs {
        client: None,
        user: ADMIN.to_owned(),
        expires: token::parse_duration(HOLDS).map_err(CommandError::user)?,
        address: None,
        force: false,
        yes,
    };
    log_in(session, config, client, &args)?;
    Ok(Some(client))
}

fn log_in(session: &Session, config: &Config, client: Found, args: &LoginArgs) -> Result<(), CommandError> {
    let address = args.address.clone().unwrap_or_else(|| services::public_address(config));
    if !address
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
    {
        return Err(CommandError::user(format!("{address:?} is not HOST:PORT")));
    }
    if config.registry_is_elsewhere() {
        check_elsewhere(session, config, &address, args.force)?;
    } else {
        check_holder(config, &address, args.force)?;
    }
    // Not for a moment in which all are busy.
    let mut asked = (0..LOOKS).map_while(|_| logins::impossible(config));
    if !args.force
        && let Some(no_logins) = asked.nth(LOOKS - 1)
    {
        return Err(CommandError::user(no_logins.reason).hint("see what is wrong with it with: kdk status"));
    }
    let plain = !clients::needs::is_https(config);
    let told = client != Found::Podman || !plain || tell_podman(session, config, &address, args.yes)?;
    let identity = tokens::identity(config)?;
    let expires = sys::clock::Clock::System
        .now()
        .checked_add(args.expires)
        .map_err(|error| CommandError::user(error.to_string()))?;
    let name = format!("kdk login: {client}, {address}, {}", client.login_file());
    let (made, secret) = identity.create_token(&args.user, &name, Some(expires))?;
    let mut line: Vec<&str> = vec!["login", "--username", LOGIN_NAME, "--password-stdin"];
    if !told {
        line.push("--tls-verify=false");
    }
    line.push(&address);
    if let Err(error) = feed(client, &line, &secret) {
        // Nobody knows the token: it must not stay.
        identity.revoke_token(made.id)?;
        return Err(error);
    }
    // The one before is overwritten where it was kept, so nobody uses it any more.
    identity.revoke_before(&made)?;
    session.ui.done(&format!(
        "{client} is logged in to {address} as {} until {}.",
        args.user,
        expires.strftime("%Y-%m-%d %H:%M UTC")
    ));
    session.ui.say(&format!("  {} read this login.", client.readers()));
    for need in clients::needs::of_tools(config) {
        session.ui.tip(&need);
    }
    Ok(())
}

/// Offers to tell podman that an address speaks plain HTTP; says whether it knows.
fn tell_podman(session: &Session, config: &Config, address: &str, yes: bool) -> Result<bool, CommandError> {
    let ui = &session.ui;
    if insecure::podman_is_told(address) {
        return Ok(true);
    }
    let file = insecure::podman_file();
    let given = yes || sys::env::flag(CONFIRM);
    if !given && !std::io::stdin().is_terminal() {
        ui.tip(&format!(
            "{address} speaks plain HTTP: give podman --tls-verify=false, or let {file} say so with: kdk login --client podman --yes"
        ));
        return Ok(false);
    }
    let question =
        format!("{address} speaks plain HTTP. Let {file} say so, so that podman needs no --tls-verify=false?");
    if given || ui.asks(&question)? {
        insecure::add_podman(config.root(), address)?;
        ui.say(&format!("  {file} says that {address} speaks plain HTTP."));
        return Ok(true);
    }
    Ok(false)
}

/// Checks that a registry that runs elsewhere takes this root's tokens, before
/// one is sent to where the settings say that it is.
fn check_elsewhere(session: &Session, config: &Config, address: &str, force: bool) -> Result<(), CommandError> {
    let own = config.registry_address();
    if address != own && !force {
        return Err(CommandError::user(format!(
            "{address} is not where this root's registry is, which is {own}: no token is sent there"
        ))
        .hint("where you are sure that it is the same registry, say so with --force"));
    }
    if let Some(finding) = elsewhere::registry(config).filter(|_| !force) {
        return Err(CommandError::user(finding.evidence).hint("see what helps with: kdk doctor"));
    }
    if !clients::needs::is_https(config) && !clients::needs::leads_to_loopback(&config.registry_address()) {
        session.ui.warn(&format!(
            "{} speaks plain HTTP: the token crosses the network unencrypted",
            config.registry_address()
        ));
    }
    Ok(())
}

/// Checks that this root's registry, and nobody else, listens where a token
/// is about to be sent.
fn check_holder(config: &Config, address: &str, force: bool) -> Result<(), CommandError> {
    let endpoint = services::public_endpoint(config);
    let own = own_processes(config)?;
    if own.is_empty() {
        return Err(not_running(config, endpoint.port));
    }
    let external = config.registry_external_url().is_some() && address == config.registry_address();
    if external && clients::needs::is_https(config) {
        // Who answers there proves it by a certificate, which the client checks.
        return Ok(());
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok()),
        // A URL names none where it is the scheme's own.
        None => (address, external.then_some(80)),
    };
    let port = port.ok_or_else(|| CommandError::user(format!("{address:?} is not HOST:PORT")))?;
    if port != endpoint.port && port == config.registry_port() && !force {
        return Err(CommandError::user(format!(
            "the registry still listens on port {}, not on {port} as kdk.yml says",
            endpoint.port
        ))
        .hint("apply it with: kdk reconfigure"));
    }
    let mut ours = false;
    let addresses = sys::net::resolve(host).map_err(|error| {
        let plain = CommandError::user(format!("{host} does not resolve: {error}"));
        let lines = hosts::lacking(config).into_iter().filter(|line| line.contains(host));
        lines.fold(plain, CommandError::hint)
    })?;
    for ip in &addresses {
        let at = sys::net::host_port(&ip.to_string(), port);
        // One that is just being started is not seen for a moment.
        let seen = || Some(sys::net::taker(*ip, port)).filter(|taker| *taker != Taker::Hidden);
        match sys::clock::wait_until(STARTING, seen).unwrap_or(Taker::Hidden) {
            Taker::Nobody => {}
            Taker::Process(holder)
                if own.contains(&holder.pid)
                    || sys::process::group_of(holder.pid).is_some_and(|group| own.contains(&group)) =>
            {
                ours = true;
            }
            Taker::Process(holder) => {
                return Err(CommandError::user(format!(
                    "{at} belongs to {} (process {}), not to this root's registry: no token is sent there",
                    holder.name, holder.pid
                ))
                .hint("log in to the address that kdk status shows"));
            }
            Taker::Hidden if force => ours = true,
            Taker::Hidden => {
                return Err(CommandError::user(format!(
                    "cannot tell which process listens on {at}: no token is sent there"
                ))
                .hint("where you are sure that it is this root's registry, say so with --force"));
            }
        }
    }
    if ours || force {
        return Ok(());
    }
    let error = CommandError::user(format!("nobody listens on {address}: no token is sent there"));
    let outside = addresses.iter().find(|ip| !ip.is_loopback());
    Err(match outside {
        Some(ip) if port == endpoint.port => error.hint(format!(
            "the registry listens on {}; let it listen there, too, with: kdk config set registry.listen_address {ip} && kdk reconfigure",
            endpoint.host
        )),
        _ => error
            .hint("log in to the address that kdk status shows, or say with --force that it leads to this registry"),
    })
}

/// Returns the processes that serve this root's registry.
fn own_processes(config: &Config) -> Result<Vec<i32>, CommandError> {
    let jobs = services::supervisor(config.root()).status()?;
    // What the settings name may not run yet, and what did before go on.
    let own = jobs
        .iter()
        .filter(|job| [REGISTRY, FRONT].contains(&&*job.name) && job.state.is_alive());
    let own = own.filter_map(|job| job.pid);
    Ok(own.chain(services::container::process(config)).collect())
}

/// Says that there is nobody to log in to, and who is there instead.
fn not_running(config: &Config, port: u16) -> CommandError {
    let message = "this root's registry is not running";
    let Some(Rival::Process(holder)) = crate::roots::taken(port) else {
        return CommandError::user(message).hint("start it with: kdk start");
    };
    let (by, free) = match (failures::other_root(config, port), holder) {
        (Some((root, free)), _) => (format!("the root {root}"), free),
        (None, Some(holder)) => (
            format!("{} (process {})", holder.name, holder.pid),
            "end that".to_owned(),
        ),
        (None, None) => ("another process".to_owned(), "end that".to_owned()),
    };
    CommandError::user(format!("{message}: port {port} belongs to {by}")).hint(format!(
        "{free}, or choose another port with: kdk config set registry.port {} && kdk reconfigure && kdk start",
        port.saturating_add(100)
    ))
}

fn feed(client: Found, arguments: &[&str], secret: &str) -> Result<(), CommandError> {
    let mut child = Command::new(client.program())
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
    let said = reason(&String::from_utf8_lossy(&output.stderr));
    let mut error = CommandError::user(format!("{client} login failed: {said}"));
    if said.contains("certificate") || said.contains("x509") {
        error = error.hint("let it trust the registry with: kdk trust-docker-registry");
    } else if said.contains("HTTP response to HTTPS client") {
        error = error.hint("the registry speaks plain HTTP, which docker accepts only on loopback unless configured otherwise; see: kdk trust-docker-registry");
    } else if said.contains("Cannot connect to the Docker daemon") {
        error = error.hint("start Docker, or log podman in with: kdk login --client podman");
    } else if said.contains("503") {
        error = error
            .hint("see what keeps the registry from answering with: kdk status; start it with: kdk start registry");
    } else if said.contains("refused") || said.contains("no such host") {
        error = error.hint("see whether it runs with: kdk status");
    }
    Err(error)
}

/// Returns the sentence that says why, without warnings around it and
/// without what a program prints for its makers.
fn reason(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line = lines
        .iter()
        .rev()
        .find(|line| line.to_lowercase().starts_with("error"))
        .or(lines.last())
        .copied()
        .unwrap_or("it did not say why");
    let line = line
        .trim_start_matches("Error response from daemon: ")
        .trim_start_matches("Error: ");
    line.split(" &{")
        .next()
        .unwrap_or(line)
        .trim_end_matches([':', ' '])
        .to_owned()
}
