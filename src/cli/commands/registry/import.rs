//! `kdk registry database import`: from link files to the database.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use camino::Utf8PathBuf;
use serde_json::json;

use super::configuration;
use crate::cli::Session;
use crate::cli::commands::database;
use crate::cli::error::CommandError;
use crate::doctor::storage;
use crate::registry::admin;
use crate::registry::config::{Source, duration};
use crate::registry::maintenance::import::{Event, Options};
use crate::sys::clock::Clock;

/// What is left out is shown up to this many times; the log has it all.
const SHOWN: usize = 20;

/// Arguments of `kdk registry database import`.
#[derive(Clone, Debug, Default, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct ImportArgs {
    /// The configuration (default: the root's registry/config.yml)
    pub config: Option<Utf8PathBuf>,
    /// Write nothing; say what would be brought in, and what left out
    #[arg(short, long)]
    pub dry_run: bool,
    /// Say how many rows each table has afterwards
    #[arg(short = 'c', long)]
    pub row_count: bool,
    /// Only step one: manifests with all that they refer to
    #[arg(short = '1', long, visible_alias = "pre-import", short_alias = 'p')]
    pub step_one: bool,
    /// Only step two: tags
    #[arg(short = '2', long, visible_alias = "all-repositories", short_alias = 'r')]
    pub step_two: bool,
    /// Only step three: blobs that nothing refers to
    #[arg(short = '3', long, visible_alias = "common-blobs", short_alias = 'B')]
    pub step_three: bool,
    /// Write the detailed log to standard output
    #[arg(short, long)]
    pub log_to_stdout: bool,
    /// Directory of the detailed log (default: .kdk of the root; elsewhere the system's temporary one)
    #[arg(long, value_name = "DIR")]
    pub log_directory: Option<Utf8PathBuf>,
    /// Let step one pass over repositories that it finished within this time, such as 72h (default: 0, none)
    #[arg(long, value_name = "TIME")]
    pub pre_import_skip_recent: Option<String>,
    /// Add media types that nobody used before; `=false` leaves such images out (default: true)
    #[arg(short = 'm', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub dynamic_media_types: Option<bool>,
    /// Keep numbers of the import in the database (default: true)
    #[arg(short = 'i', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub import_statistics: Option<bool>,
    /// Accepted for the Go binary's sake, which serves its profiler there
    #[arg(short = 's', long, hide = true, value_name = "ADDRESS")]
    pub debug_server: Option<String>,
    /// Accepted for the Go binary's sake; several repositories are imported at once
    #[arg(short, long, hide = true)]
    pub tag_concurrency: Option<u8>,
}

/// Imports, with a bar on a terminal.
pub fn run(session: &Session, args: &ImportArgs) -> Result<(), CommandError> {
    let source = configuration(session, args.config.clone())?;
    let root = session
        .config()
        .ok()
        .filter(|config| config.root().registry_config() == source.path);
    let beside = root.map(|config| config.root().state());
    let args = &ImportArgs {
        log_directory: args.log_directory.clone().or(beside),
        ..args.clone()
    };
    if args.dry_run && !args.row_count {
        // It takes no database.
        return import(session, &source, args);
    }
    let own = database::is_of_own_server(session, &source);
    database::with_server_of(session, &source, || {
        if own && !args.dry_run {
            let config = session.config()?;
            if database::make(session, &config)? && storage::is_in_database(&config) {
                return Err(CommandError::user(format!(
                    "the database {} is new and empty, although the storage says that its metadata are in one: is registry.database right?",
                    config.registry_database_dbname()
                ))
                .hint("set it back, or restore the database from a backup; to start over: kdk reset-registry-data"));
            }
        }
        import(session, &source, args)
    })
}

