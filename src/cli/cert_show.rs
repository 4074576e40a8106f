//! `kdk cert show`: each certificate, and what is really served.

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::CommandError;
use super::ui::{Tone, Ui, paint};
use crate::certs::{Authority, Facts, go_together, served};
use crate::config::Config;
use crate::services;
use crate::sys::clock::Clock;
use crate::sys::fs::{mode, read_optional};
use crate::sys::net::host_port;

/// A certificate that is looked at.
struct Pair {
    name: &'static str,
    file: Utf8PathBuf,
    /// Its key, where kdk has that.
    key: Option<Utf8PathBuf>,
    /// Where it is to be served: for people, to connect to, and by which name.
    places: Vec<(String, String, String)>,
}

/// Shows every certificate.
pub fn run(ui: &Ui, config: &Config, as_json: bool) -> Result<(), CommandError> {
    let authority = Authority::new(config.root().certificates());
    let now = Clock::System.now();
    let mut all = Vec::new();
    for pair in pairs(config) {
        let pem = read_optional(&pair.file)?;
        let facts = pem.as_deref().and_then(Facts::of);
        let is_ours = pair.name == "authority" || pem.as_deref().map_or(Ok(false), |pem| authority.has_made(pem))?;
        let served: Vec<(String, Result<Facts, String>)> = pair
            .places
            .iter()
            .map(|(shown, address, name)| (shown.clone(), look(address, name)))
            .collect();
        let key = pair.key.as_deref().map(|key| KeyState::of(key, pem.as_deref()));
        if as_json {
            all.push(described(&pair, facts.as_ref(), is_ours, key, &served));
        } else {
            show(ui, config, &pair, facts.as_ref(), is_ours, &served, now);
            show_key(ui, config, pair.key.as_deref().zip(key));
        }
    }
    if as_json {
        return ui.json(&json!({"certificates": all}));
    }
    Ok(())
}

fn pairs(config: &Config) -> Vec<Pair> {
    let root = config.root();
    let mut pairs = Vec::new();
    if root.authority().1.exists() {
        pairs.push(Pair {
            name: "authority",
            file: root.authority().0,
            key: Some(root.authority().1),
            places: Vec::new(),
        });
    }
    if config.runs_registry() && config.registry_self_signed() {
        let endpoint = services::public_endpoint(config);
        pairs.push(Pair {
            name: "registry",
            file: root.registry_pair().0,
            key: Some(root.registry_pair().1),
            places: vec![(
                config.registry_address(),
                services::reachable(&endpoint.host, endpoint.port),
                config.registry_host(),
            )],
        });
    }
    let external = config
        .registry_external_url()
        .and_then(|url| url::Url::parse(&url).ok());
    if let Some(url) = external.filter(|url| url.scheme() == "https")
        && let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default())
        && let Some(last) = pairs.iter_mut().find(|pair| pair.name == "registry")
    {
        last.places
            .push((url.to_string(), host_port(host, port), host.to_owned()));
    } else if let Some(url) = config.registry_external_url().filter(|url| url.starts_with("https:"))
        && let Ok(url) = url::Url::parse(&url)
        && let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default())
    {
        pairs.push(Pair {
            name: "proxy",
            file: Utf8PathBuf::new(),
            key: None,
            places: vec![(url.to_string(), host_port(host, port), host.to_owned())],
        });
    }
    if config.https_enabled() {
        let address = services::reachable(&config.listen_address(), config.port());
        pairs.push(Pair {
            name: "pages",
            file: config.https_pair().0,
            key: Some(config.https_pair().1),
            places: vec![(config.url(), address, config.hostname())],
        });
    }
    pairs.push(Pair {
        name: "tokens",
        file: config.path(&config.registry_rootcertbundle()),
        key: Some(config.path(&config.registry_key())),
        places: Vec::new(),
    });
    pairs
}

/// How a key is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyState {
    Good,
    Missing,
    /// It is not the certificate's.
    Another,
    /// Others may read it.
    Loose,
    /// This user may not.
    Unreadable,
}

impl KeyState {
    fn of(key: &Utf8Path, certificate: Option<&str>) -> Self {
        let text = match read_optional(key) {
            Ok(Some(text)) => text,
            Ok(None) => return Self::Missing,
            Err(_) => return Self::Unreadable,
        };
        let goes = certificate.and_then(|certificate| go_together(certificate, &text));
        match mode(key) {
            _ if certificate.is_some() && goes != Some(true) => Self::Another,
            Some(bits) if bits & 0o077 != 0 => Self::Loose,
            _ => Self::Good,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Missing => "missing",
            Self::Another => "another's",
            Self::Loose => "readable by others",
            Self::Unreadable => "unreadable",
        }
    }

