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
