//! The registry with its metadata in PostgreSQL, in a root of its own.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use crate::client::Client;
use crate::server::{Kind, free_port};
use crate::{Table, workloads};

/// Tags of the large repository.
const TAGS: usize = 100_000;
/// How often a page is asked for.
const PAGES: usize = 200;

/// A root, whose services end with it.
pub struct Root<'a> {
    pub path: &'a Path,
    pub kdk: &'static str,
}

impl Root<'_> {
    pub fn kdk(&self, arguments: &[&str]) -> Output {
        let output = Command::new(self.kdk)
            .arg("--root")
            .arg(self.path)
            .args(arguments)
            .env_remove("KDK_ROOT")
            .output()
            .expect("run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    pub fn timed(&self, arguments: &[&str]) -> f64 {
        let began = Instant::now();
        self.kdk(arguments);
        began.elapsed().as_secs_f64()
    }
}

impl Drop for Root<'_> {
    fn drop(&mut self) {
        self.kdk(&["kill", "--yes"]);
        if let Ok(elsewhere) = std::fs::read_link(self.path.join("postgresql")) {
            let _ = std::fs::remove_dir_all(&elsewhere);
            let _ = std::fs::remove_file(elsewhere.with_extension("root"));
        }
    }
}

/// Adds rows to a table.
pub fn measure(kind: Kind, directory: &Path, table: &mut Table) {
    let path = directory.join("root");
    workloads::lay_out_garbage(&path.join("registry/storage"));
    let (registry, rails) = (free_port(), free_port());
    let settings = |more: &str| {
        let text =
            format!("port: {rails}\nregistry:\n  enabled: true\n  port: {registry}\n  auth_enabled: false\n{more}");
        std::fs::write(path.join("kdk.yml"), text).expect("written");
    };
    settings("  read_only_maintenance_enabled: true\n");
    let root = Root {
        path: &path,
        kdk: kind.program(),
    };
    root.kdk(&["reconfigure"]);
    root.kdk(&["config", "set", "postgresql.enabled", "true"]);
    root.kdk(&["start"]);
    // The first run makes the database, too: not what is measured.
    root.kdk(&["import-registry-data", "--dry-run", "--row-count"]);
    workloads::rest();
    let seconds = root.timed(&["import-registry-data", "--yes"]);
    let tags = root.kdk(&["psql", "-A", "-t", "-c", "SELECT count(*) FROM tags"]);
    let tags: f64 = String::from_utf8_lossy(&tags.stdout).trim().parse().expect("a number");
    table.add("database: import, tagged manifests", "/s", 1.0, tags / seconds);
    let seconds = root.timed(&["reset-registry-data", "--yes"]);
    table.add("database: reset", "s", 1.0, seconds);
    // What the files hold would have to be imported first.
    std::fs::remove_dir_all(path.join("registry/storage")).expect("removed");
    settings("  database:\n    enabled: true\n");
    root.kdk(&["reconfigure"]);
    root.kdk(&["restart"]);
    let address = format!("127.0.0.1:{registry}");
    let rate = workloads::small_blobs(&address, 2000);
    table.add("database: small blobs, 16 connections", "/s", 1.0, rate);
    let rate = workloads::blob_heads(&address);
    table.add("database: blob HEAD, 32 connections", "/s", 1.0, rate);
    let rate = workloads::manifest_puts(&address, 2000);
    table.add("database: manifest put, 16 connections", "/s", 1.0, rate);
    let (by_tag, by_digest) = workloads::manifest_gets(&address, 2000);
    table.add("database: manifest get by tag, 32 connections", "/s", 1.0, by_tag);
    table.add("database: manifest get by digest, 32 connections", "/s", 1.0, by_digest);
    let rate = workloads::tag_pages(&address, 2000);
    table.add("database: manifest tags, pages of 100", "/s", 1.0, rate);
    let times = workloads::manifest_times(&address, 2000);
    let last_of_99 = times[times.len() * 99 / 100];
    table.add("database: by tag, 99th of 100", "ms", 1.0, last_of_99);
    let times = std::thread::scope(|scope| {
        let reading = scope.spawn(|| workloads::manifest_times(&address, 2000));
        std::thread::sleep(std::time::Duration::from_millis(500));
        root.kdk(&["psql", "-c", "CHECKPOINT"]);
        reading.join().expect("no panic")
    });
    let last_of_99 = times[times.len() * 99 / 100];
    table.add(
        "database: by tag through a checkpoint, 99th of 100",
        "ms",
        1.0,
        last_of_99,
    );
    root.kdk(&["restart", "registry"]);
    let times = workloads::manifest_times(&address, 2000);
    let slowest = times.last().copied().unwrap_or_default();
    table.add("database: by tag after a restart, slowest", "ms", 1.0, slowest);
    root.kdk(&[
        "psql",
        "-c",
        &format!(
            "INSERT INTO tags (top_level_namespace_id, repository_id, name, manifest_id)
            SELECT t.top_level_namespace_id, t.repository_id, 'v' || n, t.manifest_id
            FROM (SELECT * FROM tags LIMIT 1) AS t, generate_series(1, {TAGS}) AS n"
        ),
        "-c",
        "ANALYZE",
    ]);
    let large = root.kdk(&[
        "psql",
        "-A",
        "-t",
        "-c",
        "SELECT r.path FROM repositories AS r JOIN tags AS t ON t.repository_id = r.id WHERE t.name = 'v1'",
    ]);
    let name = String::from_utf8_lossy(&large.stdout).trim().to_owned();
    let mut client = Client::connect(&address).expect("connected");
    for (title, page) in [
        (
            "database: first page of 100,000 tags",
            format!("/v2/{name}/tags/list?n=100"),
        ),
        (
            "database: the same with details",
            format!("/gitlab/v1/repositories/{name}/tags/list/?n=100"),
        ),
        (
            "database: the same, the latest first",
            format!("/gitlab/v1/repositories/{name}/tags/list/?n=100&sort=-published_at"),
        ),
    ] {
        let mut times: Vec<f64> = (0..PAGES)
            .map(|_| {
                let began = Instant::now();
                let answer = client.request("GET", &page, "", b"").expect("answered");
                assert_eq!(answer.status, 200, "{page}");
                began.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        times.sort_by(f64::total_cmp);
        table.add(title, "ms", 1.0, times[PAGES / 2]);
    }
}
