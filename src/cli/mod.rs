//! The command line: what was typed, and the command that carries it out.

mod cert;
mod cert_show;
mod check_name;
pub mod commands;
mod completion;
mod doctor;
mod elsewhere;
pub mod error;
pub mod failures;
pub mod leftovers;
pub mod log_filter;
pub mod log_line;
mod open;
mod outcome;
pub mod own_commands;
mod report;
mod setup;
mod setup_report;
mod tokens;
pub mod trusting;
pub mod ui;
pub mod welcome;

use std::ffi::OsString;

use camino::Utf8PathBuf;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::Config;
use crate::root::{Root, RootError};
use commands::{
    completions, config, diff_config, env, front, import_registry_data, init, login, psql, rails, reconfigure,
    registry, reset_registry_data, roots, run_state, status, tail, token, trust_docker_registry, up, user,
};
use error::CommandError;
use ui::Ui;

const EXAMPLES: &str = "\
Examples:
  kdk up my-kdk && cd my-kdk             make a registry, and run it
  kdk login                              log docker or podman in
  kdk config set registry.port 5100      change a setting
  kdk reconfigure                        apply it
  kdk tail registry                      watch the registry
  kdk status                             see what runs

Environment:
  KDK_ROOT   the root to work in, unless --root names one
  NO_COLOR   no colours";

/// What stands above options that every command has.
const GLOBAL: &str = "Global options";

/// A developer environment around a container registry, in one binary.
#[derive(Debug, Parser)]
#[command(name = "kdk", version, about, after_help = EXAMPLES, disable_help_subcommand = false, max_term_width = 100)]
pub struct Cli {
    /// KDK root to work in (default: KDK_ROOT, else the working directory or its nearest parent with a kdk.yml)
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    root: Option<Utf8PathBuf>,
    /// Print only results and errors
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a registry and start it: from nothing to a push
    Up(up::UpArgs),
    /// Make a KDK root
    Init(init::InitArgs),
    /// Read and change settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Bring files, certificates and services in line with kdk.yml
    Reconfigure(reconfigure::ReconfigureArgs),
    /// Show what reconfigure would change
    DiffConfig(diff_config::DiffConfigArgs),
    /// Start services, and wait until they are ready
    Start(run_state::StartArgs),
    /// Stop services
    #[command(visible_alias = "down")]
    Stop(run_state::StopArgs),
    /// Restart services
    Restart(run_state::RestartArgs),
    /// Show what runs
    #[command(visible_alias = "ps")]
    Status(status::StatusArgs),
    /// Look for what keeps the registry from being used, and say what helps
    Doctor(doctor::DoctorArgs),
    /// Open a page of this root in the browser
    Open(open::OpenArgs),
    /// Gather what somebody needs who is asked for help, without secrets
    Report(report::ReportArgs),
    /// Show and follow logs
    Tail(tail::TailArgs),
    /// Show logs, and follow them with -f
    Logs(tail::LogsArgs),
    /// List all roots of this user
    Roots(roots::RootsArgs),
    /// Kill all services of this root at once
    Kill(run_state::KillArgs),
    /// Put the registry's certificate where Docker and podman look for it
    TrustDockerRegistry(trust_docker_registry::TrustArgs),
    /// Set a client up for the registry: docker, podman, containerd, kubernetes, pipelines and more
    Setup(setup::SetupArgs),
    /// See, renew and bring certificates
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Log a container client in to the registry
    Login(login::LoginArgs),
    /// Print what a shell exports for crane, oras, helm, cosign, regctl, curl
    Env(env::EnvArgs),
    /// Bring the metadata of existing images into the metadata database
    ImportRegistryData(import_registry_data::ImportArgs),
    /// Empty the metadata database of the registry
    ResetRegistryData(reset_registry_data::ResetArgs),
    /// Open the metadata database with psql
    Psql(psql::PsqlArgs),
    /// Manage users
    #[command(subcommand)]
    User(user::UserCommand),
    /// Manage personal access tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// The container registry itself
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Run the Rails stand-in by itself
    #[command(subcommand)]
    Rails(rails::RailsCommand),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Write the man pages
    Man(completions::ManArgs),
    /// Print the version
    Version,
    /// The address of a registry that is not the built-in one
    #[command(subcommand, hide = true)]
    Front(front::FrontCommand),
    /// Run a program as another user
    #[command(hide = true)]
    RunAs(run_state::RunAsArgs),
    /// Run the supervisor of this root
    #[command(hide = true)]
    Supervise,
    /// Write the generated files of the source tree
    #[command(hide = true)]
    Generate(completions::GenerateArgs),
}

/// What commands work with.
pub struct Session {
    /// The terminal.
    pub ui: Ui,
    root: Option<Utf8PathBuf>,
}

