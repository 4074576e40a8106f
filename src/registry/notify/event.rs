//! What endpoints are told.

use serde_json::{Value, json};

use crate::registry::auth::Actor;
use crate::serve::id;
use crate::sys::clock::Clock;

/// Media type of an envelope.
pub const EVENTS: &str = "application/vnd.docker.distribution.events.v1+json";

/// What happened to what.
#[derive(Clone, Debug)]
pub struct Event {
    /// `push`, `pull`, `mount`, `delete` or `rename`.
    pub action: &'static str,
    /// The repository.
    pub repository: String,
    /// Media type of the content; empty where it is not known.
    pub media_type: String,
    /// Digest of the content; empty for a deleted tag.
    pub digest: String,
    /// Size of the content in bytes.
    pub size: Option<u64>,
    /// The tag by which it was named.
    pub tag: Option<String>,
    /// The repository that it was mounted from.
    pub from_repository: Option<String>,
    /// What a manifest refers to, where that is asked for.
    pub references: Vec<Value>,
    /// How a repository was renamed: what of its path changed, from what, to what.
    pub rename: Option<[String; 3]>,
    /// Who did it.
    pub actor: Actor,
    /// Where the content is.
    pub url: String,
    /// Id of the request.
    pub request_id: String,
    /// Address, host, method and user agent of the request.
    pub request: [String; 4],
}

impl Event {
    /// Writes it as endpoints get it.
    pub fn envelope(&self, source: &str) -> Value {
        let mut target = serde_json::Map::new();
        let mut put = |key: &str, value: Value| {
            if !(value.is_null() || value.as_str() == Some("")) {
                target.insert(key.to_owned(), value);
            }
        };
        put("mediaType", self.media_type.as_str().into());
        put("digest", self.digest.as_str().into());
        put("size", self.size.into());
        put("length", self.size.into());
        put("repository", self.repository.as_str().into());
        put("fromRepository", self.from_repository.clone().into());
        put("url", self.url.as_str().into());
        put("tag", self.tag.clone().into());
        if !self.references.is_empty() {
            put("references", self.references.clone().into());
        }
        if let Some([kind, from, to]) = &self.rename {
            put("rename", json!({"type": kind, "from": from, "to": to}));
        }
        let mut actor = json!({"name": self.actor.name});
        for (key, value) in [("user_type", &self.actor.user_type), ("user", &self.actor.user)] {
            if let Some(value) = value {
                actor[key] = value.as_str().into();
            }
        }
        let [addr, host, method, useragent] = &self.request;
        json!({"events": [{
            "id": id::random(),
            "timestamp": Clock::System.now().to_string(),
            "action": self.action,
            "target": target,
            "request": {"id": self.request_id, "addr": addr, "host": host, "method": method, "useragent": useragent},
            "actor": actor,
            "source": {"addr": source, "instanceID": id::own()},
        }]})
    }
}
