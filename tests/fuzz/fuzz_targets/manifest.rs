//! Manifests as they are pushed.

#![no_main]

mod bounds;

use bytes::Bytes;
use kdk::registry::oci::manifest::Manifest;
use kdk::registry::oci::referrer::Referrer;
use kdk::registry::oci::{Algorithm, Digest, media_type};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let digest = Digest::of(Algorithm::Sha256, content);
    for kind in [
        None,
        Some(media_type::OCI_MANIFEST),
        Some(media_type::OCI_INDEX),
        Some(media_type::DOCKER_LIST),
        Some("text/plain"),
    ] {
        if let Ok(manifest) = Manifest::parse(content, kind) {
            let _ = manifest.for_platform("linux", "amd64");
            let _ = manifest.references().count();
            let referrer = Referrer::of(&digest, &Bytes::copy_from_slice(content), &manifest);
            assert_eq!(referrer.size, content.len() as u64);
            // What is passed on as it came is JSON.
            serde_json::to_string(&referrer).expect("written");
        }
    }
    for entry in Referrer::of_fallback(&Bytes::copy_from_slice(content)) {
        serde_json::to_string(&entry).expect("written");
    }
    let _ = media_type::of_unknown(content);
});
