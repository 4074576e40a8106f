//! Keeping secrets out of what is shown.

use serde_json::Value;

/// What is shown instead of a secret.
pub const REDACTED: &str = "[redacted]";
/// Shorter texts are no secrets, and replacing them would garble everything.
const SHORTEST: usize = 4;

/// Says whether values under a key are secrets.
pub fn is_secret_key(key: &str) -> bool {
    const ENDINGS: [&str; 7] = [
        "secret",
        "password",
        "secretkey",
        "accountkey",
        "accesskey",
        "sessiontoken",
        "authorization",
    ];
    let key = key.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// Returns a value in which secrets are replaced, wherever they are in it.
pub fn redact(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| {
                    let hidden = is_secret_key(key) || (key.eq_ignore_ascii_case("token") && value.is_string());
                    (
                        key.clone(),
                        if hidden && !value.is_null() {
                            REDACTED.into()
                        } else {
                            redact(value)
                        },
                    )
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(redact).collect()),
        Value::String(text) => match url_password(text) {
            Some(password) => text.replace(&password, REDACTED).into(),
            None => value.clone(),
        },
        other => other.clone(),
    }
}

/// Collects the secrets in a value.
pub fn secrets(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if is_secret_key(key) || (key.eq_ignore_ascii_case("token") && value.is_string()) {
                    strings(value, found);
                } else {
                    secrets(value, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| secrets(item, found)),
        Value::String(text) => found.extend(url_password(text)),
        _ => {}
    }
}

fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.values().for_each(|value| strings(value, found)),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::String(text) if text.len() >= SHORTEST => found.push(text.clone()),
        _ => {}
    }
}

fn url_password(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://")?;
    let (login, _) = rest.split('/').next()?.rsplit_once('@')?;
    let (_, password) = login.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_found_wherever_they_are() {
        let value = json!({
            "http": {"secret": "hush-hush", "addr": ":5000"},
            "auth": {"token": {"realm": "https://u:pass-word@x/"}},
            "endpoints": [{"headers": {"Authorization": ["bearer-one"]}}],
            "storage": {"s3": {"secretkey": "aws-secret", "region": "eu"}},
        });
        let mut found = Vec::new();
        secrets(&value, &mut found);
        assert_eq!(found, ["hush-hush", "pass-word", "bearer-one", "aws-secret"]);
        let shown = redact(&value).to_string();
        assert!(found.iter().all(|secret| !shown.contains(secret)), "{shown}");
        assert!(shown.contains(":5000") && shown.contains("eu"));
    }
}
