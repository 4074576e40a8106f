//! What reads cost as repositories grow: each at three sizes, in files and with
//! a metadata database, and docker-registry beside them.

use std::path::Path;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

use crate::client::Client;
use crate::database::Root;
use crate::server::{Kind, Server, configure, free_port};
use crate::workloads::{self, digest, repeat};

/// Tags, manifests, what is attached to one, blobs of a repository; repositories.
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// Of how many of them something is read, whatever their number: what is
/// measured is not how much fits into memory.
const READ: usize = 1_000;
const CONNECTIONS: usize = 4;

/// A line of the table: what is measured, where, and a value for each size.
struct Line {
    what: String,
    unit: &'static str,
    values: Vec<f64>,
}

#[derive(Default)]
struct Lines(Vec<Line>);

impl Lines {
    fn add(&mut self, what: &str, unit: &'static str, value: f64) {
        eprintln!("  {what}: {value:.4} {unit}");
        match self.0.iter_mut().find(|line| line.what == what) {
            Some(line) => line.values.push(value),
            None => self.0.push(Line {
                what: what.to_owned(),
                unit,
                values: vec![value],
            }),
        }
    }
}

/// Measures everything at every size; returns the table.
pub fn measure(directory: &Path) -> Vec<String> {
    let mut lines = Lines::default();
    for size in SIZES {
        eprintln!("growth, {size}:");
        let own = directory.join(size.to_string());
        at(size, &own, &mut lines);
        let _ = std::fs::remove_dir_all(&own);
    }
    let number = |value: f64| match value {
        value if value.is_nan() => "–".to_owned(),
        value if value < 10.0 => format!("{value:.2}"),
        value => format!("{value:.0}"),
    };
    let row = |line: &Line| {
        let values: Vec<String> = line
            .values
            .iter()
            .map(|value| format!("{} {}", number(*value), line.unit))
            .collect();
        let (first, last) = (line.values[0], line.values[line.values.len() - 1]);
        // How much more it costs.
        let more = if line.unit == "/s" { first / last } else { last / first };
        format!("| {} | {} | {more:.2}× |", line.what, values.join(" | "))
    };
    lines.0.iter().map(row).collect()
}

