//! The signed state of an upload, whoever wrote it.

#![no_main]

mod bounds;

use kdk::registry::storage::upload_state::{StateSigner, UploadState};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let signer = StateSigner::new("secret");
    if let Ok(text) = std::str::from_utf8(content) {
        assert_eq!(signer.verify(text), None, "nobody else signs");
    }
    if let Ok(state) = serde_json::from_slice::<UploadState>(content) {
        let _ = state.algorithm();
        let signed = signer.sign(&state);
        assert_eq!(signer.verify(&signed), Some(state));
        assert_eq!(StateSigner::new("another").verify(&signed), None);
    }
});
