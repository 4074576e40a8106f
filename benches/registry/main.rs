//! Measures kdk's registry against Debian's docker-registry, on this disk,
//! one after the other, and prints one table with ratios.
//!
//! `cargo bench --bench registry` runs all; `-- --quick` a tenth of it;
//! `-- NAME …` the workloads whose names hold one of the words;
//! `-- --against=KDK --rounds=5` measures beside another build of kdk instead.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark reads clocks and prints"
)]
#![expect(clippy::cast_precision_loss, reason = "counts are small")]

mod client;
mod compare;
mod database;
mod front;
mod growth;
mod server;
mod workloads;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use server::{Kind, Server};

/// One line of the table.
struct Row {
    name: &'static str,
    unit: &'static str,
    /// Whether less is better.
    less: bool,
    /// The ratio that is aimed at, how much better than docker-registry.
    aim: f64,
    values: [f64; 2],
}

struct Table {
    rows: Vec<Row>,
    side: usize,
    wanted: Vec<String>,
}

impl Table {
    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|word| name.contains(word.as_str()))
    }

    fn add(&mut self, name: &'static str, unit: &'static str, aim: f64, value: f64) {
        eprintln!("  {name}: {value:.1} {unit}");
        let less = matches!(unit, "s" | "ms" | "MiB" | "files");
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            row.values[self.side] = value;
            return;
        }
        let mut values = [f64::NAN; 2];
        values[self.side] = value;
        self.rows.push(Row {
            name,
            unit,
            less,
            aim,
            values,
        });
    }
}

fn main() {
    let mut wanted: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let quick = wanted.iter().any(|word| word == "--quick");
    let option = |name: &str| {
        let of_it = |word: &String| word.strip_prefix(name).map(ToOwned::to_owned);
        wanted.iter().find_map(of_it)
    };
    let against = option("--against=");
    let rounds = option("--rounds=").map_or(5, |rounds| rounds.parse().expect("a number of rounds"));
    wanted.retain(|word| !word.starts_with("--"));
    let count = if quick { 500 } else { 5000 };
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}", std::process::id()));
    if let Some(other) = against {
        compare::run(other.leak(), rounds, &wanted, &directory, count);
        let _ = std::fs::remove_dir_all(&directory);
        return;
    }
    let mut table = Table {
        rows: Vec::new(),
        side: 0,
        wanted,
    };
    for (side, kind) in [Kind::Kdk, Kind::DockerRegistry].into_iter().enumerate() {
        eprintln!("{}:", kind.name());
        table.side = side;
        measure(kind, &directory.join(kind.name()), &mut table, count);
    }
    if !table.rows.is_empty() {
        print(&table.rows);
    }
    if table.wants("database") {
        eprintln!("kdk with a metadata database:");
        let mut own = Table {
            rows: Vec::new(),
            side: 0,
            wanted: Vec::new(),
        };
        database::measure(Kind::Kdk, &directory.join("database"), &mut own);
        println!("\n| with a metadata database | kdk |\n|---|---:|");
        for row in own.rows {
            println!("| {} | {:.2} {} |", row.name, row.values[0], row.unit);
        }
    }
    if table.wants("growth") {
        eprintln!("growth:");
        let lines = growth::measure(&directory.join("growth"));
        println!(
            "\n| growth | 1,000 | 10,000 | 100,000 | costs more |\n|---|---:|---:|---:|---:|\n{}",
            lines.join("\n")
        );
    }
    if table.wants("front") {
        eprintln!("docker-registry behind kdk's front:");
        let lines = front::measure(&directory.join("front"));
        println!(
            "\n| docker-registry | direct | through the front | ratio |\n|---|---:|---:|---:|\n{}",
            lines.join("\n")
        );
    }
    // Not before: removing many files slows what comes after it.
    let _ = std::fs::remove_dir_all(&directory);
}

