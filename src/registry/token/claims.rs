//! The claims of a token (distribution, "Token Authentication Implementation").

use serde::{Deserialize, Serialize};

use super::scope::Scope;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it.
    pub iss: String,
    /// Whom it is about; empty for nobody in particular.
    #[serde(default, deserialize_with = "null_as_default")]
    pub sub: String,
    /// For which service.
    pub aud: Audience,
    /// Until when it holds, in seconds since 1970.
    #[serde(deserialize_with = "seconds")]
    pub exp: u64,
    /// From when it holds, in seconds since 1970.
    #[serde(
        default,
        deserialize_with = "optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub nbf: Option<u64>,
    /// When it was made, in seconds since 1970.
    #[serde(
        default,
        deserialize_with = "optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub iat: Option<u64>,
    /// Its own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// What it grants.
    #[serde(default, deserialize_with = "null_as_default")]
    pub access: Vec<Scope>,
    /// How the user proved who it is (GitLab).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_type: Option<String>,
    /// The user, as a token that events pass through (GitLab).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Claims {
    /// Says what is wrong with claims at a time, in seconds since 1970, for
    /// an issuer and a service; nothing when they hold.
    pub fn problem(&self, now: u64, leeway: u64, issuer: &str, service: &str) -> Option<&'static str> {
        if self.exp.saturating_add(leeway) < now {
            return Some("it has expired");
        }
        if self.nbf.is_some_and(|from| from > now.saturating_add(leeway)) {
            return Some("it is not valid yet");
        }
        if self.iss != issuer {
            return Some("another issuer made it");
        }
        (!self.aud.0.iter().any(|name| name == service)).then_some("it is for another service")
    }
}

/// Reads null, which Go writes for what is empty, as empty.
pub fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a NumericDate, which may have a fraction (RFC 7519, section 2).
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    use serde::de::Error as _;
    optional_seconds(deserializer)?.ok_or_else(|| D::Error::custom("a time is missing"))
}

fn optional_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    use serde::de::Error as _;
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let whole = number.to_string();
    let whole = whole.split('.').next().unwrap_or_default();
    whole
        .parse()
        .map(Some)
        .map_err(|_| D::Error::custom("a time is no number of seconds"))
}

/// One service or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(pub Vec<String>);

impl Serialize for Audience {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(one) => Ok(Self(vec![one])),
            serde_json::Value::Array(many) => many
                .into_iter()
                .map(|item| {
                    item.as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| D::Error::custom("aud holds no text"))
                })
                .collect::<Result<_, _>>()
                .map(Self),
            _ => Err(D::Error::custom("aud is neither text nor list")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_hold_for_a_time_an_issuer_and_a_service() {
        let claims: Claims =
            serde_json::from_str(r#"{"iss":"i","aud":["s","t"],"exp":1000,"nbf":900}"#).expect("claims");
        assert_eq!(claims.problem(950, 60, "i", "s"), None);
        assert_eq!(claims.problem(1059, 60, "i", "t"), None);
        assert_eq!(claims.problem(840, 60, "i", "s"), None);
        for (now, issuer, service) in [(1061, "i", "s"), (839, "i", "s"), (950, "x", "s"), (950, "i", "x")] {
            assert!(
                claims.problem(now, 60, issuer, service).is_some(),
                "{now} {issuer} {service}"
            );
        }
    }
}
