//! `kdk reconfigure`: bring everything in line with kdk.yml.

use clap::Args;

use super::diff_config::show_diff;
use super::run_state;
use crate::certs::{Verdict, exchange};
use crate::cli::Session;
use crate::cli::error::{CommandError, WOULD_CHANGE};
use crate::config::Config;
use crate::doctor::preflight;
use crate::reconfigure::applied::{Applied, Change};
use crate::reconfigure::{Action, Plan, apply, plan};
use crate::services::{self, REGISTRY, source};
use crate::supervisor::protocol::StateName;
use crate::sys::clock::Clock;
use crate::sys::fs::Lock;

/// Arguments of `kdk reconfigure`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Exit codes: 0 done or nothing to do, 1 failed, 3 --dry-run and something would change.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct ReconfigureArgs {
    /// Change nothing; exit with 3 when something would change
    #[arg(long)]
    dry_run: bool,
    /// Do not restart running services; say which ones should be
    #[arg(long)]
    no_restart: bool,
    /// Show what changes in the files, and where their old versions are kept
    #[arg(long, short)]
    verbose: bool,
    /// Whether new files are passed over: the root was made a moment ago
    #[arg(skip)]
    brief: bool,
    /// Whether clients are told of a new certificate afterwards
    #[arg(skip)]
    trusts: bool,
}

impl ReconfigureArgs {
    /// Those of a `kdk up`, which may have made the root a moment ago.
    pub fn for_up(made: bool, trusts: bool) -> Self {
        Self {
            brief: made,
            trusts,
            ..Self::default()
        }
    }
}

/// Plans, shows, applies, restarts.
pub fn run(session: &Session, args: &ReconfigureArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    if args.dry_run {
        let plan = plan(&config, Clock::System.now())?;
        preflight::check(&config, &plan)?;
        return dry_run(session, &config, &plan);
    }
    if !bring_in_line(session, &config, args)? {
        session.ui.done("Nothing to change: everything is as kdk.yml says.");
    }
    Ok(())
}

/// Brings everything in line with the settings; says what it did, and returns
/// whether there was anything to do.
pub fn bring_in_line(session: &Session, config: &Config, args: &ReconfigureArgs) -> Result<bool, CommandError> {
    let ui = &session.ui;
    let now = Clock::System.now();
    let root = config.root();
    crate::sys::fs::create_private_dir(&root.state())?;
    let _lock = Lock::take(&root.reconfiguring())?;
    exchange::finish_locked(&root.state())?;
    let plan = plan(config, now)?;
    preflight::check(config, &plan)?;
    let before = Applied::load(config);
    let left = preflight::images_left(config);
    plan.notices.iter().chain(&left).for_each(|notice| ui.warn(notice));
    get_image(session, config)?;
    let built = build(session, config);
    if source::is_pending(config)
        && let Err(error) = built
    {
        // Nothing is written for what is not there; what runs goes on as it is.
        return Err(error.hint("nothing was written: correct registry.version, or run kdk reconfigure again"));
    }
    warn_of_edits(session, config, before.as_ref(), &plan);
    let new = args.brief;
    if !new {
        let say = |line: &str| ui.say(line);
        show_certificates(session, config, &plan, &say);
        show_files(session, config, &plan, args.verbose, &say);
    }
    let applied = {
        let _progress = ui.progress("writing files and certificates");
        let applied = apply(config, &plan, now)?;
        services::container::give_files(config)?;
        applied
    };
    if args.verbose {
        for backup in &applied.backups {
            ui.say(&format!("  the old version is kept in {}", root.relative(backup)));
        }
    }
    if let Some(before) = Applied::load(config) {
        before.with_files(config, &plan).save(config)?;
    }
    super::roots::enter(session, config);
    services::limit_logs(config)?;
    let prepared = super::database::prepare(session, config);
    // What was written must come to be used, but for a registry that would not work.
    let keeps_registry = built.is_err() || prepared.is_err();
    let restarted = restart(session, config, args.no_restart, keeps_registry);
    let changes = before.as_ref().map(|before| before.changes(config));
    let rebuilt = matches!(built, Ok(Some(source::Prepared::Built(_))));
    let touched = restarted.as_ref().ok().cloned().unwrap_or_default();
    let did = plan.changes_anything() || rebuilt || touched.is_something();
    let has_failed = built.is_err() || prepared.is_err() || restarted.is_err();
    // What was done is said, whatever failed beside it.
    if did && !new {
        let summary = summary(config, &plan, changes.as_deref(), &touched, args.verbose);
        if has_failed {
            ui.say(&format!("  {summary}"));
        } else {
            ui.done(&summary);
        }
    }
    tell_clients(session, config, before.as_ref(), applied.trust_again && !args.trusts);
    let mut failures: Vec<CommandError> = [built.map(drop), prepared, restarted.map(drop)]
        .into_iter()
        .filter_map(Result::err)
        .collect();
    if let Some(last) = failures.pop() {
        for failure in failures {
            ui.error(&failure.message);
            failure.hints.iter().for_each(|hint| ui.hint(hint));
        }
        return Err(last);
    }
    Applied::of(config, &plan).save(config)?;
    Ok(did)
}

