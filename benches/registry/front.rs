//! What kdk's front costs before another registry.

use std::path::Path;
use std::time::Instant;

use crate::client::Client;
use crate::server::{Kind, Server};
use crate::workloads::{digest, noise, push};

/// Bytes of a layer.
const LAYER: usize = 256 << 20;
/// How often each is measured, in turn, so that what disturbs one disturbs the other.
const ROUNDS: u64 = 11;

/// Measures; returns lines of a table.
pub fn measure(directory: &Path) -> Vec<String> {
    let server = Server::start(Kind::DockerRegistry, directory);
    let front = Server::front(directory, &server.address);
    let addresses = [&server.address, &front.address];
    let content = noise(LAYER, 9);
    let layer = digest(&content);
    let pulled = |address: &str| {
        let mut client = Client::connect(address).expect("connected");
        let path = format!("/v2/front/0-0/blobs/{layer}");
        client.drain("HEAD", &path, "").expect("answered");
        let began = Instant::now();
        let got = client.drain("GET", &path, "").expect("answered");
        assert_eq!(got, (200, LAYER as u64));
        began.elapsed().as_secs_f64()
    };
    let pushed = |address: &str, repository: &str| {
        let mut client = Client::connect(address).expect("connected");
        let began = Instant::now();
        push(&mut client, repository, &layer, &content);
        began.elapsed().as_secs_f64()
    };
    let rounds = |measure: &dyn Fn(&str, u64, usize) -> f64| -> Vec<[f64; 2]> {
        (0..ROUNDS)
            .map(|round| {
                // Who comes first changes.
                let mut times = [0.0; 2];
                let first = usize::from(round % 2 == 1);
                for side in [first, 1 - first] {
                    times[side] = measure(addresses[side], round, side);
                }
                times
            })
            .collect()
    };
    let pushes = rounds(&|address, round, side| pushed(address, &format!("front/{round}-{side}")));
    let pulls = rounds(&|address, _, _| pulled(address));
    [("push of 256 MiB", pushes), ("pull of 256 MiB", pulls)]
        .map(|(name, times)| {
            let median = |pick: &dyn Fn(&[f64; 2]) -> f64| {
                let mut all: Vec<f64> = times.iter().map(pick).collect();
                all.sort_unstable_by(f64::total_cmp);
                all[all.len() / 2]
            };
            let (direct, through) = (median(&|pair| pair[0]), median(&|pair| pair[1]));
            let ratio = median(&|pair| pair[1] / pair[0]);
            format!("| {name} | {direct:.3} s | {through:.3} s | {ratio:.2}× |")
        })
        .to_vec()
}
