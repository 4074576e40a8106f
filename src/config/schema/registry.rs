//! The container registry.

use serde_json::Value;

use crate::config::settings::settings;
use crate::config::types::Kind;
use crate::sys::net::host_port;

settings! { REGISTRY;
    /// Runs the container registry and shows it in KhulnaSoft.
    registry_enabled: bool = "registry.enabled", Kind::Bool, |_| false;
    /// Whether kdk runs the registry (embedded), whichever version, or uses one that runs elsewhere, at registry.api_url (external).
    registry_mode: String = "registry.mode", Kind::Choice(&["embedded", "external"]), |_| "embedded";
    /// Host name in images' names; the certificate is made for it.
    registry_host: String = "registry.host", Kind::Host, from "hostname; registry.api_url of one elsewhere" |c| {
        let elsewhere = c.url_elsewhere().and_then(|url| url.host_str().map(str::to_owned));
        elsewhere.unwrap_or_else(|| c.hostname())
    };
    /// Port that the registry listens on.
    registry_port: u16 = "registry.port", Kind::Port, |c| {
        c.url_elsewhere().and_then(|url| url.port_or_known_default()).unwrap_or(5000)
    };
    /// Address that the registry listens on; 0.0.0.0 means all addresses.
    registry_listen_address: String = "registry.listen_address", Kind::Host, from "listen_address" |c| c.listen_address();
    /// Host by which KhulnaSoft reaches the registry.
    registry_api_host: String = "registry.api_host", Kind::Host, from "hostname" |c| c.hostname();
    /// URL by which KhulnaSoft reaches the registry.
    registry_api_url: String = "registry.api_url", Kind::Text, from "registry.api_host, registry.port, registry.self_signed" |c| {
        format!("{}://{}", c.registry_scheme(), host_port(&c.registry_api_host(), c.registry_port()))
    };
    /// URL by which users reach the registry, when it differs from host and port, as behind a proxy.
    registry_external_url: Option<String> = "registry.external_url", Kind::Text, |c| c.public_url_elsewhere().map_or(Value::Null, Value::String);
    /// Serves HTTPS with the certificate registry_host.crt, which kdk makes.
    registry_self_signed: bool = "registry.self_signed", Kind::Bool, |_| false;
    /// More names and addresses that the registry's certificate is made for.
    registry_certificate_names: Vec<String> = "registry.certificate_names", Kind::List, |_| Vec::<String>::new();
    /// Asks for a login.
    registry_auth_enabled: bool = "registry.auth_enabled", Kind::Bool, |_| true;
    /// URL where clients get tokens. By default the built-in registry issues them at its own address, as current clients require; a URL set here is announced instead.
    registry_token_realm: String = "registry.token_realm", Kind::Text, from "registry.external_url, registry.host, registry.port, registry.self_signed; rails.url without a front" |c| {
        let service = if c.has_one_origin() { c.registry_url() } else { c.rails_url() };
        format!("{}/jwt/auth", service.trim_end_matches('/'))
    };
    /// Runs a reverse proxy (the front) before a registry that is not the built-in one, so that clients find registry and tokens at one address.
    registry_front: bool = "registry.front", Kind::Bool, |_| true;
    /// Port on 127.0.0.1 of the registry behind a front.
    registry_backend_port: u16 = "registry.backend_port", Kind::Port, from "registry.port" |c| {
        // Out of the range from which systems take ports for connections.
        let port = c.registry_port();
        if port < 12_000 { port + 20_000 } else { port - 10_000 }
    };
    /// Issuer in tokens; both sides must name the same.
    registry_issuer: String = "registry.issuer", Kind::Text, |_| "khulnasoft-issuer";
    /// How long tokens are valid, in minutes.
    registry_token_expire_delay: u64 = "registry.token_expire_delay", Kind::Int(1, 1440), |_| 5;
    /// Private key that KhulnaSoft signs tokens with.
    registry_key: String = "registry.key", Kind::Path, from "the root" |c| c.root().signing_pair().1;
    /// The private key itself, as PEM; written to the file that registry.key names.
    registry_internal_key: Option<String> = "registry.internal_key", Kind::Pem, |_| Value::Null;
    /// The certificate that goes with internal_key, as PEM; written to the file that registry.rootcertbundle names.
    registry_internal_certificate: Option<String> = "registry.internal_certificate", Kind::Pem, |_| Value::Null;
    /// Certificates that the registry checks tokens with.
    registry_rootcertbundle: String = "registry.rootcertbundle", Kind::Path, from "the root" |c| c.root().signing_pair().0;
    /// Secret that signs upload sessions; one is generated and kept.
    registry_http_secret: Option<String> = "registry.http_secret", Kind::Secret, |_| Value::Null;
    /// No effect: schema 1 manifests are not supported. Accepted for compatibility with KDK.
    registry_schema1: bool = "registry.compatibility_schema1_enabled", Kind::Bool, |_| false;
    /// Tells KhulnaSoft of pushes, pulls and deletions.
    registry_notifications_enabled: bool = "registry.notifications_enabled", Kind::Bool, |_| false;
    /// Secret that authenticates the registry's notifications to KhulnaSoft; generated unless set. A registry that notifies another root needs that root's secret.
    registry_notification_secret: Option<String> = "registry.notification_secret", Kind::Secret, |_| Value::Null;
    /// More receivers of notifications, as in the registry's own configuration.
    registry_notification_endpoints: Vec<Value> = "registry.notifications.endpoints", Kind::Maps, |_| Vec::<Value>::new();
    /// Refuses writes.
    registry_read_only: bool = "registry.read_only_maintenance_enabled", Kind::Bool, |_| false;
    /// Directory of the images.
    registry_path: String = "registry.path", Kind::Path, from "the root" |c| c.root().join("registry/storage");
    /// Storage section of the registry's configuration: a driver instead of the file system (s3, gcs, azure), and what stands beside it (cache, delete, redirect, maintenance).
    registry_storage: Option<serde_json::Map<String, Value>> = "registry.storage", Kind::Map, |_| Value::Null;
    /// Sends clients to the object store for downloads.
    registry_redirect: bool = "registry.redirect", Kind::Bool, |_| true;
    /// Answers with paths instead of URLs, for proxies that change the scheme.
    registry_relative_urls: bool = "registry.relativeurls", Kind::Bool, |_| false;
    /// Address of the debug listener (health, expvar, metrics), such as localhost:5001. It exposes internals: keep it local.
    registry_debug_addr: Option<String> = "registry.debug_addr", Kind::Text, |_| Value::Null;
    /// Checks the storage every ten seconds and answers 503 when it fails.
    registry_health_storage: bool = "registry.health_storagedriver_enabled", Kind::Bool, |_| true;
    /// Keeps metadata in PostgreSQL: true, false, or prefer (true, unless the storage has its metadata in files).
    registry_database_enabled: String = "registry.database.enabled", Kind::Choice(&["true", "false", "prefer"]), |_| "false";
    /// Host of the metadata database: a directory with a socket, or a name.
    registry_database_host: String = "registry.database.host", Kind::Text, from "postgresql.host" |c| c.postgresql_host();
    /// Port of the metadata database.
    registry_database_port: u16 = "registry.database.port", Kind::Port, from "postgresql.port" |c| c.postgresql_port();
    /// User of the metadata database; without one, the system's.
    registry_database_user: Option<String> = "registry.database.user", Kind::Text, |_| Value::Null;
    /// Password of the metadata database.
    registry_database_password: Option<String> = "registry.database.password", Kind::Secret, |_| Value::Null;
    /// Name of the metadata database.
    registry_database_dbname: String = "registry.database.dbname", Kind::Text, |_| "registry_dev";
    /// TLS towards the metadata database.
    registry_database_sslmode: String = "registry.database.sslmode", Kind::Choice(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]), |_| "disable";
    /// Which registry runs: embedded is the built-in one; anything else is a git ref of repositories.registry, which is built.
    registry_version: String = "registry.version", Kind::Text, |_| "embedded";
    /// Directory that a git ref is cloned into.
    registry_dir: String = "registry.dir", Kind::Path, from "the root" |c| c.root().join("container-registry");
    /// Fetches and builds the git ref at every reconfigure.
    registry_auto_update: bool = "registry.auto_update", Kind::Bool, |_| true;
    /// Command that builds the git ref, in registry.dir; it must yield bin/registry.
    registry_build_command: String = "registry.build_command", Kind::Text, |_| "make bin/registry";
    /// A registry binary to run as it is, with the same configuration.
    registry_bin: Option<String> = "registry.bin", Kind::Path, |_| Value::Null;
    /// A registry image to run with docker or podman, with the same configuration; it is pulled where it is not there.
    registry_image: Option<String> = "registry.image", Kind::Text, |_| Value::Null;
    /// Engine that runs registry.image; auto is docker where its engine is there, else podman.
    registry_engine: String = "registry.engine", Kind::Choice(&["auto", "docker", "podman"]), |_| "auto";
    /// User id that registry.image runs as; without one, yours.
    registry_uid: Option<u64> = "registry.uid", Kind::Int(0, 4_294_967_294), |_| Value::Null;
    /// Group id that registry.image runs as; without one, yours.
    registry_gid: Option<u64> = "registry.gid", Kind::Int(0, 4_294_967_294), |_| Value::Null;
    /// Anything else for the registry's configuration; merged over the rendered file.
    registry_config: serde_json::Map<String, Value> = "registry.config", Kind::Map, |_| Value::Object(serde_json::Map::new());
    /// Environment variables for the registry's process.
    registry_env: serde_json::Map<String, Value> = "registry.env", Kind::Map, |_| Value::Object(serde_json::Map::new());
}
