//! Judging a whole `kdk.yml`: unknown keys, wrong kinds, contradictions.

use serde_json::{Map, Value};

use super::schema::{INERT, REMOVED, SECTIONS};
use super::types::Kind;
use super::{Config, Position, Problem, edit, settings, storage};
use crate::sys::net::is_loopback_literal;

/// Returns everything that is wrong, in the order of the file.
pub fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    walk(config, "", &config.tree, &mut found);
    if found.is_empty() {
        contradictions(config, &mut found);
    }
    found.sort_by_key(|problem| problem.position.map(|at| (at.line, at.column)));
    found
}

fn problem(config: &Config, key: &str, message: String, hint: Option<String>) -> Problem {
    let position: Option<Position> = edit::position(&config.text, key);
    Problem {
        path: config.root.kdk_yml(),
        position,
        message,
        hint,
    }
}

fn walk(config: &Config, section: &str, map: &Map<String, Value>, found: &mut Vec<Problem>) {
    for (name, value) in map {
        let key = if section.is_empty() {
            name.clone()
        } else {
            format!("{section}.{name}")
        };
        if let Some(setting) = settings::find(&key).filter(|setting| setting.key == key) {
            if !value.is_null() && setting.kind.accept(value).is_err() {
                let shown = if setting.is_secret() {
                    "(secret)".to_owned()
                } else {
                    short(value)
                };
                found.push(problem(
                    config,
                    &key,
                    format!("{key} must be {}, not {shown}", setting.kind.name()),
                    None,
                ));
            }
            if matches!(setting.kind, Kind::Text | Kind::Secret | Kind::Host | Kind::Path)
                && let (Value::Number(number), Some(written)) = (value, edit::written(&config.text, &key))
                && number.to_string() != written
            {
                let message = format!("{key} is read as {number}, not as {written}");
                found.push(problem(config, &key, message, Some(format!("quote it: \"{written}\""))));
            }
        } else if settings::is_section(&key) {
            match value {
                Value::Object(inner) => walk(config, &key, inner, found),
                Value::Null => {}
                _ => found.push(problem(
                    config,
                    &key,
                    format!("{key} is a section of settings, not {}", short(value)),
                    None,
                )),
            }
        } else if let Some((_, instead)) = REMOVED
            .iter()
            .find(|(old, _)| *old == key)
            .filter(|_| !section.is_empty())
        {
            found.push(problem(
                config,
                &key,
                format!("{key} does not exist any more"),
                Some((*instead).to_owned()),
            ));
        } else if !section.is_empty() && !INERT.has(&key) {
            found.push(unknown(config, &key));
        } else if section.is_empty()
            && settings::find(&name.replace(' ', "")).is_none()
            && name.contains('.')
            && settings::all().any(|setting| setting.key == name)
        {
            found.push(problem(
                config,
                &key,
                format!("the key {name:?} must not contain dots"),
                Some("write sections as nested maps, as kdk config set does".to_owned()),
            ));
        } else if section.is_empty()
            && let Some(near) = nearly_ours(name)
        {
            found.push(problem(
                config,
                &key,
                format!("there is no section {name:?}"),
                Some(format!("did you mean {near:?}?")),
            ));
        }
    }
}

fn unknown(config: &Config, key: &str) -> Problem {
    let hint = settings::nearest(key).map(|near| format!("did you mean {near}?"));
    let hint = hint.unwrap_or_else(|| "see: kdk config list".to_owned());
    problem(config, key, format!("there is no setting {key}"), Some(hint))
}

/// Returns the managed name that an unmanaged top-level name nearly is.
fn nearly_ours(name: &str) -> Option<&'static str> {
    let top = settings::all()
        .map(|setting| setting.key)
        .filter(|key| !key.contains('.'));
    SECTIONS
        .iter()
        .copied()
        .chain(top)
        .filter(|known| known.len() > 3)
        .find(|known| strsim::damerau_levenshtein(known, name) == 1)
}

fn short(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Object(_) => "a map".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    }
}