/// Says what clients are to be told after a change.
fn tell_clients(session: &Session, config: &Config, before: Option<&Applied>, trust_again: bool) {
    if trust_again && config.registry_self_signed() {
        session
            .ui
            .tip("the registry's certificate is new; let clients trust it with: kdk trust-docker-registry");
    }
    let told_https = |before: &Applied| before.differs(config, &["registry.self_signed"]);
    if before.is_some_and(told_https) && !config.registry_self_signed() {
        session
            .ui
            .tip("clients were told of HTTPS; tell them of plain HTTP with: kdk trust-docker-registry");
    }
    let moved = before.is_some_and(|before| before.differs(config, &ADDRESS));
    let here = config.registry_enabled() && config.rails_mode() == "embedded";
    if moved && here && config.registry_auth_enabled() {
        session
            .ui
            .tip("logins at the old address do not count at the new one; log in with: kdk login");
    }
}

/// Says which files somebody changed, before they are written anew.
fn warn_of_edits(session: &Session, config: &Config, before: Option<&Applied>, plan: &Plan) {
    for path in before.map(|before| before.edited(plan)).unwrap_or_default() {
        let name = config.root().relative(&path);
        session.ui.warn(&format!(
            "{name} was changed by hand and is overwritten from kdk.yml; the changed version is kept in {}; to protect such a file: kdk config set kdk.protected_config_files {name}",
            config.root().relative(&config.root().backups())
        ));
    }
}

/// Settings that say under which address clients keep their login.
const ADDRESS: [&str; 3] = ["registry.host", "registry.port", "registry.external_url"];
/// Changed settings that are named without being asked for.
const NAMED: usize = 3;

/// Says in a line what was done.
fn summary(config: &Config, plan: &Plan, changes: Option<&[Change]>, touched: &Touched, verbose: bool) -> String {
    let updated: Vec<&str> = plan
        .files
        .iter()
        .filter(|file| file.action == Action::Update)
        .map(|file| config.root().relative(&file.path).as_str())
        .collect();
    let first = match changes {
        Some(changes) if !changes.is_empty() => {
            let shown = if verbose { changes.len() } else { NAMED };
            let named: Vec<String> = changes.iter().take(shown).map(ToString::to_string).collect();
            let more = changes.len().saturating_sub(shown);
            let more = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more settings")
            };
            format!("Changed {}{more}", named.join(", "))
        }
        // No setting changed: somebody edited the files, or another version wrote them.
        Some(_) if !updated.is_empty() => format!("Rewrote {} as kdk.yml says", updated.join(", ")),
        _ => "Successfully reconfigured!".to_owned(),
    };
    let list = |did: &str, names: &[String]| (!names.is_empty()).then(|| format!("{did} {}", names.join(", ")));
    let rest: Vec<String> = [
        list("restarted", &touched.restarted),
        list("stopped", &touched.stopped),
        list("not restarted", &touched.stale),
    ]
    .into_iter()
    .flatten()
    .collect();
    match (first.ends_with('!'), rest.is_empty()) {
        (true, true) => first,
        (true, false) => format!("{first} Also {}.", rest.join("; ")),
        (false, true) => format!("{first}."),
        (false, false) => format!("{first}; {}.", rest.join("; ")),
    }
}

/// What a reconfigure did to services.
#[derive(Clone, Debug, Default)]
struct Touched {
    restarted: Vec<String>,
    stopped: Vec<String>,
    /// What goes on with older settings, since it was to be left alone.
    stale: Vec<String>,
}

impl Touched {
    fn is_something(&self) -> bool {
        !(self.restarted.is_empty() && self.stopped.is_empty() && self.stale.is_empty())
    }
}

/// Builds the development version that the settings ask for, if they do.
fn build(session: &Session, config: &Config) -> Result<Option<source::Prepared>, CommandError> {
    if !source::is_wanted(config) {
        return Ok(None);
    }
    let progress = session.ui.progress("preparing the registry");
    let prepared = source::prepare(config, |line| {
        progress.set(line);
        session.ui.say(&format!("  {line}"));
    })?;
    Ok(Some(prepared))
}

/// Gets the image that the settings name, where the engine does not have it.
fn get_image(session: &Session, config: &Config) -> Result<(), CommandError> {
    if !config.runs_registry() {
        return Ok(());
    }
    let progress = session.ui.progress("looking for registry.image");
    services::container::prepare(config, |line| {
        progress.set(line);
        session.ui.say(&format!("  {line}"));
    })
    .map_err(|error| CommandError::from(error).hint("nothing was written"))
}