impl Session {
    /// Finds the root, if there is one: nothing where no directory upwards is
    /// one, and none was named.
    ///
    /// # Errors
    /// When one was named that is none, or it is not safe.
    pub fn find_root(&self) -> Result<Option<Root>, CommandError> {
        match Root::find(self.root.as_deref()) {
            Ok(root) => Ok(Some(root)),
            Err(RootError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Finds the root.
    ///
    /// # Errors
    /// When there is none.
    pub fn root(&self) -> Result<Root, CommandError> {
        Ok(Root::find(self.root.as_deref())?)
    }

    /// Returns a session in a root.
    #[must_use]
    pub fn at(&self, root: &Root) -> Self {
        Self {
            ui: Ui::new(self.ui.is_quiet()),
            root: Some(root.path().to_owned()),
        }
    }

    /// Finds the root and loads its settings.
    ///
    /// # Errors
    /// When there is none, or the settings are wrong.
    pub fn config(&self) -> Result<Config, CommandError> {
        Ok(Config::load(&self.root()?)?)
    }
}

/// Returns the command line's definition, for completions and man pages.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Runs a command line and returns its exit code.
pub fn run(arguments: Vec<OsString>) -> u8 {
    crate::sys::process::tighten_umask();
    match completion::answer(definition, &arguments) {
        Ok(true) => return 0,
        Ok(false) => {}
        Err(error) => {
            tell(&error);
            return error::USER;
        }
    }
    let cli = match Cli::try_parse_from(registry::as_registry_binary(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors.
            if error.use_stderr() {
                tell(&error);
            } else {
                let _ = error.print();
            }
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let session = Session {
        ui: Ui::new(cli.quiet),
        root: cli.root,
    };
    if !cli.command.is_long_lived() {
        // `kdk … | head` ends quietly; servers must not end because a client does.
        crate::sys::signal::restore_sigpipe();
    }
    let related = cli.command.related();
    match dispatch(&session, cli.command) {
        Ok(()) if session.ui.has_lost_output() => {
            session.ui.error("the result could not be written");
            error::USER
        }
        Ok(()) => 0,
        Err(error) => {
            if !error.message.is_empty() {
                session.ui.error(&error.message);
            }
            error.hints.iter().for_each(|hint| session.ui.hint(hint));
            if let Ok(root) = session.root()
                && !related.is_empty()
                && !error.message.is_empty()
                // Where nothing was applied yet, all is missing that could be.
                && root.applied().exists()
            {
                doctor::related(&session.ui, &root, related, &error);
            }
            error.code
        }
    }
}

/// Says what was wrong with a command line, as other errors are said.
fn tell(error: &clap::Error) {
    let ui = Ui::default();
    for line in error.render().to_string().lines() {
        match (line.strip_prefix("error: "), line.trim_start().strip_prefix("tip: ")) {
            (Some(message), _) => ui.error(message),
            (None, Some(tip)) => ui.hint(tip),
            (None, None) if line.trim().is_empty() => {}
            (None, None) => ui.say(line),
        }
    }
}

impl Command {
    /// Returns the checks of `kdk doctor` that are made when it fails.
    fn related(&self) -> &'static [&'static str] {
        match self {
            Self::Start(_) | Self::Restart(_) | Self::Up(_) => &["names", "certificates", "storage", "limits"],
            Self::Login(_) => &["login", "agreement", "certificates"],
            Self::Reconfigure(_) => &["certificates", "storage"],
            _ => &[],
        }
    }

    fn is_long_lived(&self) -> bool {
        matches!(
            self,
            // `login` must take its token back when the client it feeds has ended.
            Self::Supervise
                | Self::Login(_)
                | Self::Up(_)
                | Self::Front(_)
                | Self::Rails(rails::RailsCommand::Serve { .. })
                | Self::Registry(registry::RegistryCommand::Serve { .. })
        )
    }
}

fn dispatch(session: &Session, command: Command) -> Result<(), CommandError> {
    match command {
        Command::Up(args) => up::run(session, &args),
        Command::Init(args) => init::run(session, &args),
        Command::Config(command) => config::run(session, command),
        Command::Reconfigure(args) => reconfigure::run(session, &args),
        Command::DiffConfig(args) => diff_config::run(session, &args),
        Command::Start(args) => run_state::start(session, &args),
        Command::Stop(args) => run_state::stop(session, &args),
        Command::Restart(args) => run_state::restart(session, &args),
        Command::Status(args) => status::run(session, &args),
        Command::Doctor(args) => doctor::run(&session.ui, &session.root()?, &args),
        Command::Open(args) => open::run(&session.ui, &session.config()?, &args),
        Command::Report(args) => report::run(&session.ui, &session.root()?, &args),
        Command::Tail(args) => tail::run(session, &args),
        Command::Logs(args) => tail::run(session, &args.into()),
        Command::Roots(args) => roots::run(session, &args),
        Command::Kill(args) => run_state::kill(session, &args),
        Command::TrustDockerRegistry(args) => trust_docker_registry::run(session, &args),
        Command::Setup(args) => setup::run(&session.ui, &session.config()?, &args),
        Command::Cert(command) => {
            let apply = || reconfigure::run(session, &reconfigure::ReconfigureArgs::default());
            cert::run(&session.ui, &session.config()?, command, &apply)
        }
        Command::Login(args) => login::run(session, &args),
        Command::Env(args) => env::run(session, &args),
        Command::ImportRegistryData(args) => import_registry_data::run(session, &args),
        Command::ResetRegistryData(args) => reset_registry_data::run(session, &args),
        Command::Psql(args) => psql::run(session, &args),
        Command::Front(command) => front::run(command),
        Command::RunAs(args) => run_state::run_as(&args),
        Command::User(command) => user::run(session, command),
        Command::Token(command) => token::run(session, command),
        Command::Registry(command) => registry::run(session, command),
        Command::Rails(command) => rails::run(command),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(session, &args),
        Command::Version => {
            session.ui.out(&format!("kdk {}", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
        Command::Supervise => Ok(crate::supervisor::daemon::run(crate::services::paths(
            &session.root()?,
        ))?),
        Command::Generate(args) => completions::generate(session, &args),
    }
}
