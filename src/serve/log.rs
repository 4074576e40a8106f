//! Structured log lines on standard output, one JSON object or logfmt line each,
//! of what `tracing`'s events say.
//!
//! JSON lines have the fields of the Go registry's log, in the same order
//! (alphabetical), so that what reads those reads these.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use jiff::Zoned;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Span, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

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

/// What all lines of a span say besides; asked for only when one is written.
pub trait Facts: Send + Sync + 'static {
    /// Adds them.
    fn write(&self, fields: &mut Fields);
}

/// Facts, where the log finds them.
struct Attached(Arc<dyn Facts>);

/// How much a line must matter to be written, as a number of [`Level`].
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Begins the log of this process. `fixed` fields stand on every line. What
/// was begun before goes on.
pub fn init(level: Level, format: Format, fixed: BTreeMap<String, Value>) {
    set_level(level);
    let lines = Lines {
        format,
        fixed,
        clock: Clock::System,
    };
    if tracing::subscriber::set_global_default(Registry::default().with(lines)).is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let reason = panic.payload_as_str().unwrap_or_default();
            tracing::error!(location = %place, error = %reason, "a bug: something panicked");
        }));
    }
}

/// Changes how much a line must matter to be written.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Lets all lines of a span say something besides.
pub fn attach(span: &Span, facts: Arc<dyn Facts>) {
    span.with_subscriber(|(id, dispatch)| {
        if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|spans| spans.span(id)) {
            span.extensions_mut().insert(Attached(facts));
        }
    });
}

/// Writes the lines of this crate, and of no library's.
struct Lines {
    format: Format,
    fixed: BTreeMap<String, Value>,
    clock: Clock,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let least = LEVEL.load(Ordering::Relaxed);
        metadata.target().starts_with(env!("CARGO_PKG_NAME")) && level_of(*metadata.level()) as u8 >= least
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(attached) = span.extensions().get::<Attached>() {
                attached.0.write(&mut line.fields);
            }
        }
        event.record(&mut line);
        let text = self.line(level_of(*event.metadata().level()), &line.message, &line.fields);
        // One write call a line, so that lines of threads do not mix. A log
        // that cannot be written must not stop the service.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
}

fn level_of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        _ => Level::Debug,
    }
}

/// What is read of an event.
#[derive(Default)]
struct Line {
    message: String,
    fields: Fields,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.push((field.name(), text.into()));
        }
    }
}

impl Lines {
    fn line(&self, level: Level, message: &str, fields: &Fields) -> String {
        let now = Zoned::new(self.clock.now(), jiff::tz::TimeZone::system());
        let time = now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string();
        let fixed = self.fixed.iter().map(|(key, value)| (key.as_str(), value.clone()));
        let mut all: BTreeMap<&str, Value> = fixed.collect();
        all.extend(fields.iter().map(|(key, value)| (*key, value.clone())));
        all.insert("level", level.name().into());
        all.insert("msg", message.into());
        all.insert("time", time.into());
        let mut line = match self.format {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(format: Format) -> Lines {
        Lines {
            format,
            fixed: BTreeMap::from([("version".to_owned(), Value::from("v1"))]),
            clock: Clock::Fixed("2024-09-26T21:36:36.51Z".parse().expect("valid")),
        }
    }

    #[test]
    fn json_lines_are_in_alphabetical_order() {
        let line = lines(Format::Json).line(
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
        let line = lines(Format::Text).line(Level::Warning, "No \"secret\"", &vec![("n", 3.into())]);
        assert!(
            line.contains("level=warning msg=\"No \\\"secret\\\"\" n=3 version=v1"),
            "{line}"
        );
    }
}
