//! What of an answer is held on to: what clients can tell.

use std::collections::BTreeMap;

use regex::Regex;
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::session::{Step, steps};
use crate::support::registry::digest;

/// Headers that clients read, or that keep them safe.
const HEADERS: [&str; 17] = [
    "accept-ranges",
    "allow",
    "cache-control",
    "content-length",
    "content-range",
    "content-type",
    "docker-content-digest",
    "docker-distribution-api-version",
    "docker-upload-uuid",
    "etag",
    "link",
    "location",
    "oci-filters-applied",
    "oci-subject",
    "range",
    "retry-after",
    "x-content-type-options",
];

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    /// JSON without the words that are for people; of all else its digest.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub body: Value,
}

/// Asks a registry everything.
pub fn record(base: &str) -> BTreeMap<String, Answer> {
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .danger_accept_invalid_certs(true)
        .build()
        .expect("a client");
    let mut upload = String::new();
    steps()
        .into_iter()
        .map(|step| {
            let name = step.name.clone();
            let answer = ask(&client, base, &mut upload, step);
            (name, answer)
        })
        .collect()
}

fn ask(client: &Client, base: &str, upload: &mut String, step: Step) -> Answer {
    let path = match step.path.strip_prefix("{upload}") {
        // Where an upload goes on may have a query already.
        Some(rest) if upload.contains('?') => format!("{upload}{}", rest.replacen('?', "&", 1)),
        Some(rest) => format!("{upload}{rest}"),
        None => step.path,
    };
    let method = Method::from_bytes(step.method.as_bytes()).expect("a method");
    let mut request = client.request(method, format!("{base}{path}")).body(step.body);
    for (name, value) in step.headers {
        request = request.header(name, value);
    }
    let response = request.send().unwrap_or_else(|error| panic!("{}: {error}", step.name));
    if let Some(location) = text(response.headers(), "location").filter(|location| location.contains("/uploads/")) {
        *upload = without_host(&location);
    }
    digested(response)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let all: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn without_host(location: &str) -> String {
    let host = Regex::new("^https?://[^/]+").expect("a pattern");
    host.replace(location, "").into_owned()
}

fn digested(response: Response) -> Answer {
    let status = response.status().as_u16();
    let mut headers: BTreeMap<String, String> = HEADERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), plain(&text(response.headers(), name)?))))
        .collect();
    let kind = headers.get("content-type").cloned().unwrap_or_default();
    let bytes = response.bytes();
    let body = if let Err(_cut) = &bytes {
        // Fewer bytes came than were announced.
        Value::from("cut off")
    } else if let Ok(bytes) = bytes.as_ref().map(AsRef::as_ref)
        && !bytes.is_empty()
    {
        // What a registry stores comes back byte for byte; what it says itself is JSON.
        match serde_json::from_slice::<Value>(bytes) {
            Ok(said) if !kind.starts_with("application/vnd.") && kind.contains("json") => said_by_it(said),
            _ if kind.starts_with("text/") => Value::from("words"),
            _ => Value::from(digest(bytes)),
        }
    } else {
        Value::Null
    };
    let empty = headers.get("content-length").is_some_and(|length| length == "0");
    if kind.starts_with("application/json") || kind.starts_with("text/") || empty {
        // How long words for people are is nobody's concern.
        headers.remove("content-length");
    }
    Answer { status, headers, body }
}

/// Replaces what differs from one time to the next.
fn plain(value: &str) -> String {
    let uuid = Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").expect("a pattern");
    let state = Regex::new("_state=[^&]+").expect("a pattern");
    // RFC 8259: JSON has no such parameter.
    let value = without_host(value).replace("json; charset=utf-8", "json");
    let value = uuid.replace_all(&value, "{uuid}");
    state.replace_all(&value, "_state={state}").into_owned()
}

/// Leaves out the words that are for people.
fn said_by_it(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(key, _)| key != "message" && key != "detail")
            .map(|(key, value)| (key, said_by_it(value)))
            .collect(),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(said_by_it).collect();
            // docker-registry lists tags as the file system happens to.
            items.sort_by_key(ToString::to_string);
            Value::Array(items)
        }
        other => other,
    }
}
