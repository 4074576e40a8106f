//! The configuration file and the variables that override it.

#![no_main]

mod bounds;

use kdk::registry::config::{Config, duration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let environment: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (format!("REGISTRY_{name}"), value.to_owned()))
        .collect();
    if let Ok(config) = Config::parse("config.yml".into(), file, &environment) {
        assert!(!config.explain().is_empty());
    }
    let _ = duration::parse(file);
});
