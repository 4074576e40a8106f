//! nginx before the registry, at its external URL.

use camino::Utf8PathBuf;
use url::Url;

use super::client::{Client, Scene};
use super::edit::Edit;
use super::plan::{Plan, Reload, SetupError};
use crate::config::Config;
use crate::sys;

/// `kdk setup nginx`.
pub struct Nginx;

impl Client for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn about(&self) -> &'static str {
        "nginx before the registry, at registry.external_url"
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let config = scene.config;
        let missing = |what: String, remedy: String| SetupError::Missing { what, remedy };
        if config.registry_is_elsewhere() && !config.is_given("registry.external_url") {
            return Err(missing(
                format!("users reach the registry at {} itself, before which there is no nginx yet", config.registry_url()),
                "name where nginx is to serve it, and tokens: kdk config set registry.external_url=URL registry.token_realm=URL/jwt/auth && kdk reconfigure".to_owned(),
            ));
        }
        let Some(url) = config.registry_external_url().and_then(|url| Url::parse(&url).ok()) else {
            return Err(missing(
                "registry.external_url is not set: it says where nginx is to serve the registry".to_owned(),
                "name it, such as with: kdk config set registry.external_url https://registry.example.com && kdk reconfigure"
                    .to_owned(),
            ));
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = scene.nginx.listen.or(url.port_or_known_default()).unwrap_or(443);
        // It takes the port on every address, so on the registry's, too.
        if port == config.registry_port() && !config.registry_is_elsewhere() {
            return Err(missing(
                format!("nginx would listen on port {port}, on which the registry itself listens"),
                "give nginx another with --listen PORT, or the registry with: kdk config set registry.port PORT && kdk reconfigure".to_owned(),
            ));
        }
        let is_https = url.scheme() == "https";
        if scene.nginx.pair.is_some() && !is_https {
            return Err(missing(
                format!("{url} is plain HTTP, for which there is no certificate"),
                format!("serve HTTPS with: kdk config set registry.external_url https://{host} && kdk reconfigure"),
            ));
        }
        if scene.nginx.redirect_http && (!is_https || port == 80) {
            return Err(missing(
                format!("nothing can be led from HTTP to {url} on port {port}"),
                "leave --redirect-http out, or serve HTTPS on another port than 80".to_owned(),
            ));
        }
        let pair = scene.nginx.pair.clone().or_else(|| {
            is_https.then(|| {
                let directory = Utf8PathBuf::from("/etc/nginx/ssl");
                (
                    directory.join(format!("{host}.crt")),
                    directory.join(format!("{host}.key")),
                )
            })
        });
        let text = server(scene, &host, port, pair.as_ref(), scene.nginx.redirect_http);
        let mut plan = Plan::default().file(format!("/etc/nginx/conf.d/kdk-{host}.conf"), "nginx", Edit::Whole(text));
        if let Some((certificate, key)) = &pair
            && !(certificate.exists() && key.exists())
        {
            // With a name that leads nowhere nginx would not start, for all its other sites, too.
            plan.blocked = Some((
                format!("{certificate} and {key} are not both there"),
                format!(
                    "put the certificate for {host} and its key there, or name others with --certificate FILE --key FILE"
                ),
            ));
        }
        if sys::process::find_program("nginx").is_some() && !sys::running::named("nginx").is_empty() {
            plan.reload = Some(Reload {
                what: "Let nginx read its files again?".to_owned(),
                argv: ["nginx", "-s", "reload"].map(str::to_owned).to_vec(),
                needs_root: true,
                of_file: None,
            });
        }
        Ok(plan)
    }
}

/// Returns the block for tokens: a registry that runs elsewhere hands out none.
fn token_location(config: &Config) -> String {
    format!(
        "

  location = /jwt/auth {{
    proxy_pass {}/jwt/auth;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  }}",
        config.rails_url().trim_end_matches('/')
    )
}

/// Returns the server's block.
fn server(
    scene: &Scene<'_>,
    host: &str,
    port: u16,
    pair: Option<&(Utf8PathBuf, Utf8PathBuf)>,
    redirect_http: bool,
) -> String {
    let config = scene.config;
    let listens = match config.registry_listen_address().as_str() {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" | "[::]" => "[::1]".to_owned(),
        other => other.to_owned(),
    };
    let (upstream, tokens) = if config.registry_is_elsewhere() {
        let url = config.registry_api_url();
        (url.trim_end_matches('/').to_owned(), token_location(config))
    } else {
        let at = sys::net::host_port(&listens, config.registry_port());
        (format!("{}://{at}", config.registry_scheme()), String::new())
    };
    let (tls, certificate) = match pair {
        None => (String::new(), String::new()),
        Some((certificate, key)) => (
            " ssl".to_owned(),
            format!("\n  ssl_certificate \"{certificate}\";\n  ssl_certificate_key \"{key}\";"),
        ),
    };
    // A registry that serves HTTPS itself does so with its own certificate.
    let verify = if config.registry_scheme() == "https" && config.runs_registry() {
        format!(
            "\n    proxy_ssl_trusted_certificate \"{}\";\n    proxy_ssl_verify on;\n    proxy_ssl_server_name on;\n    proxy_ssl_name {};",
            config.root().registry_anchor(),
            config.registry_host()
        )
    } else {
        String::new()
    };
    let redirect = if redirect_http && pair.is_some() {
        let to = if port == 443 { String::new() } else { format!(":{port}") };
        format!("server {{\n  listen 80;\n  server_name {host};\n  return 308 https://$host{to}$request_uri;\n}}\n\n")
    } else {
        String::new()
    };
    format!(
        "# The registry of {root}.
{redirect}server {{
  listen {port}{tls};
  server_name {host};{certificate}

  # Layers are as large as they are, and go through as they come.
  client_max_body_size 0;

  location / {{
    proxy_pass {upstream};{verify}
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_read_timeout 900s;
    proxy_send_timeout 900s;
    # The address that clients asked for is the one they are sent to.
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  }}{tokens}
}}
",
        root = config.root().path()
    )
}
