//! The layer rule, read off the `use` lines.

use std::fs;
use std::path::{Path, PathBuf};

/// What each part of the crate may use of the others.
const MAY_USE: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("serve", &["sys"]),
    ("registry", &["sys", "serve"]),
    ("front", &["sys", "serve"]),
    ("rails", &["sys", "serve", "registry::oci", "registry::token"]),
    ("root", &["sys"]),
    ("config", &["root", "sys"]),
    ("supervisor", &["sys"]),
    ("certs", &["sys"]),
    ("roots", &["config", "root", "sys"]),
    ("render", &["config", "root", "sys"]),
    ("services", &["config", "root", "sys", "supervisor"]),
    ("clients", &["config", "root", "sys"]),
    (
        "reconfigure",
        &[
            "certs",
            "clients",
            "config",
            "rails::identity",
            "registry::config",
            "render",
            "root",
            "services",
            "supervisor",
            "sys",
        ],
    ),
];

/// Modules that must be pure: no file, socket, process or clock.
const PURE: &[&str] = &[
    "registry/oci",
    "registry/token",
    "supervisor/protocol.rs",
    "supervisor/state.rs",
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&top, &mut found);
    let relative = |path: &Path| {
        path.strip_prefix(&top)
            .expect("below")
            .to_str()
            .expect("UTF-8")
            .to_owned()
    };
    found
        .iter()
        .map(|path| (relative(path), fs::read_to_string(path).expect("read")))
        .collect()
}

/// The code without its unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

#[test]
fn modules_use_lower_layers_only() {
    let mut breaches = Vec::new();
    for (file, text) in all() {
        let module = file.split(['/', '.']).next().expect("a part");
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            assert!(
                ["cli", "lib", "main"].contains(&module),
                "{file} has no place in the layers: add it here and to src/lib.rs"
            );
            continue;
        };
        for (number, line) in code(&text).lines().enumerate() {
            for used in line
                .match_indices("crate::")
                .map(|(at, _)| &line[at + "crate::".len()..])
            {
                let own = used.starts_with(module);
                let may = allowed.iter().any(|path| {
                    used.strip_prefix(path)
                        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
                });
                if !own && !may && !line.trim_start().starts_with("//") {
                    breaches.push(format!("src/{file}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(
        breaches.is_empty(),
        "the layer rule is broken:\n{}",
        breaches.join("\n")
    );
}

#[test]
fn pure_modules_do_no_input_or_output() {
    const IMPURE: &[&str] = &[
        "std::fs",
        "std::net",
        "std::process",
        "tokio::",
        "crate::sys::fs",
        "crate::sys::net",
        "Clock",
    ];
    let mut breaches = Vec::new();
    for (file, text) in all()
        .iter()
        .filter(|(file, _)| PURE.iter().any(|pure| file.starts_with(pure)))
    {
        for line in code(text).lines().filter(|line| !line.trim_start().starts_with("//")) {
            if IMPURE.iter().any(|word| line.contains(word)) {
                breaches.push(format!("src/{file}: {}", line.trim()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn unsafe_code_is_in_sys_only() {
    for (file, text) in all() {
        assert!(
            file.starts_with("sys/") || !text.contains("unsafe {"),
            "src/{file} has unsafe code"
        );
    }
}

#[test]
fn files_are_not_too_long() {
    for (file, text) in all() {
        let lines = text.lines().count();
        assert!(lines <= 600, "src/{file} has {lines} lines: does it hold one idea?");
    }
}
