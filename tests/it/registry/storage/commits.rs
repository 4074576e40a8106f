//! Changes of which something fails in the middle.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use camino::Utf8Path;
use kdk::registry::metadata::{Files, Metadata as _, MetadataError};
use kdk::registry::oci::{Algorithm, Digest, RepoName, Tag};
use kdk::registry::storage::drivers::filesystem::disk::{Disk, Observer, Operation};
use kdk::registry::storage::{Change, Drivers, Filesystem, Storage, layout};

use crate::support::temporary;

/// Fails one operation: the disk is full.
#[derive(Debug)]
struct FullOnce {
    at: usize,
    count: AtomicUsize,
    group: bool,
}

impl Observer for FullOnce {
    fn before(&self, _: &Operation<'_>) -> io::Result<()> {
        if self.count.fetch_add(1, Ordering::Relaxed) == self.at {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        Ok(())
    }

    fn may_group(&self) -> bool {
        self.group
    }
}

struct Images {
    name: RepoName,
    tag: Tag,
    layer: Digest,
    metadata: Files,
}

impl Images {
    fn on(driver: Storage) -> Self {
        Self {
            name: "group/app".parse().expect("a name"),
            tag: "latest".parse().expect("a tag"),
            layer: Digest::of(Algorithm::Sha256, b"layer"),
            metadata: Files::new(driver),
        }
    }

    fn in_directory(root: &Utf8Path) -> Self {
        Self::on(Storage::in_directory(root).expect("opened"))
    }

    async fn put_layer(&self) -> Result<(), MetadataError> {
        let key = layout::blob_data(&self.layer);
        let content = Bytes::from_static(b"layer");
        let change = Change::Put { key, content };
        self.metadata.put_blob(&self.name, &self.layer, Some(change)).await
    }

    async fn put_image(&self, note: &str) -> (Digest, Result<(), MetadataError>) {
        let layer = &self.layer;
        // Some are written at once, and some under a temporary name.
        let content = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{layer}","size":5}},"layers":[],"annotations":{{"note":"{note}"}}}}"#
        );
        let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
        let tags = [self.tag.clone(), "other".parse().expect("a tag")];
        let put = self.metadata.put_manifest(&self.name, &digest, content.into(), &tags);
        let outcome = put.await;
        (digest, outcome)
    }

    /// What is seen of the layer, of both tags, and of a manifest.
    async fn seen(&self, manifest: &Digest) -> (bool, [Option<Digest>; 2], bool) {
        let other = "other".parse().expect("a tag");
        let tag = async |tag| self.metadata.resolve(&self.name, tag).await.expect("read");
        (
            self.metadata.has_blob(&self.name, &self.layer).await.expect("read"),
            [tag(&self.tag).await, tag(&other).await],
            self.metadata
                .manifest(&self.name, manifest)
                .await
                .expect("read")
                .is_some(),
        )
    }
}

/// Whatever fails of a push, nobody sees any of it: neither who reads on, nor
/// who opens the storage anew.
#[test]
fn a_push_that_fails_shows_nothing_that_was_not_there() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for (group, there_before) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut failures = 0;
        for at in 0.. {
            let directory = temporary();
            let root = Utf8Path::from_path(directory.path()).expect("UTF-8");
            let before = there_before.then(|| {
                let images = Images::in_directory(root);
                runtime.block_on(async {
                    images.put_layer().await.expect("stored");
                    let (digest, outcome) = images.put_image("first").await;
                    outcome.expect("stored");
                    digest
                })
            });
            let full = Arc::new(FullOnce {
                at,
                count: AtomicUsize::new(0),
                group,
            });
            let disk = Disk::observed(Arc::clone(&full) as Arc<dyn Observer>);
            let images = Images::on(Storage::new(Drivers::Filesystem(
                Filesystem::on(root, disk).expect("opened"),
            )));
            let first = runtime.block_on(images.put_layer());
            let (digest, second) = runtime.block_on(images.put_image("second"));
            if first.is_err() || second.is_err() {
                failures += 1;
                for images in [&images, &Images::in_directory(root)] {
                    let seen = runtime.block_on(images.seen(&digest));
                    let layer = first.is_ok() || there_before;
                    let expected = match second {
                        Ok(()) => (layer, [Some(digest.clone()), Some(digest.clone())], true),
                        Err(_) => (layer, [before.clone(), before.clone()], false),
                    };
                    assert_eq!(seen, expected, "operation {at} of {full:?} failed");
                }
            }
            let was_reached = full.count.swap(usize::MAX / 2, Ordering::Relaxed) > at;
            assert_eq!(was_reached, first.is_err() || second.is_err(), "operation {at}");
            // There is room again.
            runtime.block_on(async {
                images.put_layer().await.expect("stored");
                images.put_image("second").await.1.expect("stored");
                let seen = images.seen(&digest).await;
                assert_eq!(seen, (true, [Some(digest.clone()), Some(digest.clone())], true));
            });
            if !was_reached {
                break;
            }
        }
        assert!(failures > 10, "only {failures} failures were noticed");
    }
}
