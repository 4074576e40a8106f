//! Images that tests build themselves: nothing is fetched.

use std::path::Path;

/// Writes a Dockerfile and the files that it copies; every layer is new each time.
pub fn context(directory: &Path, layers: usize) {
    std::fs::create_dir_all(directory).expect("made");
    let mut dockerfile = String::from("FROM scratch\n");
    for layer in 0..layers {
        let mut content = vec![0_u8; 300_000 * (layer + 1)];
        getrandom::fill(&mut content).expect("random");
        std::fs::write(directory.join(format!("file{layer}")), content).expect("written");
        dockerfile.push_str(&format!("COPY file{layer} /file{layer}\n"));
    }
    dockerfile.push_str("CMD [\"/file0\"]\n");
    std::fs::write(directory.join("Dockerfile"), dockerfile).expect("written");
}

/// Writes an OCI layout with an image named `image`, the same for the same seed.
pub fn layout(directory: &Path, seed: &str) {
    layout_of(directory, seed, &archive("seed", seed.as_bytes()));
}

/// Writes what makes a large image: `context` for those that build it (a file
/// `noise` and a Dockerfile), and `layout`, the OCI layout of the same.
pub fn large(directory: &Path, size: usize) {
    let context = directory.join("context");
    std::fs::create_dir_all(&context).expect("made");
    let mut noise = vec![0_u8; size];
    getrandom::fill(&mut noise).expect("random");
    std::fs::write(context.join("noise"), &noise).expect("written");
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY noise /noise\n").expect("written");
    layout_of(&directory.join("layout"), "large", &archive("noise", &noise));
}

/// Returns an archive (ustar) of one file.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    // A header with a checksum, the content in blocks, and two empty blocks.
    let mut archive = vec![0_u8; 512];
    archive[..name.len()].copy_from_slice(name.as_bytes());
    archive[100..107].copy_from_slice(b"0000644");
    archive[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    archive[136..147].copy_from_slice(b"00000000000");
    archive[156] = b'0';
    archive[257..262].copy_from_slice(b"ustar");
    archive[263..265].copy_from_slice(b"00");
    archive[148..156].copy_from_slice(b"        ");
    let sum: u32 = archive[..512].iter().map(|byte| u32::from(*byte)).sum();
    archive[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

fn layout_of(directory: &Path, seed: &str, layer: &[u8]) {
    use serde_json::json;
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("made");
    let put = |content: &[u8]| {
        let digest = super::registry::digest(content);
        std::fs::write(blobs.join(&digest["sha256:".len()..]), content).expect("written");
        digest
    };
    let diff = put(layer);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"seed": seed}},
        "rootfs": {"type": "layers", "diff_ids": [diff]}})
    .to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": super::registry::OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": put(config.as_bytes()), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff, "size": layer.len()}],
    })
    .to_string();
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": super::registry::OCI_MANIFEST,
            "digest": put(manifest.as_bytes()),
            "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": "image"},
        }],
    });
    std::fs::write(directory.join("index.json"), index.to_string()).expect("written");
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
}
