//! `kdk open`: a page of this root in the browser.

use std::process::{Command, Stdio};

use clap::Args;

use super::error::CommandError;
use super::ui::Ui;
use crate::config::Config;
use crate::services;
use crate::sys;

/// What opens an address in the browser.
const OPENERS: [&str; 4] = ["xdg-open", "open", "wslview", "gio"];

/// Arguments of `kdk open`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kdk open                       all repositories\n  kdk open group/project         the images of a project\n  kdk open registry              the registry itself\n  kdk open --print group/project"
)]
pub struct OpenArgs {
    /// A project, or registry (default: the front page)
    what: Option<String>,
    /// Print the address, and open nothing
    #[arg(long)]
    print: bool,
}

/// Opens a page, or prints where it is.
pub fn run(ui: &Ui, config: &Config, args: &OpenArgs) -> Result<(), CommandError> {
    let pages = services::rails_url(config);
    let pages = pages.trim_end_matches('/');
    let address = match args.what.as_deref().map(|what| what.trim_matches('/')) {
        None | Some("") => format!("{pages}/"),
        Some("registry") => format!("{}/v2/", config.registry_url()),
        Some(project) => {
            let is_path = project
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
            if !is_path || project.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
                return Err(CommandError::user(format!(
                    "{project} is no path of a project, such as group/project"
                )));
            }
            format!("{pages}/{project}/container_registry")
        }
    };
    // In a pipe the address is what is wanted.
    ui.out(&address);
    if args.print {
        return Ok(());
    }
    let Some(opener) = OPENERS.iter().find_map(|name| sys::process::find_program(name)) else {
        ui.tip("nothing here opens a browser (xdg-open, open): open the address by hand");
        return Ok(());
    };
    let mut command = Command::new(&opener);
    if opener.file_name() == Some("gio") {
        command.arg("open");
    }
    command
        .arg(&address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CommandError::user(format!("{opener} failed: {status}")).hint("open the address by hand")),
        Err(error) => Err(CommandError::user(format!("{opener}: {error}"))),
    }
}
