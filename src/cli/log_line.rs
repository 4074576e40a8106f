//! Lines of logs, as people read them.
//!
//! Services of ours write a JSON object a line; other programs what they like.

use serde_json::{Map, Value};

use super::ui::{Tone, paint};
use crate::supervisor::tail::Line;

/// Fields that say nothing to a person who watches, or are shown in their own way.
const SILENT: &str = " content_type correlation_id duration_ms environment go_version host instance_id level msg proto referrer \
     remote_addr service system time version ";
/// Levels, from the least to the most.
pub const LEVELS: [&str; 5] = ["debug", "info", "warning", "error", "fatal"];

/// Returns the rank of a level, from 0.
pub fn rank(level: &str) -> Option<usize> {
    let level = if level == "warn" { "warning" } else { level };
    LEVELS.iter().position(|known| *known == level)
}

/// Reads a line that is a JSON object.
pub fn fields(text: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(text).ok()? {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

/// Returns a text without what a terminal would take for commands.
fn tame(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '\u{fffd}' } else { letter })
        .collect()
}

/// Writes a line for people: the time of day (UTC), the service, and a request
/// or a message in short.
pub fn human(line: &Line, width: usize) -> String {
    // 2026-11-28_14:36:57.72130
    let time = line.stamp.get(11..23).unwrap_or(&line.stamp);
    let name = format!("{:width$}", line.service);
    let text = match fields(&line.text) {
        None => tame(&line.text),
        Some(fields) if fields.get("msg").is_some_and(|msg| msg == "access") => request(&fields),
        Some(fields) => message(&fields),
    };
    format!("{} {} {text}", paint(Tone::Faint, time), paint(Tone::Name, &name))
}

/// Writes a request: `GET /v2/ 401 0ms root skopeo/1.9.3`.
fn request(fields: &Map<String, Value>) -> String {
    let tamed = |key: &str| tame(fields.get(key).and_then(Value::as_str).unwrap_or_default());
    let values = ["method", "uri", "user_agent", "auth_user_name"].map(|key| (key, tamed(key)));
    let text = |key: &str| {
        values
            .iter()
            .find(|(name, _)| *name == key)
            .map_or("", |(_, value)| value)
    };
    let status = fields.get("status").and_then(Value::as_u64).unwrap_or_default();
    let tone = match status {
        200..300 => Tone::Good,
        300..400 => Tone::Name,
        400..500 => Tone::Odd,
        _ => Tone::Bad,
    };
    let millis = fields.get("duration_ms").and_then(Value::as_u64).unwrap_or_default();
    let agent = text("user_agent").split(' ').next().unwrap_or_default();
    let mut parts = vec![
        format!("{:6}", text("method")),
        paint(Tone::Strong, text("uri")),
        paint(tone, &status.to_string()),
        paint(Tone::Faint, &format!("{millis}ms")),
    ];
    let bytes = fields.get("written_bytes").and_then(Value::as_u64).unwrap_or_default();
    if bytes >= 1 << 20 {
        parts.push(paint(Tone::Faint, &format!("{} MiB", bytes >> 20)));
    }
    for more in [text("auth_user_name"), agent] {
        if !more.is_empty() {
            parts.push(paint(Tone::Faint, more));
        }
    }
    parts.join(" ")
}

/// Writes a message and its fields: `warning no space left path=/…`.
fn message(fields: &Map<String, Value>) -> String {
    let level = fields.get("level").and_then(Value::as_str).unwrap_or("info");
    let text = tame(fields.get("msg").and_then(Value::as_str).unwrap_or_default());
    let text = text.as_str();
    let mut parts = match rank(level).unwrap_or(1) {
        0 | 1 => vec![text.to_owned()],
        2 => vec![paint(Tone::Odd, level), text.to_owned()],
        _ => vec![paint(Tone::Bad, level), text.to_owned()],
    };
    let shown = |value: &Value| match value {
        Value::String(text) if text.contains([' ', '"']) || text.is_empty() => format!("{text:?}"),
        Value::String(text) => tame(text),
        other => other.to_string(),
    };
    // Those of requests have the version of whoever answers; at the start it is news.
    let is_start = !fields.contains_key("correlation_id");
    let version = fields
        .get_key_value("version")
        .filter(|_| is_start)
        .map(|(key, value)| (key.as_str(), value));
    let others = fields.iter().filter(|(key, _)| !SILENT.contains(&format!(" {key} ")));
    for (key, value) in others.map(|(key, value)| (key.as_str(), value)).chain(version) {
        parts.push(format!("{}{}", paint(Tone::Faint, &format!("{key}=")), shown(value)));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line {
            stamp: "2026-11-28_14:36:57.72130".to_owned(),
            service: "registry".to_owned(),
            text: text.to_owned(),
        }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(&human(&line(text), 9)).to_string()
    }

    const REQUEST: &str = r#"{"auth_user_name":"root","correlation_id":"c","duration_ms":12,"level":"info","method":"GET","msg":"access","status":404,"uri":"/v2/a/b/manifests/v1","user_agent":"skopeo/1.9.3 (x)","version":"v","written_bytes":111}"#;

    #[test]
    fn requests_and_messages_are_short() {
        assert_eq!(
            plain(REQUEST),
            "14:36:57.721 registry  GET    /v2/a/b/manifests/v1 404 12ms root skopeo/1.9.3"
        );
        assert_eq!(
            plain(
                r#"{"go_version":"rust","instance_id":"i","level":"info","msg":"listening on [::]:5000","time":"t","version":"registry-dev"}"#
            ),
            "14:36:57.721 registry  listening on [::]:5000 version=registry-dev"
        );
        assert_eq!(
            plain(
                r#"{"correlation_id":"c","level":"error","msg":"cannot write","path":"/a b","error":"no space left","version":"v"}"#
            ),
            "14:36:57.721 registry  error cannot write path=\"/a b\" error=\"no space left\""
        );
        let hostile = r#"{"level":"info","msg":"a\u001b[31mb","x":"\u0007"}"#;
        assert_eq!(plain(hostile), "14:36:57.721 registry  a\u{fffd}[31mb x=\u{fffd}");
        assert_eq!(
            plain("LOG:  database system is ready"),
            "14:36:57.721 registry  LOG:  database system is ready"
        );
    }
}
