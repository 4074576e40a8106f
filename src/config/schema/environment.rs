//! Where KhulnaSoft is reached, how kdk itself behaves, the other services.

use serde_json::Value;

use crate::config::settings::settings;
use crate::config::types::Kind;

settings! { TOP;
    /// Host name of KhulnaSoft. The registry answers on it too unless registry.host says otherwise.
    hostname: String = "hostname", Kind::Host, |_| "127.0.0.1";
    /// Address that services listen on unless they have one of their own.
    listen_address: String = "listen_address", Kind::Host, from "hostname" |c| c.hostname();
    /// Port of KhulnaSoft.
    port: u16 = "port", Kind::Port, |_| 3000;
    /// Serves KhulnaSoft over HTTPS, with https.certificate.
    https_enabled: bool = "https.enabled", Kind::Bool, |_| false;
    /// Certificate chain for KhulnaSoft's HTTPS; when you set your own, set https.key too.
    https_certificate: String = "https.certificate", Kind::Path, from "the root" |c| c.root().signing_pair().0;
    /// Private key of https.certificate. Tokens are signed with registry.key.
    https_key: String = "https.key", Kind::Path, from "the root" |c| c.root().signing_pair().1;
    /// Path below which KhulnaSoft lives, such as /khulnasoft.
    relative_url_root: String = "relative_url_root", Kind::Text, |_| "";
    /// Whether new projects have a container registry.
    default_container_registry: bool = "default_projects_features.container_registry", Kind::Bool, |_| true;
}

settings! { KDK;
    /// Rendered files that reconfigure leaves alone once they exist, as globs relative to the root.
    protected_config_files: Vec<String> = "kdk.protected_config_files", Kind::List, |_| Vec::<String>::new();
    /// Renders protected files all the same.
    overwrite_changes: bool = "kdk.overwrite_changes", Kind::Bool, |_| false;
    /// Seconds that start waits until a service is ready, and stop until it has ended.
    wait_seconds: u64 = "kdk.runit_wait_secs", Kind::Int(1, 3600), |_| 20;
    /// Size in MiB at which a service's log is rotated.
    log_max_size: u64 = "kdk.log.max_size", Kind::Int(1, 1 << 20), |_| 10;
    /// How many rotated logs are kept for each service.
    log_keep: u64 = "kdk.log.keep", Kind::Int(0, 1000), |_| 5;
    /// No effect; accepted for compatibility with KDK.
    debug: bool = "kdk.debug", Kind::Bool, |_| false;
}

settings! { SERVICES;
    /// Runs PostgreSQL as a service, for the metadata database.
    postgresql_enabled: bool = "postgresql.enabled", Kind::Bool, from "registry.enabled, registry.database.enabled, registry.database.host" |c| c.runs_registry() && c.registry_database_enabled() != "false" && c.registry_database_host() == c.postgresql_host();
    /// Port of PostgreSQL; it names the socket too.
    postgresql_port: u16 = "postgresql.port", Kind::Port, |_| 5432;
    /// Host of PostgreSQL: a directory with its socket, or a name.
    postgresql_host: String = "postgresql.host", Kind::Text, from "postgresql.dir" |c| c.root().postgresql_socket(&c.root().join(&c.postgresql_dir()));
    /// Directory of PostgreSQL's data and socket.
    postgresql_dir: String = "postgresql.dir", Kind::Path, from "the root" |c| c.root().join("postgresql");
    /// Directory of PostgreSQL's data.
    postgresql_data_dir: String = "postgresql.data_dir", Kind::Path, from "postgresql.dir" |c| c.root().join(&c.postgresql_dir()).join("data");
    /// Directory of PostgreSQL's programs; empty means the one that is found.
    postgresql_bin_dir: String = "postgresql.bin_dir", Kind::Text, |_| "";
    /// Renders the configuration of a CI/CD runner.
    runner_enabled: bool = "runner.enabled", Kind::Bool, |_| false;
    /// File that the runner's configuration is rendered to.
    runner_config_file: String = "runner.config_file", Kind::Path, from "the root" |c| c.root().join("khulnasoft-runner-config.toml");
    /// How the runner runs jobs.
    runner_executor: String = "runner.executor", Kind::Choice(&["docker", "shell"]), |_| "docker";
    /// URL by which the runner reaches KhulnaSoft.
    runner_url: String = "runner.url", Kind::Text, from "hostname, port, https.enabled, relative_url_root" |c| c.url();
    /// Token of the runner.
    runner_token: Option<String> = "runner.token", Kind::Secret, |_| Value::Null;
    /// Image of jobs that name none.
    runner_image: String = "runner.image", Kind::Text, |_| "ruby:3.2";
    /// Runs job containers privileged, for Docker-in-Docker; such jobs have root's power over the host.
    runner_privileged: bool = "runner.privileged", Kind::Bool, |_| true;
    /// When the runner pulls images.
    runner_pull_policy: String = "runner.pull_policy", Kind::Choice(&["always", "if-not-present", "never"]), |_| "if-not-present";
    /// Extra /etc/hosts entries for job containers, as name:address.
    runner_extra_hosts: Vec<String> = "runner.extra_hosts", Kind::List, |_| Vec::<String>::new();
    /// No effect; for an object store, set registry.storage, and run a registry that is not the built-in one.
    object_store_enabled: bool = "object_store.enabled", Kind::Bool, |_| false;
    /// Port of the object store.
    object_store_port: u16 = "object_store.port", Kind::Port, |_| 9000;
    /// Where development versions of the registry are cloned from: a URL or a path.
    repositories_registry: String = "repositories.registry", Kind::Text, |_| "https://khulnasoft.com/khulnasoft-org/container-registry.git";
}
