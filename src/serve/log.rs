//! Structured log lines on standard output, one JSON object or logfmt line each.
//!
//! JSON lines have the fields of the Go registry's log, in the same order
//! (alphabetical), so that what reads those reads these.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use jiff::Zoned;
use serde_json::Value;

use crate::sys::clock::Clock;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who look for the cause of something.
    Debug,
    /// What happens.
    Info,
    /// What somebody should look at.
    Warning,
    /// What failed.
    Error,
}

impl Level {
    /// Reads a level's name; `trace` counts as debug, `fatal` and `panic` as error.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "trace" | "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" | "warning" => Self::Warning,
            "error" | "fatal" | "panic" => Self::Error,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Text,
}

/// Fields of one line.
pub type Fields = Vec<(&'static str, Value)>;

/// Writes log lines. Clones share one configuration.
#[derive(Clone, Debug)]
pub struct Logger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    level: Level,
    format: Format,
    fixed: BTreeMap<String, Value>,
    clock: Clock,
}

impl Logger {
    /// Makes a logger. `fixed` fields stand on every line.
    pub fn new(level: Level, format: Format, fixed: BTreeMap<String, Value>) -> Self {
        Self(Arc::new(Inner {
            level,
            format,
            fixed,
            clock: Clock::System,
        }))
    }

    /// Writes a line of level info.
    pub fn info(&self, message: &str, fields: Fields) {
        self.write(Level::Info, message, fields);
    }

    /// Writes a line of level warning.
    pub fn warn(&self, message: &str, fields: Fields) {
        self.write(Level::Warning, message, fields);
    }

    /// Writes a line of level error.
    pub fn error(&self, message: &str, fields: Fields) {
        self.write(Level::Error, message, fields);
    }

    /// Writes a line of level debug.
    pub fn debug(&self, message: &str, fields: Fields) {
        self.write(Level::Debug, message, fields);
    }

    /// Writes a line.
    #[expect(clippy::needless_pass_by_value, reason = "callers build the fields in place")]
    pub fn write(&self, level: Level, message: &str, fields: Fields) {
        if level < self.0.level {
            return;
        }
        let line = self.line(level, message, &fields);
        // One write call a line, so that lines of threads do not mix. A log
        // that cannot be written must not stop the service.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }

    fn line(&self, level: Level, message: &str, fields: &Fields) -> String {
        let now = Zoned::new(self.0.clock.now(), jiff::tz::TimeZone::system());
        let time = now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string();
        let mut all: BTreeMap<&str, Value> = self
            .0
            .fixed
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect();
        all.extend(fields.iter().map(|(key, value)| (*key, value.clone())));
        all.insert("level", level.name().into());
        all.insert("msg", message.into());
        all.insert("time", time.into());
        let mut line = match self.0.format {
            Format::Json => serde_json::to_string(&all).unwrap_or_default(),
            Format::Text => text_line(&all),
        };
        line.push('\n');
        line
    }
}

/// Writes logfmt: time, level and message first, values quoted where needed.
fn text_line(all: &BTreeMap<&str, Value>) -> String {
    let mut line = String::new();
    let first = ["time", "level", "msg"];
    let rest = all.keys().copied().filter(|key| !first.contains(key));
    for key in first.into_iter().chain(rest) {
        let text = match &all[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let plain = !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'));
        if !line.is_empty() {
            line.push(' ');
        }
        let written = if plain {
            write!(line, "{key}={text}")
        } else {
            write!(line, "{key}={text:?}")
        };
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    line
}

/// Makes a random id (UUID version 4).
pub fn instance_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness the id is merely not unique, which a log can bear.
    let _ = crate::sys::random::fill(&mut bytes);
    uuid(bytes)
}

/// Makes an id for a request: unlike every other, but not hard to guess.
pub fn request_id() -> String {
    static NEXT: LazyLock<(AtomicU64, [u8; 8])> = LazyLock::new(|| {
        let mut bytes = [0; 16];
        let _ = crate::sys::random::fill(&mut bytes);
        let (first, rest) = bytes.split_at(8);
        let half = |part: &[u8]| <[u8; 8]>::try_from(part).unwrap_or_default();
        (AtomicU64::new(u64::from_le_bytes(half(first))), half(rest))
    });
    // An odd factor keeps different numbers different.
    let number = NEXT
        .0
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&NEXT.1);
    uuid(bytes)
}

fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logger(format: Format) -> Logger {
        let fixed = BTreeMap::from([("version".to_owned(), Value::from("v1"))]);
        Logger(Arc::new(Inner {
            level: Level::Info,
            format,
            fixed,
            clock: Clock::Fixed("2024-09-26T21:36:36.51Z".parse().expect("valid")),
        }))
    }

    #[test]
    fn json_lines_are_in_alphabetical_order() {
        let line = logger(Format::Json).line(
            Level::Info,
            "listening on [::]:5000",
            &vec![("instance_id", "x".into())],
        );
        let keys: Vec<_> = ["instance_id", "level", "msg", "time", "version"]
            .iter()
            .map(|key| line.find(&format!("\"{key}\":")))
            .collect();
        assert!(keys.is_sorted() && keys.iter().all(Option::is_some), "{line}");
    }

    #[test]
    fn text_lines_quote_what_needs_it() {
        let line = logger(Format::Text).line(Level::Warning, "No \"secret\"", &vec![("n", 3.into())]);
        assert!(
            line.contains("level=warning msg=\"No \\\"secret\\\"\" n=3 version=v1"),
            "{line}"
        );
    }
}
