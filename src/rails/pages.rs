//! Plain pages that list repositories and tags.
//!
//! From this machine they need no login; from elsewhere they ask for one.

use std::fmt::Write as _;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::app::{App, caller};
use super::identity::Caller;
use super::jwt_auth::grant;
use super::respond::{denied, typed};
use crate::registry::token::Scope;
use crate::serve::{Body, Peer};
use crate::sys::net::is_loopback_literal;

/// How long the registry may take for a page.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Catalog {
    repositories: Vec<String>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

/// The front page: all repositories.
pub async fn front(app: &App, request: &Request<Incoming>, peer: &Peer) -> Response<Body> {
    let viewer = match viewer(app, request, peer).await {
        Ok(viewer) => viewer,
        Err(refusal) => return *refusal,
    };
    let mut body = String::new();
    let Some(registry) = &app.config.registry else {
        return page(
            "Container Registry",
            "<p>The container registry is disabled. Run <code>kdk config set registry.enabled true</code>, then <code>kdk reconfigure</code>.</p>",
        );
    };
    let written = match repositories(app, &viewer).await {
        Ok(all) if all.is_empty() => {
            write!(
                body,
                "<p>There are no images yet. Push one:</p><pre>docker push {}/my-image</pre>",
                escape(&registry.address)
            )
        }
        Ok(all) => write!(
            body,
            "<p>{} at <code>{}</code></p><ul>{}</ul>",
            count(all.len(), "repository", "repositories"),
            escape(&registry.address),
            links(app, &all)
        ),
        Err(reason) => write!(
            body,
            "<p>The registry does not answer: {}</p><p>See <code>kdk status</code> and <code>kdk tail registry</code>.</p>",
            escape(&reason)
        ),
    };
    debug_assert!(written.is_ok(), "a String takes everything");
    page("Container Registry", &body)
}

/// A project's page: its repositories with their tags.
pub async fn project(app: &App, request: &Request<Incoming>, peer: &Peer, project: &str) -> Response<Body> {
    let viewer = match viewer(app, request, peer).await {
        Ok(viewer) => viewer,
        Err(refusal) => return *refusal,
    };
    let title = format!("Container Registry: {project}");
    let mine = match repositories(app, &viewer).await {
        Ok(all) => all
            .into_iter()
            .filter(|name| name == project || name.strip_prefix(project).is_some_and(|rest| rest.starts_with('/'))),
        Err(reason) => {
            return page(
                &title,
                &format!("<p>The registry does not answer: {}</p>", escape(&reason)),
            );
        }
    };
    let mut body = String::new();
    for name in mine {
        let tags = match ask::<Tags>(
            app,
            &format!("/v2/{name}/tags/list"),
            Scope::repository(&name, &["pull"]),
        )
        .await
        {
            Ok(answer) => answer.tags.unwrap_or_default(),
            Err(reason) => vec![format!("({reason})")],
        };
        let items: String = tags
            .iter()
            .map(|tag| format!("<li><code>{}</code></li>", escape(tag)))
            .collect();
        let written = write!(
            body,
            "<h2>{}</h2><p>{}</p><ul>{items}</ul>",
            escape(&name),
            count(tags.len(), "tag", "tags")
        );
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    if body.is_empty() {
        body = "<p>There are no container images stored for this project.</p>".to_owned();
    }
    page(&title, &body)
}

/// Says who looks: somebody at this machine, who may see all, or a user.
async fn viewer(app: &App, request: &Request<Incoming>, peer: &Peer) -> Result<Caller, Box<Response<Body>>> {
    if let Some(caller) = caller(app, request, peer).await? {
        return Ok(caller);
    }
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let near = peer
        .ip()
        .parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    // A proxy on this machine speaks for others; a foreign name on this
    // address is a page that pretends to be us.
    let forwarded = ["forwarded", "x-forwarded-for", "x-forwarded-host"]
        .iter()
        .any(|name| header(name).is_some());
    let host = header("host").and_then(|host| url::Url::parse(&format!("http://{host}")).ok());
    let named_rightly = host.as_ref().and_then(url::Url::host_str).is_some_and(|host| {
        is_loopback_literal(host) || url::Url::parse(&app.config.url).is_ok_and(|own| own.host_str() == Some(host))
    });
    if near && !forwarded && named_rightly {
        return Ok(Caller {
            name: "somebody at this machine".to_owned(),
            admin: true,
        });
    }
    Err(Box::new(denied("log in with a user name and a personal access token")))
}

/// Returns the repositories that somebody may pull from.
async fn repositories(app: &App, viewer: &Caller) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let path = all.last().map_or("/v2/_catalog?n=1000".to_owned(), |last| {
            format!(
                "/v2/_catalog?n=1000&last={}",
                utf8_percent_encode(last, NON_ALPHANUMERIC)
            )
        });
        let page = ask::<Catalog>(app, &path, Scope::catalog()).await?.repositories;
        let more = page.len() == 1000;
        all.extend(page);
        if !more {
            break;
        }
    }
    all.retain(|name| {
        grant(
            Scope::repository(name, &["pull"]),
            Some(viewer),
            &app.config.public_repositories,
        )
        .is_some()
    });
    Ok(all)
}

/// Asks the registry, with a token of our own.
async fn ask<T: serde::de::DeserializeOwned>(app: &App, path: &str, scope: Scope) -> Result<T, String> {
    let (Some(registry), Some(tokens)) = (&app.config.registry, &app.tokens) else {
        return Err("it is disabled".into());
    };
    let mut builder = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    if let Some(path) = &registry.certificate
        && let Ok(pem) = std::fs::read(path)
        && let Ok(certificate) = reqwest::Certificate::from_pem(&pem)
    {
        builder = builder.tls_certs_only([certificate]);
    }
    let client = builder.build().map_err(|error| error.to_string())?;
    let token = tokens.token("kdk", vec![scope]).map_err(|error| error.to_string())?;
    let answer = client
        .get(format!("{}{path}", registry.api_url))
        .bearer_auth(token)
        .send()
        .await
        .map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("it answers {}", answer.status()));
    }
    answer.json().await.map_err(|error| error.to_string())
}

fn links(app: &App, names: &[String]) -> String {
    let root = escape(&app.config.relative_url_root);
    names
        .iter()
        .map(|name| escape(name))
        .map(|name| format!("<li><a href=\"{root}/{name}/container_registry\">{name}</a></li>"))
        .collect()
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn page(title: &str, body: &str) -> Response<Body> {
    let title = escape(title);
    typed(
        StatusCode::OK,
        "text/html; charset=utf-8",
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><meta name=\"viewport\" content=\"width=device-width\">\
             <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;color:#222}}\
             code,pre{{background:#f3f3f5;border-radius:4px;padding:.1rem .3rem}}pre{{padding:.6rem}}</style></head>\
             <body><h1>{title}</h1>{body}</body></html>\n"
        ),
    )
}
