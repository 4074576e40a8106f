//! The server's log.

use std::collections::BTreeMap;

use crate::registry::config::Config;
use crate::registry::version::VERSION;
use crate::serve::{id, log};

/// Begins the log that a configuration asks for.
pub fn init(config: &Config) {
    let mut fixed = BTreeMap::from([
        ("go_version".to_owned(), "rust".into()),
        ("instance_id".to_owned(), id::own().into()),
        ("version".to_owned(), format!("v{VERSION}-kdk").into()),
    ]);
    fixed.extend(config.log.fields.clone());
    log::init(config.log.level, config.log.format, fixed);
}
