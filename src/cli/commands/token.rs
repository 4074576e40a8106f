//! `kdk token`: personal access tokens.

use clap::Subcommand;
use jiff::SignedDuration;
use serde_json::json;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::tokens::identity;
use crate::reconfigure::ADMIN;
use crate::sys::clock::Clock;

/// Subcommands of `kdk token`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "A token is the password; any user name goes with it, such as khulnasoft-token.\n\nExamples:\n  export KHULNASOFT_TOKEN=$(kdk token create --user root --json | jq -r .token)\n  kdk token revoke 3"
)]
pub enum TokenCommand {
    /// Make a token; it is shown this once
    Create {
        /// Whose token it is
        #[arg(long, default_value = ADMIN)]
        user: String,
        /// What it is for
        #[arg(long, default_value = "kdk token create")]
        name: String,
        /// How long it holds, such as 8h (default: until it is revoked)
        #[arg(long, value_parser = parse_duration)]
        expires: Option<SignedDuration>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List tokens, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token
    Revoke {
        /// Its number, from kdk token list
        id: u64,
    },
}

/// Reads a length of time such as 8h.
pub fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| "write a number and a unit, such as 30m, 8h or 720h".to_owned())?;
    if !duration.is_positive() {
        return Err("it must be more than zero".to_owned());
    }
    match crate::sys::clock::Clock::System.now().checked_add(duration) {
        Ok(_) => Ok(duration),
        Err(_) => Err("it is too long; 87600h is ten years".to_owned()),
    }
}

/// Carries out a subcommand.
pub fn run(session: &Session, command: TokenCommand) -> Result<(), CommandError> {
    let identity = identity(&session.config()?)?;
    let ui = &session.ui;
    match command {
        TokenCommand::Create {
            user,
            name,
            expires,
            json: as_json,
        } => {
            let expires = expires
                .map(|expires| Clock::System.now().checked_add(expires))
                .transpose();
            let expires = expires.map_err(|error| CommandError::user(error.to_string()))?;
            let (token, secret) = identity.create_token(&user, &name, expires)?;
            if as_json {
                return ui.json(&json!({"id": token.id, "user": token.user, "name": token.name, "token": secret, "expires_at": token.expires_at}));
            }
            ui.out(&secret);
            if ui.has_lost_output() {
                // Nobody saw it, so nobody must be able to use it.
                identity.revoke_token(token.id)?;
                return Ok(());
            }
            ui.tip(&format!(
                "it is not shown again; take it back with: kdk token revoke {}",
                token.id
            ));
        }
        TokenCommand::List { json: true } => {
            let tokens = identity.tokens()?;
            let list: Vec<_> = tokens.iter().map(|token| json!({"id": token.id, "user": token.user, "name": token.name, "created_at": token.created_at, "expires_at": token.expires_at})).collect();
            ui.json(&list)?;
        }
        TokenCommand::List { json: false } => {
            let day = |at: jiff::Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
            let rows: Vec<_> = identity
                .tokens()?
                .iter()
                .map(|token| {
                    let expires = token.expires_at.map_or("never".to_owned(), day);
                    vec![
                        (token.id.to_string(), None),
                        (token.user.clone(), None),
                        (token.name.clone(), None),
                        (day(token.created_at), None),
                        (expires, None),
                    ]
                })
                .collect();
            ui.table(&["ID", "USER", "NAME", "CREATED", "EXPIRES"], &rows);
        }
        TokenCommand::Revoke { id } => {
            let token = identity.revoke_token(id)?;
            ui.done(&format!(
                "The token {} of {} ({}) is revoked.",
                token.id, token.user, token.name
            ));
        }
    }
    Ok(())
}
