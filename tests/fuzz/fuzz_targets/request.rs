//! The path and the headers of a request.

#![no_main]

mod bounds;

use kdk::registry::http::handlers::ROUTES;
use kdk::registry::oci::range::{ByteRange, ContentRange};
use kdk::registry::oci::{Digest, RepoName, media_type::Accept};
use kdk::registry::storage::layout;
use kdk::registry::storage::upload_state::StateSigner;
use kdk::serve::route::Found;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Found::Resource(_, params) = ROUTES.find(text) {
        // No path leads out of the store.
        if let Ok(name) = params.long().unwrap_or_default().parse::<RepoName>() {
            for path in [layout::repository(name.as_str()), layout::tags(&name)] {
                let path = path.as_str();
                assert!(path.starts_with("docker/registry/v2/repositories/"));
                assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
                assert!(!path.contains('\0'));
            }
        }
        if let Ok(digest) = params.get("digest").parse::<Digest>() {
            assert!(layout::blob_data(&digest).as_str().split('/').all(|part| part != ".."));
        }
    }
    for size in [0, 1, 1000] {
        if let ByteRange::Parts(parts) = ByteRange::parse(Some(text), size) {
            assert!(parts.iter().all(|part| part.first <= part.last && part.last < size));
        }
    }
    if let Some(range) = ContentRange::parse(text) {
        assert!(range.first <= range.last && range.length() >= 1);
    }
    let _ = Accept::parse([text]).names_a_manifest();
    assert_eq!(StateSigner::new("secret").verify(text), None);
});
