//! `kdk user`: who may log in.

use std::io::{BufRead as _, IsTerminal as _};

use clap::Subcommand;
use serde_json::json;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::tokens::identity;

/// Subcommands of `kdk user`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Users have the namespace of their name, as in registry.test:5000/anna/app; admins have everything.\n\nExamples:\n  kdk user add anna\n  echo 'open sesame' | kdk user add anna --password-stdin"
)]
pub enum UserCommand {
    /// Add a user
    Add {
        /// Name: lowercase, since it is a namespace of images
        name: String,
        /// Allow everything
        #[arg(long)]
        admin: bool,
        /// Read a password from standard input (a token works without one)
        #[arg(long)]
        password_stdin: bool,
    },
    /// List users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a user with all tokens
    Remove {
        /// Name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Carries out a subcommand.
pub fn run(session: &Session, command: UserCommand) -> Result<(), CommandError> {
    let identity = identity(&session.config()?)?;
    let ui = &session.ui;
    match command {
        UserCommand::Add {
            name,
            admin,
            password_stdin,
        } => {
            let password = if password_stdin {
                Some(read_password(session)?)
            } else {
                None
            };
            let user = identity.add_user(&name, admin, password.as_deref())?;
            ui.done(&format!("The user {} may log in now.", user.name));
            if password.is_none() {
                ui.tip(&format!("make a token with: kdk token create --user {name}"));
            }
        }
        UserCommand::List { json: true } => {
            let users = identity.users()?;
            let list: Vec<_> = users.iter().map(|user| json!({"name": user.name, "admin": user.admin, "password": user.password.is_some(), "created_at": user.created_at})).collect();
            ui.json(&list)?;
        }
        UserCommand::List { json: false } => {
            let yes_no = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
            let rows: Vec<_> = identity
                .users()?
                .iter()
                .map(|user| {
                    vec![
                        (user.name.clone(), None),
                        (yes_no(user.admin), None),
                        (yes_no(user.password.is_some()), None),
                        (user.created_at.strftime("%Y-%m-%d").to_string(), None),
                    ]
                })
                .collect();
            ui.table(&["NAME", "ADMIN", "PASSWORD", "CREATED"], &rows);
        }
        UserCommand::Remove { name, yes } => {
            if !identity.users()?.iter().any(|user| user.name == name) {
                return Err(crate::rails::identity::IdentityError::NoUser(name).into());
            }
            ui.consent(
                &format!("Remove the user {name} with all tokens?"),
                yes,
                "KDK_USER_REMOVE_CONFIRM",
            )?;
            let tokens = identity.remove_user(&name)?;
            ui.done(&format!(
                "The user {name} is removed, with {tokens} tokens. Images stay."
            ));
        }
    }
    Ok(())
}

fn read_password(session: &Session) -> Result<String, CommandError> {
    if std::io::stdin().is_terminal() {
        session
            .ui
            .tip("type the password and press return; it is shown while you type");
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.chars().count() < 8 {
        return Err(CommandError::user("a password has at least 8 characters"));
    }
    if password.len() > 72 {
        return Err(CommandError::user(
            "a password has at most 72 bytes: bcrypt ignores what follows",
        ));
    }
    Ok(password)
}
