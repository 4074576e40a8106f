//! `kdk registry database`: the schema of the metadata database.

use camino::Utf8PathBuf;
use clap::Subcommand;
use serde_json::json;

use super::configuration;
use crate::cli::Session;
use crate::cli::commands::database::{is_of_own_server, with_server_of};
use crate::cli::error::CommandError;
use crate::registry::admin::{self, Migrate};
use crate::registry::metadata::postgres::migrations::{self, Outcome};
use crate::sys::clock::monotonic;
use crate::sys::env::flag;

/// Leaves it out, too, as for the Go binary.
const SKIP_POST: &str = "SKIP_POST_DEPLOYMENT_MIGRATIONS";

/// Subcommands of `kdk registry database`.
#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Bring the metadata of existing images from files into the database
    #[command(
        after_help = "Without a step all three are done. The registry must be stopped or read-only.\n\nExamples:\n  kdk registry database import --dry-run\n  kdk registry database import registry/config.yml"
    )]
    Import(super::import::ImportArgs),
    /// Make, remove or look at the schema
    #[command(subcommand)]
    Migrate(MigrateCommand),
}

/// Subcommands of `kdk registry database migrate`.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Apply what is missing
    #[command(after_help = "Example:\n  kdk registry database migrate up")]
    Up {
        #[command(flatten)]
        args: MigrateArgs,
        /// Skip post-deployment migrations (also: SKIP_POST_DEPLOYMENT_MIGRATIONS=true)
        #[arg(short, long)]
        skip_post_deployment: bool,
    },
    /// Remove the schema from a database without repositories
    Down(MigrateArgs),
    /// List migrations, and when they were applied
    Status {
        #[command(flatten)]
        file: File,
        /// Print true if all required migrations are applied; else print false and exit with 1
        #[arg(short, long)]
        up_to_date: bool,
        /// Skip post-deployment migrations
        #[arg(short, long)]
        skip_post_deployment: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the id of the newest migration that is applied
    Version {
        #[command(flatten)]
        file: File,
    },
}

/// The configuration that is meant.
#[derive(Debug, clap::Args)]
pub struct File {
    /// The configuration (default: the root's registry/config.yml)
    config: Option<Utf8PathBuf>,
}

/// Arguments of `up` and `down`.
#[derive(Debug, clap::Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    file: File,
    /// Only say what would be done
    #[arg(short, long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short = 'f', long, alias = "force")]
    yes: bool,
    /// Limit the number of migrations; all are applied or removed together, so N must not be less than their total
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
    /// Like --limit, for post-deployment migrations; 0 skips them
    #[arg(short, long, value_name = "N")]
    post_deploy_limit: Option<usize>,
}

/// Carries out a subcommand.
pub fn run(session: &Session, command: DatabaseCommand) -> Result<(), CommandError> {
    let command = match command {
        DatabaseCommand::Import(args) => return super::import::run(session, &args),
        DatabaseCommand::Migrate(command) => command,
    };
    match command {
        MigrateCommand::Up {
            mut args,
            skip_post_deployment,
        } => {
            // None of them is the same as leaving them out.
            let skip_post =
                skip_post_deployment || flag(SKIP_POST) || args.post_deploy_limit.take_if(|most| *most == 0).is_some();
            migrate(session, args, Migrate::Up { skip_post })
        }
        MigrateCommand::Down(args) => {
            if !args.dry_run {
                let question = "Remove the schema of the metadata database?";
                session
                    .ui
                    .consent(question, args.yes, "KDK_REGISTRY_MIGRATE_DOWN_CONFIRM")?;
            }
            migrate(session, args, Migrate::Down)
        }
        MigrateCommand::Status {
            file,
            up_to_date,
            skip_post_deployment,
            json,
        } => {
            let skip_post = skip_post_deployment || flag(SKIP_POST);
            let source = configuration(session, file.config)?;
            let lines = with_server_of(session, &source, || Ok(admin::migrations_of(&source, skip_post)?))?;
            let missing = lines.iter().filter(|line| line.known && line.applied.is_none()).count();
            if up_to_date {
                session.ui.out(if missing == 0 { "true" } else { "false" });
                return if missing == 0 {
                    Ok(())
                } else {
                    Err(CommandError::user(format!("{missing} migrations are missing"))
                        .hint("apply them with: kdk registry database migrate up"))
                };
            }
            if json {
                for line in lines {
                    session.ui.out(
                        &json!({"id": line.id, "known": line.known, "applied_at": line.applied.map(|time| time.to_string())})
                            .to_string(),
                    );
                }
                return Ok(());
            }
            let rows: Vec<[String; 2]> = lines
                .into_iter()
                .map(|line| {
                    let applied = match line.applied {
                        _ if !line.known => "unknown migration".to_owned(),
                        None => "no".to_owned(),
                        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
                    };
                    [line.id, applied]
                })
                .collect();
            session.ui.out(&table(["MIGRATION", "APPLIED"], &rows));
            Ok(())
        }
        MigrateCommand::Version { file } => {
            let source = configuration(session, file.config)?;
            let version = with_server_of(session, &source, || Ok(admin::schema_version(&source)?))?;
            session
                .ui
                .out(&version.unwrap_or_else(|| "no database migrations have been applied yet".to_owned()));
            Ok(())
        }
    }
}