/// Imports what a configuration's storage holds.
pub fn import(session: &Session, source: &Source, args: &ImportArgs) -> Result<(), CommandError> {
    let ui = &session.ui;
    let all = !(args.step_one || args.step_two || args.step_three);
    let skip_recent = match args.pre_import_skip_recent.as_deref() {
        None | Some("0") => None,
        Some(text) => Some(duration::parse(text).map_err(|error| CommandError::user(error.to_string()))?),
    };
    let options = Options {
        manifests: all || args.step_one,
        tags: all || args.step_two,
        blobs: all || args.step_three,
        dry_run: args.dry_run,
        new_media_types: args.dynamic_media_types.unwrap_or(true),
        statistics: args.import_statistics.unwrap_or(true),
        skip_recent,
    };
    if args.debug_server.is_some() {
        ui.warn("--debug-server has no effect: there is no profiler to serve");
    }
    let log = Log::open(args)?;
    if let Some(path) = &log.path {
        ui.say(&format!("registry import starting, detailed log written to: {path}"));
    }
    let skipped: Mutex<HashSet<(String, String)>> = Mutex::default();
    let progress = ui.progress("reading the storage");
    let outcome = admin::import(source, options, args.row_count, &|event| {
        match &event {
            Event::Step(title) => {
                progress.set(title);
                ui.say(title);
            }
            Event::Progress { done, total } => progress.at(*done, *total),
            Event::Skipped { what, reason, partly } => {
                let mut skipped = skipped.lock().unwrap_or_else(PoisonError::into_inner);
                // Several others may refer to it.
                if skipped.insert((what.clone(), reason.clone())) && skipped.len() <= SHOWN {
                    ui.warn(&if *partly {
                        format!("{what} is imported without {reason}")
                    } else {
                        format!("{what} is left out: {reason}")
                    });
                }
            }
        }
        log.write(session, &event);
    });
    drop(progress);
    let (counts, rows) = outcome?;
    let skipped = skipped.into_inner().unwrap_or_else(PoisonError::into_inner).len();
    if skipped > SHOWN {
        ui.warn(&format!("{} more are left out; the log names them", skipped - SHOWN));
    }
    ui.out(&format!(
        "{} repositories, {} tags, {} manifests, {} blobs ({})",
        counts.repositories,
        counts.tags,
        counts.manifests,
        counts.blobs,
        indicatif::BinaryBytes(counts.bytes.unsigned_abs())
    ));
    if counts.untagged > 0 {
        ui.say(&format!(
            "{} untagged manifests, which nothing tagged refers to, stay behind",
            counts.untagged
        ));
    }
    for (table, count) in rows {
        ui.out(&format!("{table:<26} {count:>10}"));
    }
    if options.manifests && counts.manifests == 0 && skipped > 0 {
        return Err(
            CommandError::user("every image is broken or left out; nothing was imported")
                .hint("see what is wrong with: kdk registry verify"),
        );
    }
    if args.dry_run {
        ui.say("Nothing was written: this was a dry run.");
    } else {
        log.line(session, &json!({"level": "info", "msg": "metadata import complete"}));
        // Whoever waits for the end waits for these words.
        ui.out("registry import complete");
    }
    Ok(())
}

struct Log {
    file: Mutex<Option<std::fs::File>>,
    path: Option<Utf8PathBuf>,
}

impl Log {
    fn open(args: &ImportArgs) -> Result<Self, CommandError> {
        if args.log_to_stdout {
            return Ok(Self {
                file: Mutex::new(None),
                path: None,
            });
        }
        let directory = args
            .log_directory
            .clone()
            .map_or_else(std::env::temp_dir, Utf8PathBuf::into_std_path_buf);
        // Made anew and for this user alone: the directory may be everybody's.
        let (file, path) = tempfile::Builder::new()
            .prefix(&format!(
                "registry-import-{}-",
                Clock::System.now().strftime("%Y%m%d%H%M%S")
            ))
            .suffix(".log")
            .tempfile_in(&directory)
            .and_then(|file| Ok(file.keep()?))
            .map_err(|error| CommandError::user(format!("cannot write a log in {}: {error}", directory.display())))?;
        let path = Utf8PathBuf::try_from(path).map_err(|error| CommandError::user(error.to_string()))?;
        Ok(Self {
            file: Mutex::new(Some(file)),
            path: Some(path),
        })
    }

    fn write(&self, session: &Session, event: &Event) {
        match event {
            Event::Step(title) => self.line(session, &json!({"level": "info", "msg": title})),
            Event::Skipped { what, reason, partly } => {
                self.line(
                    session,
                    &json!({"level": "warn", "msg": if *partly { "a part is left out" } else { "left out" }, "what": what, "reason": reason}),
                );
            }
            Event::Progress { .. } => {}
        }
    }

    fn line(&self, session: &Session, fields: &serde_json::Value) {
        let mut fields = fields.clone();
        fields["time"] = Clock::System.now().to_string().into();
        match &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            // A log that cannot be written does not end the import.
            Some(file) => drop(writeln!(file, "{fields}")),
            None => session.ui.out(&fields.to_string()),
        }
    }
}
