//! This program beside another build of it, alternately, in one run: what a
//! change of the code does to speed, and what the machine does by itself.

use std::path::Path;

use crate::server::Kind;
use crate::{Row, Table, measure};

/// Measures this program, the other, and this once more, as many rounds as
/// are wanted; prints medians, and the spread of the two that are the same.
pub fn run(other: &'static str, rounds: usize, wanted: &[String], directory: &Path, count: usize) {
    let mut all: Vec<(Row, [Vec<f64>; 3])> = Vec::new();
    for round in 0..rounds {
        // Each goes first, and last, as often as the others.
        for place in 0..3 {
            let side = (round + place) % 3;
            let kind = if side == 1 { Kind::Other(other) } else { Kind::Kdk };
            eprintln!("round {} of {rounds}, {}:", round + 1, kind.name());
            let mut table = Table {
                rows: Vec::new(),
                side: 0,
                wanted: wanted.to_vec(),
            };
            let own = directory.join(format!("{round}-{side}"));
            measure(kind, &own, &mut table, count);
            if table.wants("database") {
                crate::database::measure(kind, &own.join("database"), &mut table);
            }
            let _ = std::fs::remove_dir_all(&own);
            for row in table.rows {
                let value = row.values[0];
                let known = all.iter().position(|(known, _)| known.name == row.name);
                let at = known.unwrap_or_else(|| {
                    all.push((row, Default::default()));
                    all.len() - 1
                });
                all[at].1[side].push(value);
            }
        }
    }
    println!("| workload | before | now | now / before | now / now |");
    println!("|---|---:|---:|---:|---:|");
    for (row, values) in all {
        let [now, before, again] = values.map(median);
        let better = |ours: f64, theirs: f64| if row.less { theirs / ours } else { ours / theirs };
        println!(
            "| {} | {before:.1} {unit} | {:.1} {unit} | {:.2}× | {:.2}× |",
            row.name,
            f64::midpoint(now, again),
            better(f64::midpoint(now, again), before),
            better(now, again),
            unit = row.unit,
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) && middle > 0 {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values.get(middle).copied().unwrap_or(f64::NAN)
    }
}
