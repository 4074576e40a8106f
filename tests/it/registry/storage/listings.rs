//! Pages of what is there, at any size.

use crate::support::TestRegistry;

/// A page is filled up with what follows, where something on it is broken.
#[test]
fn pages_of_tags_are_full_whatever_is_broken() {
    let registry = TestRegistry::start();
    registry.push_image("a/b", "t", "x");
    let tags = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/repositories/a/b/_manifests/tags");
    let link = std::fs::read(tags.join("t/current/link")).expect("read");
    for number in 0..3000 {
        let directory = tags.join(format!("v{number:04}/current"));
        std::fs::create_dir_all(&directory).expect("made");
        // Every tenth is broken, as a power loss leaves it.
        let content: &[u8] = if number % 10 == 0 { b"" } else { &link };
        std::fs::write(directory.join("link"), content).expect("written");
    }
    std::thread::sleep(std::time::Duration::from_millis(5100));
    let mut all = Vec::new();
    let mut path = "/v2/a/b/tags/list?n=100".to_owned();
    loop {
        let answer = registry.get(&path);
        let link = answer
            .headers()
            .get("link")
            .map(|link| link.to_str().expect("text").to_owned());
        let page: serde_json::Value = answer.json().expect("JSON");
        let names = page["tags"].as_array().expect("a list");
        assert!(names.len() <= 100);
        all.extend(names.iter().map(|name| name.as_str().expect("text").to_owned()));
        let Some(link) = link else { break };
        assert_eq!(names.len(), 100, "{link}");
        path = link.split(['<', '>']).nth(1).expect("an address").to_owned();
    }
    let expected = (0..3000)
        .filter(|number| number % 10 != 0)
        .map(|number| format!("v{number:04}"));
    let expected: Vec<String> = std::iter::once("t".to_owned()).chain(expected).collect();
    assert_eq!(all, expected);
}