fn measure(kind: Kind, directory: &Path, table: &mut Table, count: usize) {
    let storage = |name: &str| directory.join(name).join("storage");
    if table.wants("start") {
        let mut times: Vec<Duration> = (0..9)
            .map(|_| Server::start(kind, &directory.join("start")).started_in)
            .collect();
        times.sort_unstable();
        table.add(
            "start until the first answer",
            "ms",
            1.0,
            times[4].as_secs_f64() * 1000.0,
        );
        let server = Server::start(kind, &directory.join("start"));
        std::thread::sleep(Duration::from_millis(300));
        table.add("memory when idle", "MiB", 1.0, server.memory());
    }
    // One server for everything that loads it: its peak is of all.
    workloads::lay_out_repositories(&storage("load"), 2000);
    let server = Server::start(kind, &directory.join("load"));
    let address = server.address.clone();
    let began = Instant::now();
    if table.wants("large") {
        let blobs = workloads::large_blobs(1);
        table.add(
            "large push, one stream",
            "MiB/s",
            2.5,
            workloads::large_push(&address, &blobs, 1, false),
        );
        let blobs = workloads::large_blobs(2);
        table.add(
            "large push, four streams",
            "MiB/s",
            2.5,
            workloads::large_push(&address, &blobs, 4, false),
        );
        table.add(
            "large pull, one stream",
            "MiB/s",
            0.85,
            workloads::large_pull(&address, &blobs, 1),
        );
        table.add(
            "large pull, four streams",
            "MiB/s",
            1.0,
            workloads::large_pull(&address, &blobs, 4),
        );
        let blobs = workloads::large_blobs(3);
        table.add(
            "large chunked push, one stream",
            "MiB/s",
            3.0,
            workloads::large_push(&address, &blobs, 1, true),
        );
        let blobs = workloads::large_blobs(4);
        table.add(
            "large chunked push, four streams",
            "MiB/s",
            3.0,
            workloads::large_push(&address, &blobs, 4, true),
        );
    }
    if table.wants("small") {
        table.add(
            "small blobs, 16 connections",
            "/s",
            6.0,
            workloads::small_blobs(&address, count),
        );
    }
    if table.wants("blob HEAD") && table.wants("small") {
        let (cpu, began) = (server.cpu(), Instant::now());
        let rate = workloads::blob_heads(&address);
        let asked = rate * began.elapsed().as_secs_f64();
        table.add("blob HEAD, 32 connections", "/s", 14.0, rate);
        // The client shares the machine: this is what the server itself takes.
        let each = asked / (server.cpu() - cpu);
        table.add("blob HEAD, a second of the server's CPU", "/s", 14.0, each);
    }
    if table.wants("manifest") {
        table.add(
            "manifest put, 16 connections",
            "/s",
            3.0,
            workloads::manifest_puts(&address, count),
        );
        let (by_tag, by_digest) = workloads::manifest_gets(&address, count);
        table.add("manifest get by tag, 32 connections", "/s", 12.0, by_tag);
        table.add("manifest get by digest, 32 connections", "/s", 12.0, by_digest);
        table.add(
            "manifest tags, pages of 100",
            "/s",
            30.0,
            workloads::tag_pages(&address, count),
        );
    }
    if table.wants("catalog") {
        table.add(
            "catalog, pages of 100",
            "/s",
            15.0,
            workloads::catalog_pages(&address, 2000),
        );
    }
    if table.wants("ten-layer") {
        let rate = workloads::image_pushes(&address, 200, "images/r");
        table.add("ten-layer pushes with mounts, 4 connections", "/s", 5.0, rate);
    }
    if table.wants("memory") {
        table.add("peak memory", "MiB", 2.0, server.peak_memory());
        table.add(
            "CPU time per second of load",
            "s",
            1.0,
            server.cpu() / began.elapsed().as_secs_f64(),
        );
    }
    drop(server);
    if table.wants("garbage") {
        let garbage = directory.join("garbage");
        workloads::lay_out_garbage(&garbage.join("storage"));
        let config = server::configure(&garbage, 5000);
        let collect = |more: &[&str]| {
            let began = Instant::now();
            let mut command = kind.command("garbage-collect");
            if kind != Kind::DockerRegistry {
                // The other has no such protection for what is young.
                command.args(["--grace", "0s"]);
            }
            let output = command.arg("-m").args(more).arg(&config).output().expect("run");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            began.elapsed().as_secs_f64()
        };
        // Once for what is read for the first time.
        collect(&["--dry-run"]);
        table.add("garbage of 10,000 manifests, found", "s", 10.0, collect(&["--dry-run"]));
        table.add("garbage of 10,000 manifests, removed", "s", 10.0, collect(&[]));
        table.add(
            "files left by garbage collection",
            "files",
            1.0,
            workloads::files_below(&garbage.join("storage")) as f64,
        );
    }
}

fn print(rows: &[Row]) {
    println!("| workload | kdk | docker-registry | ratio | aim |");
    println!("|---|---:|---:|---:|---:|");
    for row in rows {
        let [ours, theirs] = row.values;
        let ratio = if row.less { theirs / ours } else { ours / theirs };
        let number = |value: f64| match value {
            value if value.is_nan() => "–".to_owned(),
            value if value < 10.0 => format!("{value:.2}"),
            value => format!("{value:.0}"),
        };
        println!(
            "| {} | {} {} | {} {} | {ratio:.1}× | ≥ {}× |",
            row.name,
            number(ours),
            row.unit,
            number(theirs),
            row.unit,
            row.aim
        );
    }
}
