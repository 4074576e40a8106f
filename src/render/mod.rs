//! Rendered files: templates and settings in, texts out.
//!
//! Every scalar goes through the `json` filter, since JSON is YAML and a host
//! name must not be able to inject keys. Each text is parsed back before it
//! is used. A template in `<root>/templates/` replaces the built-in one.

pub mod context;
pub mod diff;
pub mod graft;

use camino::Utf8PathBuf;
use serde_json::Value;
use tera::{Context, Tera};

use crate::config::Config;
use crate::config::storage::merge;
use crate::sys::fs::{PRIVATE, PUBLIC};
use context::Secrets;

/// The built-in templates by name.
pub const TEMPLATES: [(&str, &str); 5] = [
    (REGISTRY, include_str!("../../templates/registry/config.yml.tera")),
    (
        KHULNASOFT,
        include_str!("../../templates/khulnasoft/config/khulnasoft.yml.tera"),
    ),
    (STAND_IN, include_str!("../../templates/rails/stand-in.yml.tera")),
    (FRONT, include_str!("../../templates/front/front.yml.tera")),
    (
        RUNNER,
        include_str!("../../templates/khulnasoft-runner-config.toml.tera"),
    ),
];
const REGISTRY: &str = "registry/config.yml.tera";
const KHULNASOFT: &str = "khulnasoft/config/khulnasoft.yml.tera";
const STAND_IN: &str = "rails/stand-in.yml.tera";
const FRONT: &str = "front/front.yml.tera";
const RUNNER: &str = "khulnasoft-runner-config.toml.tera";

/// A file as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Where it belongs.
    pub path: Utf8PathBuf,
    /// Its text.
    pub text: String,
    /// Its permission bits.
    pub mode: u32,
    /// What happens where another tool's file stands there.
    pub ownership: Ownership,
}

/// What happens to a file that another tool made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// It is replaced; a backup is kept.
    Ours,
    /// Only these keys of it are changed.
    Shared(&'static [&'static str]),
    /// It is left alone.
    Theirs,
    /// It is replaced and never shown: it is a key.
    Key,
}

