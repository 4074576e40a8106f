//! Durations as Go writes them: `500ms`, `1h30m`, or a bare number of nanoseconds.

use std::time::Duration;

use serde::Deserialize;

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration; write a number and a unit, such as 500ms, 10s, 5m or 8h")]
pub struct DurationError(String);

/// Reads a duration in Go's syntax (`time.ParseDuration`), unsigned.
///
/// # Errors
/// When the text is no duration.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let error = || DurationError(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let number: f64 = rest[..end].parse().map_err(|_| error())?;
        rest = &rest[end..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| *name == &rest[..unit_end])
            .ok_or_else(error)?;
        let part = Duration::try_from_secs_f64(number * factor).map_err(|_| error())?;
        total = total.checked_add(part).ok_or_else(error)?;
        rest = &rest[unit_end..];
    }
    Ok(total)
}

/// Keys whose values are durations.
const KEYS: [&str; 7] = [
    "timeout",
    "backoff",
    "interval",
    "age",
    "draintimeout",
    "reviewafter",
    "maxbackoff",
];

/// Finds durations that are bare numbers, which Go reads as nanoseconds and
/// people mean otherwise.
pub fn bare(tree: &serde_yaml::Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), tree)];
    while let Some((path, node)) = open.pop() {
        match node {
            serde_yaml::Value::Mapping(map) => {
                for (key, value) in map {
                    let key = key.as_str().unwrap_or_default();
                    let path = if path.is_empty() {
                        key.to_owned()
                    } else {
                        format!("{path}.{key}")
                    };
                    match value.as_u64() {
                        Some(number) if number > 0 && KEYS.contains(&key) => found.push(format!(
                            "{path}: {number} means {number} nanoseconds; write a unit, such as {number}ms"
                        )),
                        _ => open.push((path, value)),
                    }
                }
            }
            serde_yaml::Value::Sequence(items) => {
                open.extend(
                    items
                        .iter()
                        .enumerate()
                        .map(|(index, item)| (format!("{path}.{index}"), item)),
                );
            }
            _ => {}
        }
    }
    found.sort();
    found
}

/// A duration in a configuration file.
#[derive(Clone, Copy, Debug)]
pub struct GoDuration(pub Duration);

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        match serde_yaml::Value::deserialize(deserializer)? {
            serde_yaml::Value::String(text) => parse(&text).map(Self).map_err(D::Error::custom),
            serde_yaml::Value::Number(number) => number
                .as_u64()
                .map(|nanoseconds| Self(Duration::from_nanos(nanoseconds)))
                .ok_or_else(|| D::Error::custom("a duration is a text such as 500ms, or whole nanoseconds")),
            _ => Err(D::Error::custom("a duration is a text such as 500ms, 10s or 8h")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        for (text, seconds) in [
            ("500ms", 0.5),
            ("1h30m", 5400.0),
            ("1.5s", 1.5),
            ("0", 0.0),
            ("168h", 604_800.0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "5", "h", "5 s", "-5s", "5d", "99999999999999999999h", "1..s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
