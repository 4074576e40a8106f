//! Files of names and passwords, and the headers that they are asked for.

#![no_main]

mod bounds;

use std::sync::LazyLock;

use kdk::registry::auth::Authorizer;
use kdk::registry::config::Config;
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<String> = LazyLock::new(|| format!("/dev/shm/kdk-fuzz-htpasswd-{}", std::process::id()));

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = format!(
        "version: 0.1\nstorage: {{inmemory: {{}}}}\nhttp: {{addr: ':0'}}\nauth: {{htpasswd: {{realm: r, path: {}}}}}\n",
        *FILE
    );
    Config::parse("config.yml".into(), &text, &[]).expect("valid")
});

fuzz_target!(|content: &[u8]| {
    std::fs::write(&*FILE, content).expect("written");
    let _ = Authorizer::new(CONFIG.auth.as_ref());
});
