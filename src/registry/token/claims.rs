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

/// Reads null, which Go writes for what is empty, as empty.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
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