fn dry_run(session: &Session, config: &Config, plan: &Plan) -> Result<(), CommandError> {
    let ui = &session.ui;
    let left = preflight::images_left(config);
    plan.notices.iter().chain(&left).for_each(|notice| ui.warn(notice));
    warn_of_edits(session, config, Applied::load(config).as_ref(), plan);
    // The plan is what was asked for.
    let out = |line: &str| ui.out(line);
    show_certificates(session, config, plan, &out);
    show_files(session, config, plan, true, &out);
    if source::is_wanted(config) {
        out(&format!(
            "  {} would be fetched and, where it changed, built",
            config.registry_version()
        ));
    }
    let (mut stale, disabled) = out_of_date(config)?;
    // Files that are not written yet do not show in what runs.
    let running = services::supervisor(config.root()).status()?;
    for name in plan.affected(config) {
        let runs = running
            .iter()
            .any(|job| job.name == name && job.state != StateName::Down);
        if runs && !stale.iter().any(|known| known == name) && !disabled.iter().any(|known| known == name) {
            stale.push(name.to_owned());
        }
    }
    for name in &stale {
        out(&format!("  {name} would be restarted"));
    }
    for name in &disabled {
        out(&format!("  {name} would be stopped, since it is not enabled any more"));
    }
    if plan.changes_anything() || !stale.is_empty() || !disabled.is_empty() {
        ui.say("Nothing was changed: this was a dry run.");
        return Err(CommandError::silent(WOULD_CHANGE));
    }
    ui.done("Nothing would change.");
    Ok(())
}

/// Returns services that run with older settings, and such as are not enabled any more.
fn out_of_date(config: &Config) -> Result<(Vec<String>, Vec<String>), CommandError> {
    let catalogue = services::catalogue(config);
    let (mut stale, mut disabled) = (Vec::new(), Vec::new());
    for job in services::supervisor(config.root()).status()? {
        if job.state == StateName::Down {
            continue;
        }
        match catalogue.iter().find(|spec| spec.name == job.name) {
            None => disabled.push(job.name),
            Some(spec) if spec.fingerprint != job.fingerprint => stale.push(job.name),
            Some(_) => {}
        }
    }
    Ok((stale, disabled))
}

/// Restarts running services that read something new, and ends those that are
/// not enabled any more.
fn restart(session: &Session, config: &Config, only_say: bool, keeps_registry: bool) -> Result<Touched, CommandError> {
    let (mut stale, disabled) = out_of_date(config)?;
    if keeps_registry {
        // What ran before goes on running.
        stale.retain(|name| name != REGISTRY);
    }
    if only_say {
        if !stale.is_empty() {
            session
                .ui
                .tip(&format!("not restarted; do it with: kdk restart {}", stale.join(" ")));
        }
        if !disabled.is_empty() {
            session.ui.tip(&format!(
                "not enabled any more; stop with: kdk stop {}",
                disabled.join(" ")
            ));
        }
        return Ok(Touched {
            stale: [stale, disabled].concat(),
            ..Touched::default()
        });
    }
    // What they did is said once, at the end.
    if !disabled.is_empty() {
        run_state::stop_quietly(session, config.root(), &disabled)?;
    }
    if !stale.is_empty() {
        run_state::restart_quietly(session, config, &stale)?;
    }
    Ok(Touched {
        restarted: stale,
        stopped: disabled,
        stale: Vec::new(),
    })
}

/// Says what the plan does to certificates.
pub fn show_certificates(session: &Session, config: &Config, plan: &Plan, show: &dyn Fn(&str)) {
    let ui = &session.ui;
    let root = config.root();
    for pair in &plan.pairs {
        let name = root.relative(&pair.wanted.certificate);
        match &pair.verdict {
            Verdict::Keep => {}
            Verdict::Make => show(&format!(
                "  new certificate {name} for {} ({})",
                pair.wanted.purpose,
                pair.wanted.names.join(", ")
            )),
            Verdict::Renew(reason) => show(&format!("  renewed certificate {name}: {reason}")),
            Verdict::Complain(reason) => ui.warn(&format!(
                "{name}: {reason}; it was not made by kdk, so it is left alone: if that is not meant, {}",
                pair.wanted.remedy()
            )),
            Verdict::Useless(reason) => ui.warn(&format!(
                "{name}: {reason}: clients refuse it; it was not made by kdk, so it is left alone: {}",
                pair.wanted.remedy()
            )),
        }
    }
}

fn show_files(session: &Session, config: &Config, plan: &Plan, verbose: bool, show: &dyn Fn(&str)) {
    let ui = &session.ui;
    let root = config.root();
    for file in &plan.files {
        let name = root.relative(&file.path);
        match file.action {
            Action::Keep => {}
            Action::Create => show(&format!("  new file {name}")),
            Action::Restrict => show(&format!("  {name} is made readable by you alone")),
            Action::Protected => ui.warn(&format!(
                "Changes to '{name}' not applied because it's protected in kdk.yml."
            )),
            // The summary says which settings changed.
            Action::Update if !verbose => {}
            Action::Update => {
                show(&format!("  changed file {name}"));
                if !file.is_key {
                    show_diff(&file.old, &file.new, |line| show(&format!("  {line}")));
                }
            }
        }
    }
}
