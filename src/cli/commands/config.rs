//! `kdk config`: read and change settings.

use std::process::Command;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::ui::{Tone, paint};
use crate::config::redact::{is_secret_key, redact};
use crate::config::schema::from_gitlab::{self, Here};
use crate::config::settings::{self, Setting};
use crate::config::{Config, ConfigError, edit, generate};
use crate::root::Root;

/// Subcommands of `kdk config`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  kdk config get registry.port\n  kdk config set registry.port 5100\n  kdk config list --show-origin\n  kdk config set registry.config '{http: {prefix: /registry/}}'"
)]
pub enum ConfigCommand {
    /// Print the values of settings or sections
    Get {
        /// Keys, such as registry.port
        #[arg(required = true, value_name = "KEY")]
        key: Vec<String>,
        /// Say where each value comes from
        #[arg(long)]
        show_origin: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change settings in kdk.yml: KEY VALUE, or any number of KEY=VALUE
    Set {
        /// Key, such as registry.port, and new value; lists as a,b,c and maps as YAML
        #[arg(required = true, value_name = "KEY[=]VALUE", allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Remove settings from kdk.yml, so that their defaults apply
    Unset {
        /// Keys, such as registry.port: all of them or none
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Print all settings
    List {
        /// Say where each value comes from
        #[arg(long)]
        show_origin: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Edit kdk.yml in your editor; only a valid file is kept
    Edit,
    /// Check kdk.yml
    Validate {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of kdk.yml, for editors
    Schema,
}

/// Carries out a subcommand.
pub fn run(session: &Session, command: ConfigCommand) -> Result<(), CommandError> {
    match command {
        ConfigCommand::Get {
            key,
            show_origin: true,
            json,
        } => list(session, &key, true, json),
        ConfigCommand::Get { key, json, .. } => get_all(session, &key, json),
        ConfigCommand::Set { words } => set(session, &pairs(&words)?),
        ConfigCommand::Unset { keys } => unset(session, &keys),
        ConfigCommand::List { show_origin, json } => list(session, &[], show_origin, json),
        ConfigCommand::Edit => edit_file(session),
        ConfigCommand::Validate { json } => validate(session, json),
        ConfigCommand::Schema => session.ui.json(&generate::schema()),
    }
}

fn unknown(key: &str) -> CommandError {
    let removed = |old: &str| key == old || key.strip_prefix(old).is_some_and(|rest| rest.starts_with('.'));
    if let Some((old, instead)) = crate::config::schema::REMOVED.iter().find(|(old, _)| removed(old)) {
        return CommandError::user(format!("{old} does not exist any more: {instead}"));
    }
    let hint = from_gitlab::find(key).map(|row| match row.here {
        Here::Keys(keys) => format!("that is GitLab's key; in kdk.yml it is {}", keys.join(" and ")),
        Here::Instead(what) => format!("that is GitLab's; here: {what}"),
        Here::NotApplicable(why) => format!("that is GitLab's, and not applicable here: {why}"),
    });
    let hint = hint.or_else(|| settings::nearest(key).map(|near| format!("did you mean {near}?")));
    let hint = hint.or_else(|| Some("see them all with: kdk config list".to_owned()));
    ConfigError::UnknownKey {
        key: key.to_owned(),
        hint,
    }
    .into()
}

fn known(key: &str) -> Result<&'static Setting, CommandError> {
    if let Some(setting) = settings::find(key) {
        return Ok(setting);
    }
    if settings::is_section(key) {
        return Err(CommandError::user(format!("{key} is a section, not a setting"))
            .hint(format!("see what is in it with: kdk config get {key}")));
    }
    Err(unknown(key))
}

/// Loads the settings for reading. One bad value must not hide the others.
fn lenient(session: &Session) -> Result<Config, CommandError> {
    let root = session.root()?;
    match Config::load(&root) {
        Ok(config) => Ok(config),
        Err(ConfigError::Problems(problems)) => {
            problems
                .iter()
                .for_each(|problem| session.ui.warn(&problem.to_string()));
            Ok(Config::parse_unchecked(&root, Config::text_of(&root)?)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints the value of one setting, or of several with their keys. Parts of
/// one key may also stand apart, as with KDK.
fn get_all(session: &Session, keys: &[String], as_json: bool) -> Result<(), CommandError> {
    let config = lenient(session)?;
    let joined = keys.join(".");
    if keys.len() == 1 || value_of(&config, &joined).is_ok() {
        return get(session, &config, &joined, as_json);
    }
    let mut values = Map::new();
    for key in keys {
        values.insert(key.clone(), value_of(&config, key)?.0);
    }
    if as_json {
        return session.ui.json(&values);
    }
    session.ui.out(yaml(&Value::Object(values))?.trim_end());
    Ok(())
}

/// Returns the value under a key, and whether it is a secret.
fn value_of(config: &Config, key: &str) -> Result<(Value, bool), CommandError> {
    Ok(match settings::find(key) {
        Some(setting) => (config.value(setting), setting.is_secret()),
        None if settings::is_section(key) => (section(config, key), false),
        None if let Some(setting) = settings::map_around(key) => {
            let inside = key
                .strip_prefix(setting.key)
                .unwrap_or_default()
                .trim_start_matches('.');
            let value = config.value(setting);
            let found = inside.split('.').try_fold(&value, |node, part| node.get(part));
            (found.cloned().unwrap_or(Value::Null), false)
        }
        None => return Err(unknown(key)),
    })
}

fn get(session: &Session, config: &Config, key: &str, as_json: bool) -> Result<(), CommandError> {
    let (value, secret) = value_of(config, key)?;
    if secret && !value.is_null() {
        session.ui.tip("this is a secret");
    }
    if as_json {
        return session.ui.json(&value);
    }
    match &value {
        Value::Null => {}
        Value::String(text) => session.ui.out(text.trim_end_matches('\n')),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items
                .iter()
                .filter_map(Value::as_str)
                .for_each(|item| session.ui.out(item));
        }
        Value::Object(_) | Value::Array(_) => session.ui.out(yaml(&value)?.trim_end()),
        scalar => session.ui.out(&scalar.to_string()),
    }
    Ok(())
}

/// Returns a section with its effective values; secrets are replaced.
fn section(config: &Config, key: &str) -> Value {
    let all = generate::list(config);
    let inside = all.iter().filter(|listed| {
        listed
            .setting
            .key
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with('.'))
    });
    let mut node = generate::nest(inside);
    for part in key.split('.') {
        node = node[part].take();
    }
    node
}

fn yaml(value: &Value) -> Result<String, CommandError> {
    serde_yaml::to_string(value).map_err(|error| CommandError::user(error.to_string()))
}

fn shown(setting: &Setting, value: &Value) -> String {
    match value {
        _ if setting.is_secret() => "(secret)".to_owned(),
        Value::Null => "nothing".to_owned(),
        Value::String(text) => format!("'{text}'"),
        other => format!("'{}'", redact(other)),
    }
}

/// Reads what a key is to be set to; says also what holds it.
fn wanted(key: &str, text: &str) -> Result<(&'static Setting, Value), CommandError> {
    if let Some(map) = settings::map_around(key) {
        // Environment variables are text, whatever it looks like.
        let parsed = serde_yaml::from_str(text).ok().filter(|_| map.key != "registry.env");
        return Ok((map, parsed.unwrap_or_else(|| Value::from(text))));
    }
    let setting = known(key)?;
    let value = setting.kind.parse(text).map_err(|wrong| {
        let given = if setting.is_secret() {
            "(secret)".to_owned()
        } else {
            format!("{text:?}")
        };
        let (key, kind) = (setting.key, wrong.wanted.name());
        CommandError::user(format!("{key} must be {kind}, not {given}; nothing was written"))
    })?;
    Ok((setting, value))
}

/// Sets keys, all of them or none: some hold only together.
fn set(session: &Session, pairs: &[(&str, &str)]) -> Result<(), CommandError> {
    let read: Result<Vec<_>, CommandError> = pairs.iter().map(|(key, text)| Ok((*key, wanted(key, text)?))).collect();
    let root = session.root()?;
    let _turn = edit::turn(&root)?;
    let config = load_for_edit(&root)?;
    let (mut text, mut private, mut done) = (config.text().to_owned(), false, Vec::new());
    for (key, (setting, value)) in read? {
        let is_inside = settings::map_around(key).is_some();
        let key = if is_inside { key } else { setting.key };
        let (before, given) = (config.value(setting), config.is_given(setting.key));
        // Of one that is wrong, the default counts.
        if !is_inside && given && before == value && config.problems().is_empty() {
            let value = shown(setting, &value);
            session.ui.warn(&format!("'{key}' is already set to {value}"));
            continue;
        }
        text = edit::set_in(&text, key, &value).map_err(|reason| not_editable(&root, reason))?;
        // A map may hold some, such as the key of an object store.
        private |= setting.is_secret() || is_secret_key(key) || redact(&value) != value;
        done.push(if is_inside {
            format!("'{key}' is now set, inside the map '{}'.", setting.key)
        } else {
            let was = match (given, before == value) {
                (_, true) => format!("explicitly setting {}", shown(setting, &before)),
                (true, false) => format!("previously {}", shown(setting, &before)),
                (false, false) => format!("previously using default {}", shown(setting, &before)),
            };
            format!("'{key}' is now set to {} ({was}).", shown(setting, &value))
        });
    }
    if !done.is_empty() {
        replace(&config, &text, private)?;
        done.iter().for_each(|line| session.ui.done(line));
        remind(session, &root)?;
    }
    Ok(())
}

/// Says what is to be done after an edit.
fn remind(session: &Session, root: &Root) -> Result<(), CommandError> {
    let left = load_for_edit(root)?.problems();
    for problem in &left {
        session.ui.warn(&format!("still wrong: {problem}"));
    }
    if left.is_empty() {
        session.ui.say("Don't forget to run 'kdk reconfigure'.");
    }
    Ok(())
}

/// Reads `KEY VALUE`, or any number of `KEY=VALUE`.
fn pairs(words: &[String]) -> Result<Vec<(&str, &str)>, CommandError> {
    match words {
        [key, value] if !key.contains('=') => return Ok(vec![(key, value)]),
        _ => {}
    }
    let split = words.iter().map(|word| {
        word.split_once('=').ok_or_else(|| {
            CommandError::user(format!("{word} has no value"))
                .hint(format!("name the value, too: kdk config set {word} VALUE"))
        })
    });
    split.collect()
}

/// Replaces the file, or says that it did not.
fn replace(config: &Config, edited: &str, private: bool) -> Result<(), CommandError> {
    let refused = |error: ConfigError| {
        let unwritten = matches!(error, ConfigError::Problems(_));
        let error = CommandError::from(error);
        if unwritten {
            error.hint("nothing was written; line and column are those of the edited text")
        } else {
            error
        }
    };
    edit::replace(config, edited, private).map_err(refused)
}

/// Loads the settings for an edit that may mend them: values may be wrong,
/// the YAML may not.
fn load_for_edit(root: &Root) -> Result<Config, CommandError> {
    Ok(Config::parse_unchecked(root, Config::text_of(root)?)?)
}

fn not_editable(root: &Root, reason: String) -> CommandError {
    ConfigError::NotEditable {
        path: root.kdk_yml(),
        reason,
    }
    .into()
}

fn unset(session: &Session, keys: &[String]) -> Result<(), CommandError> {
    let root = session.root()?;
    let _turn = edit::turn(&root)?;
    let config = load_for_edit(&root)?;
    let (mut text, mut gone) = (config.text().to_owned(), Vec::new());
    for key in keys {
        // A key that is no setting may be removed too: that is how a mistake is mended.
        let key = settings::find(key).map_or(key.as_str(), |setting| setting.key);
        match edit::unset_in(&text, key).map_err(|reason| not_editable(&root, reason))? {
            Some(edited) => {
                text = edited;
                gone.push(key);
            }
            None if settings::find(key).is_none() && !settings::is_section(key) => return Err(unknown(key)),
            None => session
                .ui
                .warn(&format!("'{key}' is not set in kdk.yml; its default already applies")),
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    replace(&config, &text, false)?;
    let after = Config::parse_unchecked(&root, text);
    for key in gone {
        let now = settings::find(key).map(|setting| {
            let value = after.as_ref().map_or(Value::Null, |config| config.value(setting));
            format!("; its default applies: {}", shown(setting, &value))
        });
        session
            .ui
            .done(&format!("'{key}' is removed{}.", now.unwrap_or_default()));
    }
    remind(session, &root)
}

/// Lists settings, all when no key is given.
fn list(session: &Session, keys: &[String], show_origin: bool, as_json: bool) -> Result<(), CommandError> {
    let config = lenient(session)?;
    let mut all = generate::list(&config);
    keys.iter().try_for_each(|key| value_of(&config, key).map(drop))?;
    let keys: Vec<&str> = keys
        .iter()
        .map(|key| settings::find(key).map_or(&**key, |found| found.key))
        .collect();
    all.retain(|listed| keys.is_empty() || keys.iter().any(|key| settings::is_related(listed.setting.key, key)));
    if as_json {
        let object: Map<String, Value> = all
            .iter()
            .map(|listed| {
                (
                    listed.setting.key.to_owned(),
                    json!({"value": listed.value, "origin": listed.origin.to_string()}),
                )
            })
            .collect();
        return session.ui.json(&object);
    }
    if show_origin {
        for listed in &all {
            let value = match &listed.value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let tone = match listed.origin {
                crate::config::Origin::File(_) => Tone::Strong,
                _ => Tone::Name,
            };
            session
                .ui
                .out_with_note(listed.setting.key, tone, &value, &listed.origin.to_string());
        }
        return Ok(());
    }
    session.ui.out("---");
    session.ui.out(yaml(&generate::nest(&all))?.trim_end());
    Ok(())
}

fn edit_file(session: &Session) -> Result<(), CommandError> {
    let root = session.root()?;
    let text = Config::text_of(&root)?;
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| crate::sys::env::var(name))
        .unwrap_or_else(|| "vi".to_owned());
    let draft = root.state().join("kdk.draft.yml");
    crate::sys::fs::create_private_dir(&root.state())?;
    if draft.exists() {
        session.ui.warn(&format!(
            "going on with the draft that was kept in {draft}; remove it to start anew"
        ));
    } else {
        crate::sys::fs::write_atomic(&draft, text.as_bytes(), crate::sys::fs::PRIVATE)?;
    }
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program)
        .args(words)
        .arg(&draft)
        .status()
        .map_err(|error| {
            CommandError::user(format!("cannot run the editor {program}: {error}")).hint("name another in EDITOR")
        })?;
    let edited = crate::sys::fs::read(&draft)?;
    if !status.success() {
        return Err(CommandError::user(format!(
            "the editor failed ({status}); kdk.yml is unchanged"
        )));
    }
    if edited == text {
        crate::sys::fs::remove(&draft)?;
        session.ui.say("kdk.yml is unchanged.");
        // It may be wrong still.
        return Ok(Config::load(&root).map(drop)?);
    }
    let config = match Config::parse_unchecked(&root, text) {
        Ok(config) => config,
        Err(_) => Config::defaults(&root).with_text(Config::text_of(&root)?),
    };
    let _turn = edit::turn(&root)?;
    edit::replace(&config, &edited, false).map_err(|error| {
        CommandError::from(error).hint(format!("kdk.yml is unchanged; your draft is kept in {draft}"))
    })?;
    crate::sys::fs::remove(&draft)?;
    session.ui.done("kdk.yml is saved.");
    remind(session, &root)?;
    Ok(())
}

fn validate(session: &Session, as_json: bool) -> Result<(), CommandError> {
    let root = session.root()?;
    let outcome = Config::load(&root);
    if as_json {
        let problems: Vec<Value> = match &outcome {
            Ok(_) => Vec::new(),
            Err(ConfigError::Problems(problems)) => problems
                .iter()
                .map(|problem| json!({"file": problem.path, "line": problem.position.map(|at| at.line), "column": problem.position.map(|at| at.column), "message": problem.message, "hint": problem.hint}))
                .collect(),
            Err(error) => vec![json!({"file": root.kdk_yml(), "message": error.to_string()})],
        };
        session
            .ui
            .json(&json!({"valid": problems.is_empty(), "problems": problems}))?;
        return if problems.is_empty() {
            Ok(())
        } else {
            Err(CommandError::silent(crate::cli::error::USER))
        };
    }
    outcome?;
    session
        .ui
        .done(&format!("{} is valid", paint(Tone::Name, root.kdk_yml().as_str())));
    Ok(())
}
