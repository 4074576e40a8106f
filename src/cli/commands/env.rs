//! `kdk env`: what a shell exports for other clients.

use std::io::IsTerminal as _;

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::tokens;
use crate::clients::shell::{self, BEFORE, BUNDLE, quote};
use crate::config::Config;
use crate::root::Root;
use crate::sys;

/// Variable with the personal access token, as in the documents.
const TOKEN: &str = "KHULNASOFT_TOKEN";
/// What the token is for.
const PURPOSE: &str = "kdk env --with-token";

/// Arguments of `kdk env`.
#[derive(Debug, Args)]
#[command(
    after_help = "REGISTRY_HOST and REGISTRY_PORT name the registry. Over HTTPS SSL_CERT_FILE lets\ncrane, oras, helm, cosign, regctl, curl and others trust its certificate beside\nthe system's. kdk_jwt SCOPE prints a token for the API.\n\nExamples:\n  eval \"$(kdk env)\"\n  URL=http://$REGISTRY_HOST:$REGISTRY_PORT/v2/_catalog\n  curl -H \"Authorization: Bearer $(kdk_jwt registry:catalog:*)\" $URL\n  eval \"$(kdk env --unset)\""
)]
pub struct EnvArgs {
    /// Export a personal access token, too; it holds for a day, and replaces the one before
    #[arg(long, conflicts_with = "unset")]
    with_token: bool,
    /// Take everything back
    #[arg(long)]
    unset: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "unset")]
    json: bool,
}

/// Prints lines for a shell to evaluate.
pub fn run(session: &Session, args: &EnvArgs) -> Result<(), CommandError> {
    if args.unset {
        restored().iter().for_each(|line| session.ui.out(line));
        for name in ["REGISTRY_HOST", "REGISTRY_PORT", TOKEN] {
            session.ui.out(&format!("unset {name}"));
        }
        session.ui.out("unset -f kdk_jwt 2>/dev/null || true");
        // Outside of a root there is no token to take back.
        if let Ok(identity) = session.config().and_then(|config| tokens::identity(&config)) {
            identity.revoke_named(PURPOSE)?;
        }
        return Ok(());
    }
    let config = session.config()?;
    let (host, port) = shell::host_and_port(&config);
    let bundle = if shell::needs_bundle(&config) {
        if !config.root().registry_pair().0.exists() {
            return Err(CommandError::user("the registry has no certificate yet")
                .hint("make it, and all the rest, with: kdk reconfigure"));
        }
        Some(shell::make_bundle(&config)?)
    } else {
        None
    };
    let token = if args.with_token { Some(made(&config)?) } else { None };
    if args.json {
        return session
            .ui
            .json(&json!({"REGISTRY_HOST": host, "REGISTRY_PORT": port.to_string(), BUNDLE: bundle, TOKEN: token}));
    }
    let export = |name: &str, value: &str| session.ui.out(&format!("export {name}={}", quote(value)));
    export("REGISTRY_HOST", &host);
    export("REGISTRY_PORT", &port.to_string());
    match &bundle {
        Some(_) if cfg!(target_os = "macos") => {
            session.ui.tip(&format!(
                "Go programs on macOS read no SSL_CERT_FILE, only the keychain: security add-trusted-cert -k ~/Library/Keychains/login.keychain-db {}",
                quote(config.root().registry_anchor().as_str())
            ));
        }
        Some(path) => {
            if let Some(before) = shell::before() {
                export(BEFORE, &before);
            }
            export(BUNDLE, path.as_str());
            for other in ["CURL_CA_BUNDLE", "SSL_CERT_DIR"] {
                if sys::env::var(other).is_some() {
                    session.ui.tip(&format!(
                        "{other} is set, which curl reads in place of {BUNDLE}: give it --cacert \"${BUNDLE}\", or unset {other}"
                    ));
                }
            }
        }
        // One that was exported while the registry spoke HTTPS.
        None => restored().iter().for_each(|line| session.ui.out(line)),
    }
    if let Some(token) = &token {
        export(TOKEN, token);
    }
    let exe = sys::env::current_exe()?;
    session.ui.out(&format!(
        "kdk_jwt() {{ {} --root {} registry token --scope \"$1\"; }}",
        quote(exe.as_str()),
        quote(config.root().path().as_str())
    ));
    if std::io::stdout().is_terminal() {
        session
            .ui
            .tip("let your shell take these over with: eval \"$(kdk env)\"");
    }
    Ok(())
}

/// Returns the lines that put back what kdk's bundle replaced.
fn restored() -> Vec<String> {
    if !sys::env::var(BUNDLE).is_some_and(|bundle| Root::is_ca_bundle(&bundle)) {
        return Vec::new();
    }
    match shell::before() {
        Some(before) => vec![format!("export {BUNDLE}={}", quote(&before)), format!("unset {BEFORE}")],
        None => vec![format!("unset {BUNDLE}")],
    }
}

/// Makes a token for the shell, and revokes the one before.
fn made(config: &Config) -> Result<String, CommandError> {
    tokens::for_purpose(config, PURPOSE, 24)
}
