//! What an import brings along.

use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::postgres::TestPostgres;
use crate::support::{KDK, Output, TestRegistry, temporary};

/// Whoever cleans up by age goes by when a tag was put, not by when it was imported.
#[test]
fn a_tag_is_as_old_as_its_link() {
    let postgres = TestPostgres::shared();
    let mut registry = TestRegistry::start();
    registry.push_image("a/b", "old", "old");
    registry.push_image("a/b", "new", "new");
    registry.stop();
    let directory = std::mem::replace(&mut registry.directory, temporary());
    let tags = directory
        .path()
        .join("storage/docker/registry/v2/repositories/a/b/_manifests/tags");
    let link = std::fs::File::open(tags.join("old/current/link")).expect("opened");
    let year = Duration::from_hours(365 * 24);
    link.set_modified(SystemTime::now() - year).expect("set");
    postgres.database("ages");
    let config = directory.path().join("import.yml");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n{}",
        directory.path().join("storage").display(),
        postgres.section("ages", false)
    );
    std::fs::write(&config, text).expect("written");
    let mut import = Command::new(KDK);
    import.args(["registry", "database", "import", "--log-directory"]);
    Output::of(import.arg(directory.path()).arg(&config)).ok();
    let ages = postgres.sql(
        "ages",
        "SELECT name, created_at < now() - interval '364 days', created_at > now() - interval '366 days'
        FROM tags ORDER BY name",
    );
    assert_eq!(ages.trim(), "new|f|t\nold|t|t");
    postgres.forget("ages");
}