    fn text(self) -> (Tone, &'static str) {
        match self {
            Self::Good => (Tone::Good, ""),
            Self::Missing => (Tone::Bad, ": it is missing"),
            Self::Another => (Tone::Bad, ": it does not go with the certificate"),
            Self::Loose => (Tone::Odd, ": others may read it, which ends with: chmod 600"),
            Self::Unreadable => (Tone::Odd, ": you may not read it"),
        }
    }
}

/// Asks a server for its certificate.
fn look(address: &str, name: &str) -> Result<Facts, String> {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let der = served(address, name).map_err(|error| error.to_string())?;
    Facts::of_der(&der).ok_or_else(|| "its certificate cannot be read".to_owned())
}

fn day(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .unwrap_or_default()
        .strftime("%Y-%m-%d")
        .to_string()
}

fn issuer(facts: &Facts) -> String {
    if facts.is_self_signed {
        "itself".to_owned()
    } else {
        facts.issuer.clone()
    }
}

fn described(
    pair: &Pair,
    facts: Option<&Facts>,
    is_ours: bool,
    key: Option<KeyState>,
    served: &[(String, Result<Facts, String>)],
) -> Value {
    let of = |facts: &Facts| json!({"fingerprint": facts.fingerprint, "names": facts.names, "issuer": facts.issuer, "self_signed": facts.is_self_signed, "ends": day(facts.not_after)});
    let places: Vec<Value> = served
        .iter()
        .map(|(place, seen)| match seen {
            Ok(seen) => {
                let is_it = facts.is_some_and(|facts| facts.fingerprint == seen.fingerprint);
                json!({"at": place, "is_the_file": is_it, "certificate": of(seen)})
            }
            Err(reason) => json!({"at": place, "error": reason}),
        })
        .collect();
    json!({
        "for": pair.name,
        "file": (!pair.file.as_str().is_empty()).then_some(&pair.file),
        "certificate": facts.map(of),
        "made_by_kdk": is_ours,
        "key": key.map(|state| json!({"file": pair.key, "state": state.word()})),
        "served": places,
    })
}

fn show_line(ui: &Ui, key: &str, tone: Option<Tone>, text: &str) {
    let text = tone.map_or_else(|| text.to_owned(), |tone| paint(tone, text));
    ui.out(&format!("  {} {text}", paint(Tone::Faint, &format!("{key:7}"))));
}

fn show_key(ui: &Ui, config: &Config, key: Option<(&Utf8Path, KeyState)>) {
    if let Some((file, state)) = key {
        let (tone, text) = state.text();
        show_line(
            ui,
            "key",
            Some(tone),
            &format!("{}{text}", config.root().relative(file)),
        );
    }
}

fn show(
    ui: &Ui,
    config: &Config,
    pair: &Pair,
    facts: Option<&Facts>,
    is_ours: bool,
    served: &[(String, Result<Facts, String>)],
    now: Timestamp,
) {
    let line = |key: &str, tone: Option<Tone>, text: &str| show_line(ui, key, tone, text);
    let file = config.root().relative(&pair.file);
    ui.out(format!("{} {file}", paint(Tone::Strong, pair.name)).trim_end());
    match facts {
        None if pair.file.as_str().is_empty() => {}
        None => line(
            "file",
            Some(Tone::Bad),
            "missing, or no certificate; make it with: kdk reconfigure",
        ),
        Some(facts) => {
            if !facts.names.is_empty() {
                line("names", None, &facts.names.join(", "));
            }
            line("issuer", None, &issuer(facts));
            let left = (facts.not_after - now.as_second()).div_euclid(86_400);
            let (tone, ends) = match left {
                ..0 => (Tone::Bad, format!("{}: it has expired", day(facts.not_after))),
                0..30 => (Tone::Odd, format!("{} (in {left} days)", day(facts.not_after))),
                _ => (Tone::Good, format!("{} (in {left} days)", day(facts.not_after))),
            };
            line("ends", Some(tone), &ends);
            line("made by", None, if is_ours { "kdk, which renews it" } else { "you" });
        }
    }
    for (place, seen) in served {
        let (tone, text) = match seen {
            Ok(seen) if facts.is_some_and(|facts| facts.fingerprint == seen.fingerprint) => {
                (Tone::Good, format!("at {place}"))
            }
            Ok(seen) => (
                if facts.is_some() { Tone::Odd } else { Tone::Good },
                format!(
                    "at {place}: {}for {}, by {}, until {}",
                    if facts.is_some() { "another, " } else { "" },
                    seen.names.join(", "),
                    issuer(seen),
                    day(seen.not_after)
                ),
            ),
            Err(reason) => (Tone::Faint, format!("not at {place}: {reason}")),
        };
        line("served", Some(tone), &text);
    }
}
