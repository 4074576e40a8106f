//! `kdk doctor`: what keeps the registry from being used, and what helps.

use clap::Args;
use serde_json::{Value, json};

use super::error::{CommandError, USER};
use super::ui::{Tone, Ui, paint};
use crate::clients::shell::word;
use crate::doctor::finding::{Finding, Severity, Verdict};
use crate::doctor::scene::Scene;
use crate::doctor::{CHECKS, Check, examine};
use crate::root::Root;

/// Version of what `--json` prints.
const SCHEMA: u32 = 1;
/// Exit code for checks that could not be made.
const UNKNOWN: u8 = 3;
/// Variable that says yes beforehand.
const CONFIRM: &str = "KDK_DOCTOR_CONFIRM";

/// Arguments of `kdk doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is changed unless --fix is given, and then only after a yes. Ends with 0 when all is\nwell or there are warnings only, 1 for problems, 3 when something could not be checked.\n\nExamples:\n  kdk doctor\n  kdk doctor ports certificates\n  kdk doctor --fix\n  kdk doctor --json | jq '.checks[].findings[].id'"
)]
pub struct DoctorArgs {
    /// Checks to make (default: all)
    #[arg(value_name = "CHECK", value_parser = clap::builder::PossibleValuesParser::new(CHECKS.map(|(name, _)| name)))]
    checks: Vec<String>,
    /// Run what mends the findings, as far as that is safe
    #[arg(long)]
    fix: bool,
    /// Do not ask before that
    #[arg(long, short, requires = "fix")]
    yes: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "fix")]
    json: bool,
}

/// Says what checks that have to do with a failed command find, as far as the
/// command's own words do not say it.
pub fn related(ui: &Ui, root: &Root, names: &[&str], error: &CommandError) {
    let checks: Vec<Check> = CHECKS.into_iter().filter(|(name, _)| names.contains(name)).collect();
    let said = format!("{} {}", error.message, error.hints.join(" "));
    for (_, verdict) in examine(&Scene::of(root.clone()), &checks) {
        let Verdict::Found(findings) = verdict else { continue };
        for finding in findings.iter().filter(|finding| finding.severity == Severity::Problem) {
            let lines: Vec<String> = finding.fix.iter().map(|command| command.join(" ")).collect();
            let is_said = said.contains(&finding.evidence) || lines.iter().any(|line| said.contains(line));
            if !is_said {
                let remedy = lines.first().or(finding.by_hand.as_ref());
                let remedy = remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
                ui.warn(&format!("doctor found, too: {}{remedy}", finding.evidence));
            }
        }
    }
}

/// Examines a root, and mends what it finds when that is asked for.
pub fn run(ui: &Ui, root: &Root, args: &DoctorArgs) -> Result<(), CommandError> {
    let is_asked = |name: &str| args.checks.is_empty() || args.checks.iter().any(|asked| asked == name);
    let checks: Vec<Check> = CHECKS.into_iter().filter(|(name, _)| is_asked(name)).collect();
    let look = || {
        let _progress = ui.progress("looking at the root, its services and clients");
        examine(&Scene::of(root.clone()), &checks)
    };
    let mut verdicts = look();
    if args.json {
        ui.json(&described(root, &verdicts))?;
        return ended(&verdicts);
    }
    if args.fix {
        let mut done: Vec<Vec<String>> = Vec::new();
        loop {
            // What was mended may let more be seen.
            let mut plan = plan(&verdicts);
            plan.retain(|command| !done.contains(command));
            if plan.is_empty() {
                break;
            }
            mend(ui, root, &plan, args.yes)?;
            done.extend(plan);
            verdicts = look();
        }
        if done.is_empty() {
            ui.say("There is nothing that kdk could mend by itself.");
        }
    }
    show(ui, &verdicts);
    if !args.fix && !plan(&verdicts).is_empty() {
        ui.hint("let kdk run what is marked with * with: kdk doctor --fix");
    }
    ended(&verdicts)
}