fn contradictions(config: &Config, found: &mut Vec<Problem>) {
    ports(config, found);
    database_name(config, found);
    let exclusive: Vec<&str> = [
        ("registry.version", config.registry_version() != "embedded"),
        ("registry.bin", config.registry_bin().is_some()),
        ("registry.image", config.registry_image().is_some()),
        ("registry.mode", config.registry_mode() == "external"),
    ]
    .into_iter()
    .filter_map(|(key, set)| set.then_some(key))
    .collect();
    if let [first, .., last] = exclusive.as_slice() {
        let message = format!("{first} and {last} exclude each other");
        let hint = format!("remove one: kdk config unset {first}, or kdk config unset {last}");
        found.push(problem(config, last, message, Some(hint)));
    }
    let others = config.faults_of_others().into_iter();
    found.extend(others.map(|(key, message, hint)| problem(config, key, message, hint)));
    if let Some(url) = config.registry_external_url() {
        let is_host = |host: &str| {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            bare.parse::<std::net::IpAddr>().is_ok()
                || host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        let usable = url::Url::parse(&url)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(is_host));
        if !usable {
            found.push(problem(
                config,
                "registry.external_url",
                format!("registry.external_url must be a URL such as https://registry.example.com, not {url:?}"),
                None,
            ));
        }
    }
    for (key, pattern) in config
        .protected_config_files()
        .iter()
        .map(|pattern| ("kdk.protected_config_files", pattern))
    {
        if pattern.starts_with('/') {
            found.push(problem(
                config,
                key,
                format!("{key}: {pattern:?} must be relative to the root"),
                None,
            ));
        }
    }
    if let Some(address) = config.registry_debug_addr() {
        let usable = address
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !usable {
            let message = format!("registry.debug_addr must be host:port, not {address:?}");
            found.push(problem(config, "registry.debug_addr", message, None));
        }
    }
    if config
        .registry_config()
        .get("http")
        .and_then(|http| http.get("addr"))
        .is_some()
    {
        let message = "registry.config must not set http.addr: nothing else would know of it".to_owned();
        let hint = "set registry.listen_address and registry.port".to_owned();
        found.push(problem(config, "registry.config", message, Some(hint)));
    }
    realm(config, found);
    storage_section(config, found);
    if config.registry_internal_key().is_some() != config.registry_internal_certificate().is_some() {
        let key = if config.registry_internal_key().is_some() {
            "registry.internal_key"
        } else {
            "registry.internal_certificate"
        };
        found.push(problem(
            config,
            key,
            "registry.internal_key and registry.internal_certificate go together; one is missing".to_owned(),
            None,
        ));
    }
    if config
        .relative_url_root()
        .contains(|c: char| !(c.is_ascii_alphanumeric() || "/-_.".contains(c)))
    {
        found.push(problem(
            config,
            "relative_url_root",
            "relative_url_root must be a path such as /khulnasoft".to_owned(),
            None,
        ));
    }
}

fn storage_section(config: &Config, found: &mut Vec<Problem>) {
    let Some(given) = config.registry_storage() else { return };
    let stated = |key: &str, value: bool| config.is_given(key).then_some(value);
    let faults = storage::faults(
        &given,
        stated("registry.redirect", config.registry_redirect()),
        stated("registry.read_only_maintenance_enabled", config.registry_read_only()),
    );
    found.extend(
        faults
            .into_iter()
            .map(|(key, message)| problem(config, &key, message, None)),
    );
}

/// A client follows the realm with its credentials. From another machine, a
/// loopback realm would lead it to itself.
fn realm(config: &Config, found: &mut Vec<Problem>) {
    if !config.runs_registry()
        || !config.registry_auth_enabled()
        || config.has_one_origin()
        || is_loopback_literal(&config.registry_listen_address())
    {
        return;
    }
    let realm = config.registry_token_realm();
    let local = url::Url::parse(&realm)
        .ok()
        .and_then(|url| url.host_str().map(is_loopback_literal))
        .unwrap_or(false);
    if local {
        let key = [
            "registry.token_realm",
            "registry.listen_address",
            "listen_address",
            "hostname",
        ]
        .into_iter()
        .find(|key| config.is_given(key))
        .unwrap_or("registry.listen_address");
        let message = format!(
            "the registry listens on {}, so other machines can reach it, but it would send them for tokens to {realm}, which leads to their own machine",
            config.registry_listen_address()
        );
        let hint = if key == "registry.token_realm" {
            "leave it to the registry's own address: kdk config unset registry.token_realm"
        } else {
            "set hostname to a name that others know, as by: kdk config set hostname kdk.test"
        };
        found.push(problem(config, key, message, Some(hint.to_owned())));
    }
}

/// Checks that the metadata database is one that may be made and removed.
fn database_name(config: &Config, found: &mut Vec<Problem>) {
    const OTHERS: [&str; 4] = ["postgres", "template0", "template1", "kdk_registry_template"];
    const LONGEST: usize = 63;
    let name = config.registry_database_dbname();
    let message = if OTHERS.contains(&name.as_str()) {
        format!("`registry.database.dbname` is {name}, which the server or kdk needs for itself")
    } else if name.is_empty() || name.len() > LONGEST {
        format!(
            "`registry.database.dbname` has {} bytes; PostgreSQL takes 1 to {LONGEST}",
            name.len()
        )
    } else {
        return;
    };
    let hint = "give it a name of its own, such as registry_dev".to_owned();
    found.push(problem(config, "registry.database.dbname", message, Some(hint)));
}

fn ports(config: &Config, found: &mut Vec<Problem>) {
    let debug = config
        .registry_debug_addr()
        .and_then(|address| address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()));
    let claims = [
        ("port", Some(config.port()), config.rails_mode() == "embedded"),
        ("registry.port", Some(config.registry_port()), config.runs_registry()),
        (
            "registry.backend_port",
            Some(config.registry_backend_port()),
            config.registry_has_front(),
        ),
        ("registry.debug_addr", debug, config.runs_registry()),
        (
            "postgresql.port",
            Some(config.postgresql_port()),
            config.postgresql_enabled(),
        ),
        (
            "object_store.port",
            Some(config.object_store_port()),
            config.object_store_enabled(),
        ),
    ];
    for (index, (key, port, enabled)) in claims.iter().enumerate() {
        let rival = claims[..index]
            .iter()
            .find(|(_, other, claimed)| *claimed && other == port);
        if *enabled
            && port.is_some()
            && let Some((other, ..)) = rival
        {
            let message = format!("`{key}` is {}, which `{other}` has already", port.unwrap_or_default());
            let at = if config.is_given(key) { key } else { other };
            found.push(problem(
                config,
                at,
                message,
                Some(format!(
                    "choose another, as by: kdk config set {key} {}",
                    port.unwrap_or_default().saturating_add(100)
                )),
            ));
        }
    }
}
