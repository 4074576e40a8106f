//! The settings, a group per file, in the order of the documents.

mod environment;
pub mod from_gitlab;
mod rails;
mod registry;

use serde_json::Value;

use super::settings::Setting;

/// All groups.
pub static GROUPS: &[&[Setting]] = &[
    environment::TOP,
    environment::KDK,
    registry::REGISTRY,
    rails::RAILS,
    environment::SERVICES,
];

/// Sections that belong to this tool. In them, an unknown key is an error.
pub const SECTIONS: &[&str] = &[
    "https",
    "kdk",
    "registry",
    "rails",
    "default_projects_features",
    "postgresql",
    "runner",
    "object_store",
    "repositories",
];

/// Keys that KDK knows in sections of ours, and that have no effect here. A
/// trailing dot stands for a whole section.
pub static INERT: Inert = Inert(&[
    "kdk.ask_to_restart_after_update",
    "kdk.auto_rebase_projects",
    "kdk.auto_reconfigure",
    "kdk.experimental.",
    "kdk.preflight_checks",
    "kdk.quiet",
    "kdk.rubygems_update",
    "kdk.shell_completion",
    "kdk.start_hooks.",
    "kdk.stop_hooks.",
    "kdk.system_packages_opt_out",
    "kdk.telemetry.",
    "kdk.update_announcements",
    "kdk.update_hooks.",
    "kdk.use_bash_shim",
    "kdk.username",
    "object_store.backup_remote_directory",
    "object_store.console_port",
    "object_store.connection.",
    "object_store.consolidated_form",
    "object_store.host",
    "object_store.objects.",
    "postgresql.active_version",
    "postgresql.bin",
    "postgresql.geo.",
    "postgresql.max_connections",
    "postgresql.multiple_replicas.",
    "postgresql.replica.",
    "postgresql.replica_2.",
    "postgresql.replication_user",
    "postgresql.upgrade_needed",
    "repositories.",
    "runner.bin",
    "runner.concurrent",
    "runner.docker_host",
    "runner.docker_pull",
    "runner.install_mode",
    "runner.network_mode_host",
    "registry.gid",
    "registry.uid",
]);

/// Keys that have no effect here.
pub struct Inert(&'static [&'static str]);

impl Inert {
    /// Says whether a key is one of them.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|known| match known.strip_suffix('.') {
            Some(section) => key == section || key.starts_with(known),
            None => key == *known,
        })
    }

    /// Returns those that stand in a file.
    pub fn of(&self, tree: &Value) -> Vec<String> {
        let mut found = Vec::new();
        for section in SECTIONS {
            self.walk(section, &tree[*section], &mut found);
        }
        found
    }

    fn walk(&self, section: &str, value: &Value, found: &mut Vec<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let key = format!("{section}.{name}");
            if self.has(&key) {
                found.push(key);
            } else {
                self.walk(&key, value, found);
            }
        }
    }
}

/// Keys of old times, and what to do instead.
pub const REMOVED: &[(&str, &str)] = &[
    (
        "auto_devops",
        "the Auto DevOps tunnel was removed in 2020; runners reach the registry at registry.host directly",
    ),
    (
        "registry.tunnel_host",
        "the tunnel was removed in 2020; set registry.host, or registry.external_url behind a proxy",
    ),
    (
        "registry.tunnel_port",
        "the tunnel was removed in 2020; set registry.port, or registry.external_url behind a proxy",
    ),
    (
        "registry.external_port",
        "set registry.external_url, with the port in it",
    ),
];