fn migrate(session: &Session, args: MigrateArgs, direction: Migrate) -> Result<(), CommandError> {
    check_limits(&args)?;
    let source = configuration(session, args.file.config)?;
    let began = monotonic();
    let own = is_of_own_server(session, &source);
    let outcome = with_server_of(session, &source, || {
        if own && !args.dry_run && matches!(direction, Migrate::Up { .. }) {
            // Empty: what is in it is what is asked for.
            admin::create_database(&source, false, &|_| {})?;
        }
        Ok(admin::migrate(&source, direction, args.dry_run)?)
    })?;
    if outcome.left > 0 {
        session.ui.warn(&format!(
            "{} of kdk's own migrations are left: this user may not apply them; run it again as the schema's owner",
            outcome.left
        ));
    }
    for id in outcome.ids() {
        session.ui.out(id);
    }
    if !args.dry_run {
        session
            .ui
            .out(&summary(direction, &outcome, began.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// The schema is made whole: less of it cannot be had.
fn check_limits(args: &MigrateArgs) -> Result<(), CommandError> {
    for (option, limit, all) in [
        ("--limit", args.limit, migrations::pre_deployment().count()),
        (
            "--post-deploy-limit",
            args.post_deploy_limit,
            migrations::post_deployment().count(),
        ),
    ] {
        if limit.is_some_and(|most| most < all) {
            return Err(CommandError::user(format!(
                "{option} is less than the {all} migrations there are, which are applied and removed as one"
            ))
            .hint("leave the option out"));
        }
    }
    Ok(())
}

/// Says it in the Go binary's words, which others parse.
fn summary(direction: Migrate, outcome: &Outcome, seconds: f64) -> String {
    let (pre, post) = (outcome.pre_deployment.len(), outcome.post_deployment.len());
    match direction {
        Migrate::Up { .. } => format!(
            "OK: applied {pre} pre-deployment migration(s), {post} post-deployment migration(s) and 0 background migration(s) in {seconds:.3}s"
        ),
        Migrate::Down => format!(
            "OK: removed {pre} pre-deployment migration(s) and {post} post-deployment migration(s) in {seconds:.3}s"
        ),
    }
}

/// Draws a table as the Go binary does.
fn table(head: [&str; 2], rows: &[[String; 2]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths = [width(0), width(1)];
    let line = format!("+{}+{}+", "-".repeat(widths[0] + 2), "-".repeat(widths[1] + 2));
    let mut lines = vec![
        line.clone(),
        format!("| {:^2$} | {:^3$} |", head[0], head[1], widths[0], widths[1]),
        line.clone(),
    ];
    lines.extend(
        rows.iter()
            .map(|row| format!("| {:<2$} | {:<3$} |", row[0], row[1], widths[0], widths[1])),
    );
    lines.push(line);
    lines.join("\n")
}