/// Why a file could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template is wrong.
    #[error("template {name}{}: {reason}", if *own { " (your own, in templates/)" } else { "" })]
    Template {
        /// The template's name.
        name: &'static str,
        /// Whether it is the user's.
        own: bool,
        /// What is wrong.
        reason: String,
    },
    /// What came out is not valid.
    #[error("template {name} yields no valid file: {reason}")]
    Output {
        /// The template's name.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A template of the user's cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The keys of `khulnasoft.yml` that are the registry's, in every section.
const KHULNASOFT_KEYS: &[&str] = &["registry", "khulnasoft.default_projects_features.container_registry"];

/// Renders every file that the settings ask for.
///
/// # Errors
/// When a template is wrong or yields no valid file.
pub fn render(config: &Config, secrets: &Secrets) -> Result<Vec<Rendered>, RenderError> {
    let values = context::context(config, secrets);
    let root = config.root();
    let mut files = Vec::new();
    if !config.registry_is_elsewhere() {
        files.push(Rendered {
            path: root.registry_config(),
            text: registry(config, &values)?,
            mode: PRIVATE,
            ownership: Ownership::Ours,
        });
    }
    files.push(Rendered {
        path: config.khulnasoft_yml(),
        text: yaml(config, KHULNASOFT, &values)?,
        mode: PRIVATE,
        ownership: Ownership::Shared(KHULNASOFT_KEYS),
    });
    if config.rails_mode() == "embedded" {
        files.push(Rendered {
            path: root.stand_in(),
            text: yaml(config, STAND_IN, &values)?,
            mode: PRIVATE,
            ownership: Ownership::Ours,
        });
    }
    if config.registry_has_front() {
        files.push(Rendered {
            path: root.front(),
            text: yaml(config, FRONT, &values)?,
            mode: PRIVATE,
            ownership: Ownership::Ours,
        });
    }
    if config.runner_enabled() {
        let mode = if config.runner_token().is_some() {
            PRIVATE
        } else {
            PUBLIC
        };
        let text = fill(config, RUNNER, &values)?;
        files.push(Rendered {
            path: config.path(&config.runner_config_file()),
            text,
            mode,
            ownership: Ownership::Theirs,
        });
    }
    Ok(files)
}

/// Renders the registry's configuration and merges `registry.config` over it.
fn registry(config: &Config, values: &Value) -> Result<String, RenderError> {
    let text = yaml(config, REGISTRY, values)?;
    let over = config.registry_config();
    if over.is_empty() {
        return Ok(text);
    }
    let mut tree: Value = serde_yaml::from_str(&text).map_err(|error| output(REGISTRY, &error))?;
    // What switches it off here must not switch off what is asked for.
    if over.get("validation").is_some_and(Value::is_object) {
        merge(&mut tree, serde_json::json!({"validation": null}));
    }
    merge(&mut tree, Value::Object(over));
    let body = serde_yaml::to_string(&tree).map_err(|error| output(REGISTRY, &error))?;
    Ok(format!(
        "# Rendered by kdk from kdk.yml; change it there, or with registry.config.\n{body}"
    ))
}

fn yaml(config: &Config, name: &'static str, values: &Value) -> Result<String, RenderError> {
    let text = fill(config, name, values)?;
    serde_yaml::from_str::<serde_yaml::Value>(&text).map_err(|error| output(name, &error))?;
    Ok(text)
}

fn output(name: &'static str, reason: &dyn std::fmt::Display) -> RenderError {
    RenderError::Output {
        name,
        reason: reason.to_string(),
    }
}

fn fill(config: &Config, name: &'static str, values: &Value) -> Result<String, RenderError> {
    let own = crate::sys::fs::read_optional(&config.root().templates().join(name))?;
    let is_own = own.is_some();
    let built_in = TEMPLATES
        .iter()
        .find(|(known, _)| *known == name)
        .map_or("", |(_, text)| text);
    let template = own.as_deref().unwrap_or(built_in);
    let failed = |error: tera::Error| RenderError::Template {
        name,
        own: is_own,
        reason: error.to_string(),
    };
    let mut tera = Tera::new();
    tera.autoescape_on(Vec::<String>::new());
    tera.register_filter(
        "json",
        |value: tera::Value, _: tera::Kwargs, _: &tera::State| -> tera::TeraResult<String> {
            if value.is_undefined() {
                return Err(tera::Error::message("a name in the template does not exist"));
            }
            serde_json::to_string(&value).map_err(|error| tera::Error::message(error.to_string()))
        },
    );
    tera.add_raw_template(name, template).map_err(failed)?;
    tera.render(name, &Context::from_serialize(values).map_err(failed)?)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Root;

    fn rendered(kdk_yml: &str) -> Vec<Rendered> {
        let config = Config::parse(&Root::example(), kdk_yml.to_owned()).expect("valid");
        render(&config, &Secrets::example()).expect("rendered")
    }

    #[test]
    fn a_host_name_cannot_inject_keys() {
        let text = &rendered("registry: {issuer: 'x\", evil: \"y'}\n")[0].text;
        let tree: Value = serde_yaml::from_str(text).expect("valid");
        assert_eq!(tree["auth"]["token"]["issuer"], "x\", evil: \"y");
    }

    #[test]
    fn registry_config_is_merged_over_the_rendered_file() {
        let text = &rendered("registry: {config: {http: {prefix: /x/}, health: null}}\n")[0].text;
        let tree: Value = serde_yaml::from_str(text).expect("valid");
        assert_eq!(tree["http"]["prefix"], "/x/");
        assert_eq!(tree["http"]["addr"], "127.0.0.1:5000");
        assert!(tree.get("health").is_none());
    }

    #[test]
    fn every_rendered_configuration_is_one_that_the_registry_takes() {
        let all_on = "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  self_signed: true\n  notifications_enabled: true\n  read_only_maintenance_enabled: true\n  debug_addr: localhost:5001\n  relativeurls: true\n";
        for kdk_yml in ["", all_on] {
            let file = &rendered(kdk_yml)[0];
            let config = crate::registry::config::Config::parse(&file.path, &file.text, &[]).expect("taken");
            assert_eq!(config.warnings, Vec::<String>::new());
        }
    }
}