fn at(size: usize, directory: &Path, lines: &mut Lines) {
    let storage = directory.join("files/storage");
    let manifests = workloads::lay_out_growth(&storage, size);
    workloads::rest();
    for kind in [Kind::Kdk, Kind::DockerRegistry] {
        let server = Server::start(kind, &directory.join("files"));
        if kind == Kind::Kdk {
            lines.add("start, kdk", "ms", server.started_in.as_secs_f64() * 1000.0);
        }
        let face = if kind == Kind::Kdk { "files" } else { "docker-registry" };
        reads(&server.address, face, size, &manifests, lines);
    }
    let config = configure(&directory.join("files"), free_port());
    for (what, arguments) in [
        ("collection", &["garbage-collect", "-m", "--dry-run", "-q"][..]),
        ("verify", &["verify"]),
    ] {
        let began = Instant::now();
        let mut command = Kind::Kdk.command(arguments[0]);
        let output = command.args(&arguments[1..]).arg(&config).output().expect("run");
        // What is wrong with layers of no content is no matter here.
        assert!(
            output.status.code() < Some(2),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let each = began.elapsed().as_secs_f64() * 1e6 / size as f64;
        lines.add(&format!("{what}, each"), "µs", each);
        if what == "collection" {
            // The largest child so far, and each is larger than the one before.
            let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel says it");
            lines.add(
                "collection, largest process so far",
                "MiB",
                usage.max_rss() as f64 / 1024.0,
            );
        }
    }
    in_database(size, directory, &storage, &manifests, lines);
}

/// Makes the same in a database, and reads it there.
fn in_database(size: usize, directory: &Path, storage: &Path, manifests: &[String], lines: &mut Lines) {
    let path = directory.join("root");
    std::fs::create_dir_all(&path).expect("made");
    let (registry, rails) = (free_port(), free_port());
    let text = format!(
        "port: {rails}\nregistry:\n  enabled: true\n  port: {registry}\n  auth_enabled: false\n  database:\n    enabled: true\n"
    );
    std::fs::write(path.join("kdk.yml"), text).expect("written");
    let root = Root {
        path: &path,
        kdk: Kind::Kdk.program(),
    };
    root.kdk(&["reconfigure"]);
    root.kdk(&["config", "set", "postgresql.enabled", "true"]);
    // What is stored is the same.
    let top = path.join("registry/storage/docker/registry/v2");
    std::fs::create_dir_all(&top).expect("made");
    std::fs::rename(storage.join("docker/registry/v2/blobs"), top.join("blobs")).expect("moved");
    root.kdk(&["start"]);
    let address = format!("127.0.0.1:{registry}");
    workloads::push_growth(&address);
    // PostgreSQL does so by itself, within a minute.
    root.kdk(&["psql", "-c", &workloads::growth_rows(size), "-c", "ANALYZE"]);
    workloads::rest();
    reads(&address, "database", size, manifests, lines);
}

/// Something to read, with its name.
type Read<'a> = (&'static str, Box<dyn Fn(&mut Client, usize) + Sync + 'a>);

fn reads(address: &str, face: &str, size: usize, manifests: &[String], lines: &mut Lines) {
    let step = size / READ;
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let header = format!("Accept: {accept}\r\n");
    let get = |client: &mut Client, method: &str, path: String| {
        let got = client.drain(method, &path, &header).expect("answered");
        assert_eq!(got.0, 200, "{path}");
    };
    let place = |number: usize| number * 7 % READ * step;
    // Pages of a hundred, or of ten.
    let page = |number: usize, entries: usize| number * 7 % (READ / entries) * (size * entries / READ);
    let subject = &manifests[0];
    let mut sorted = manifests.to_vec();
    sorted.sort();
    let reads: Vec<Read<'_>> = vec![
        (
            "manifest by tag",
            Box::new(|client, number| get(client, "GET", format!("/v2/grow/tags/manifests/v{:06}", place(number)))),
        ),
        (
            "manifest by digest",
            Box::new(|client, number| {
                get(
                    client,
                    "GET",
                    format!("/v2/grow/manifests/manifests/{}", manifests[place(number)]),
                );
            }),
        ),
        (
            "blob HEAD",
            Box::new(|client, number| {
                let blob = digest(format!("blob {:06}", place(number)).as_bytes());
                get(client, "HEAD", format!("/v2/grow/blobs/blobs/{blob}"));
            }),
        ),
        (
            "tags, pages of 100",
            Box::new(|client, number| {
                get(
                    client,
                    "GET",
                    format!("/v2/grow/tags/tags/list?n=100&last=v{:06}", page(number, 100)),
                );
            }),
        ),
        (
            "catalog, pages of 100",
            Box::new(|client, number| {
                get(
                    client,
                    "GET",
                    format!("/v2/_catalog?n=100&last=many/r{:06}", page(number, 100)),
                );
            }),
        ),
        (
            "referrers, pages of 10",
            Box::new(|client, number| {
                let last = &sorted[page(number, 10)];
                get(
                    client,
                    "GET",
                    format!("/v2/grow/manifests/referrers/{subject}?n=10&last={last}"),
                );
            }),
        ),
    ];
    for (what, read) in reads {
        if what.starts_with("referrers") && face == "docker-registry" {
            // It has none.
            continue;
        }
        // Once for what is read for the first time.
        let began = Instant::now();
        read(&mut Client::connect(address).expect("connected"), 0);
        if what.starts_with("referrers") {
            let first = began.elapsed().as_secs_f64() * 1000.0;
            lines.add(&format!("the first referrers, {face}"), "ms", first);
        }
        // Directories that the kernel has not seen yet are no matter of size.
        if face != "docker-registry" {
            let mut client = Client::connect(address).expect("connected");
            (0..READ).for_each(|number| read(&mut client, number));
        }
        lines.add(&format!("{what}, {face}"), "/s", repeat(address, CONNECTIONS, read));
    }
}