fn findings<'a>(verdicts: &'a [(&'static str, Verdict)]) -> impl Iterator<Item = &'a Finding> {
    verdicts.iter().flat_map(|(_, verdict)| match verdict {
        Verdict::Found(findings) => findings.as_slice(),
        Verdict::Healthy | Verdict::Skipped(_) | Verdict::Unknown(_) => &[],
    })
}

fn ended(verdicts: &[(&'static str, Verdict)]) -> Result<(), CommandError> {
    if findings(verdicts).any(|finding| finding.severity == Severity::Problem) {
        return Err(CommandError::silent(USER));
    }
    if verdicts
        .iter()
        .any(|(_, verdict)| matches!(verdict, Verdict::Unknown(_)))
    {
        return Err(CommandError::silent(UNKNOWN));
    }
    Ok(())
}

/// Returns the commands that mend something and are safe, each once.
fn plan(verdicts: &[(&'static str, Verdict)]) -> Vec<Vec<String>> {
    let mut plan: Vec<Vec<String>> = Vec::new();
    for finding in findings(verdicts).filter(|finding| finding.is_safe) {
        for command in &finding.fix {
            if !plan.contains(command) {
                plan.push(command.clone());
            }
        }
    }
    // What starts something goes by what the others have made.
    plan.sort_by_key(|command| matches!(command.get(1).map(String::as_str), Some("start" | "restart")));
    plan
}

/// Runs a plan, which it shows before.
fn mend(ui: &Ui, root: &Root, plan: &[Vec<String>], yes: bool) -> Result<(), CommandError> {
    ui.say("This is run:");
    for command in plan {
        ui.say(&format!("  {}", line(command)));
    }
    ui.consent("Run it?", yes, CONFIRM)?;
    let exe = crate::sys::env::current_exe()?;
    for command in plan {
        ui.say(&format!("{} {}", paint(Tone::Strong, "$"), line(command)));
        let mut process = std::process::Command::new(&exe);
        let arguments = command.iter().skip(1);
        let status = process
            .args(["--root", root.path().as_str()])
            .args(arguments)
            .status()?;
        if !status.success() {
            ui.warn(&format!("{} failed ({status})", line(command)));
        }
    }
    Ok(())
}

fn line(command: &[String]) -> String {
    command.iter().map(|part| word(part)).collect::<Vec<_>>().join(" ")
}

fn show(ui: &Ui, verdicts: &[(&'static str, Verdict)]) {
    for finding in findings(verdicts) {
        let (mark, tone) = match finding.severity {
            Severity::Problem => ("✖", Tone::Bad),
            Severity::Warning => ("!", Tone::Odd),
        };
        ui.out(&format!("{} {}", paint(tone, mark), finding.evidence));
        if !finding.why.is_empty() {
            ui.out(&format!("  {}", finding.why));
        }
        let star = if finding.is_safe { "*" } else { " " };
        for command in &finding.fix {
            ui.out(&format!(
                " {star}{} {}",
                paint(Tone::Faint, "→"),
                paint(Tone::Name, &line(command))
            ));
        }
        if let Some(what) = &finding.by_hand {
            ui.out(&format!("  {} {what}", paint(Tone::Faint, "→")));
        }
    }
    for (name, verdict) in verdicts {
        if let Verdict::Unknown(reason) = verdict {
            ui.out(&format!(
                "{} {name} could not be checked: {reason}",
                paint(Tone::Odd, "?")
            ));
        }
    }
    let named = |wanted: fn(&Verdict) -> bool| -> Vec<&str> {
        let all = verdicts.iter().filter(|(_, verdict)| wanted(verdict));
        all.map(|(name, _)| *name).collect()
    };
    let healthy = named(|verdict| matches!(verdict, Verdict::Healthy));
    if !healthy.is_empty() {
        ui.out(&format!("{} {}", paint(Tone::Good, "✔"), healthy.join(", ")));
    }
    for (name, verdict) in verdicts {
        if let Verdict::Skipped(reason) = verdict {
            ui.out(&paint(Tone::Faint, &format!("- {name}: {reason}")));
        }
    }
}

fn described(root: &Root, verdicts: &[(&'static str, Verdict)]) -> Value {
    let checks: Vec<Value> = verdicts
        .iter()
        .map(|(name, verdict)| {
            let (word, findings, reason) = match verdict {
                Verdict::Healthy => ("healthy", json!([]), Value::Null),
                Verdict::Found(findings) => ("found", json!(findings), Value::Null),
                Verdict::Skipped(reason) => ("skipped", json!([]), json!(reason)),
                Verdict::Unknown(reason) => ("unknown", json!([]), json!(reason)),
            };
            json!({"check": name, "verdict": word, "findings": findings, "reason": reason})
        })
        .collect();
    json!({"version": SCHEMA, "root": root.path(), "checks": checks})
}
