//! Certificates and keys in PEM, and key sets, as somebody hands them over.

#![no_main]

mod bounds;

use std::sync::LazyLock;

use kdk::registry::auth::Authorizer;
use kdk::registry::config::Config;
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<String> = LazyLock::new(|| format!("/dev/shm/kdk-fuzz-pem-{}", std::process::id()));

static CONFIGURATIONS: LazyLock<Vec<Config>> = LazyLock::new(|| {
    ["rootcertbundle", "jwks"]
        .iter()
        .map(|key| {
            let text = format!(
                "version: 0.1\nstorage: {{inmemory: {{}}}}\nhttp: {{addr: ':0'}}\nauth: {{token: {{realm: 'http://x/', service: s, issuer: i, {key}: {}}}}}\n",
                *FILE
            );
            Config::parse("config.yml".into(), &text, &[]).expect("valid")
        })
        .collect()
});

fuzz_target!(|content: &[u8]| {
    if let Ok(text) = std::str::from_utf8(content) {
        let (bundle, key) = text.split_once("\n---\n").unwrap_or((text, text));
        let _ = kdk::certs::go_together(bundle, key);
        let _ = kdk::certs::fingerprint(text);
    }
    std::fs::write(&*FILE, content).expect("written");
    for config in CONFIGURATIONS.iter() {
        let _ = Authorizer::new(config.auth.as_ref());
    }
});
