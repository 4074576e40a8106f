//! Changes of which something fails in the middle.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use camino::Utf8Path;
use kdk::registry::metadata::{Files, Metadata as _, MetadataError, Moves, PutManifest};
use kdk::registry::oci::{Algorithm, Digest, ParsedManifest, RepoName, Tag};
use kdk::registry::storage::drivers::filesystem::disk::{Disk, Observer, Operation};
use kdk::registry::storage::writer::{Piece, Staged};
use kdk::registry::storage::{Change, Drivers, Durability, Filesystem, Prefix, StagedBlob, Storage, layout};

use crate::support::driver::leased;
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
        let layer = StagedBlob::of_bytes(self.layer.clone(), Bytes::from_static(b"layer"));
        self.metadata.put_blob(&self.name, layer).await
    }

    async fn put_image(&self, note: &str) -> (Digest, Result<(), MetadataError>) {
        let layer = &self.layer;
        // Some are written at once, and some under a temporary name.
        let content = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{layer}","size":5}},"layers":[],"annotations":{{"note":"{note}"}}}}"#
        );
        let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
        let tags = [self.tag.clone(), "other".parse().expect("a tag")].map(|tag| (tag, Moves::Allowed));
        let manifest = ParsedManifest::read(digest.clone(), content.into()).expect("a manifest");
        let put = PutManifest {
            manifest: &manifest,
            required: &[],
            tags: &tags,
        };
        let outcome = self.metadata.put_manifest(&self.name, put).await;
        (digest, outcome)
    }

    /// What is seen of the layer, of both tags, and of a manifest.
    async fn seen(&self, manifest: &Digest) -> (bool, [Option<Digest>; 2], bool) {
        let other = "other".parse().expect("a tag");
        let tag = async |tag| self.metadata.resolve(&self.name, tag).await.expect("read");
        (
            self.metadata
                .stored_as(&self.name, &self.layer)
                .await
                .expect("read")
                .is_some(),
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
    let runtime = runtime();
    for (group, there_before) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut failures = 0;
        for at in 0.. {
            let directory = temporary();
            let root = Utf8Path::from_path(directory.path()).expect("UTF-8");
            let before = there_before.then(|| {
                let storage = leased(Storage::in_directory(root).expect("opened"));
                let images = Images::on(storage.clone());
                let digest = runtime.block_on(async {
                    images.put_layer().await.expect("stored");
                    let (digest, outcome) = images.put_image("first").await;
                    outcome.expect("stored");
                    digest
                });
                storage.release();
                digest
            });
            let full = Arc::new(FullOnce {
                at,
                count: AtomicUsize::new(0),
                group,
            });
            let disk = Disk::observed(Arc::clone(&full) as Arc<dyn Observer>);
            let driver = Drivers::Filesystem(Filesystem::on(root, disk).expect("opened"));
            let images = Images::on(leased(Storage::new(driver)));
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Checks that what was staged is refused, and that there is no blob of it.
async fn becomes_no_blob(storage: &Storage, staged: Staged, why: &str) {
    let key = Prefix::top().key("blob");
    let promote = Change::Promote {
        staged,
        key: key.clone(),
    };
    let outcome = storage.commit(vec![promote], Durability::Durable).await;
    outcome.expect_err(why);
    assert_eq!(storage.head(&key).await.expect("looked"), None);
}

/// Loses what the disk was asked to take up in the background, once.
#[derive(Debug, Default)]
struct LosesOnce(AtomicBool);

impl Observer for LosesOnce {
    fn before(&self, operation: &Operation<'_>) -> io::Result<()> {
        if matches!(operation, Operation::SyncFile(_)) && !self.0.swap(true, Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        Ok(())
    }
}

/// The system tells once that it lost bytes of an upload: nothing becomes of
/// it, though what is asked for later succeeds.
#[test]
fn an_upload_of_which_bytes_were_lost_becomes_no_blob() {
    let directory = temporary();
    let root = Utf8Path::from_path(directory.path()).expect("UTF-8");
    let disk = Disk::observed(Arc::new(LosesOnce::default()));
    let storage = leased(Storage::new(Drivers::Filesystem(
        Filesystem::on(root, disk).expect("opened"),
    )));
    let key = layout::upload_data("group/app", "upload");
    runtime().block_on(async {
        let mut lost = false;
        for _ in 0..8 {
            let mut resumed = storage.resume(&key).await.expect("opened");
            let piece = Piece {
                bytes: vec![7; 20 << 20].as_slice().into(),
                hasher: None,
            };
            match resumed.writer.write(piece).await {
                Ok(_) => resumed.writer.pause(None).await.expect("left"),
                Err(error) => {
                    assert_eq!(error.source.raw_os_error(), Some(nix::libc::EIO));
                    lost = true;
                    break;
                }
            }
            // The disk has time to fail.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(lost, "nothing was lost");
        let staged = storage
            .resume(&key)
            .await
            .expect("opened")
            .writer
            .finish(None)
            .await
            .expect("ended");
        becomes_no_blob(&storage, staged, "its bytes are lost").await;
    });
}

/// Another server gives an upload up, and begins it anew, while it is on its
/// way to become a blob.
#[test]
fn an_upload_that_was_exchanged_becomes_no_blob() {
    let directory = temporary();
    let root = Utf8Path::from_path(directory.path()).expect("UTF-8");
    let storage = leased(Storage::in_directory(root).expect("opened"));
    let key = layout::upload_data("group/app", "upload");
    runtime().block_on(async {
        let mut resumed = storage.resume(&key).await.expect("opened");
        let piece = Piece {
            bytes: b"verified"[..].into(),
            hasher: None,
        };
        resumed.writer.write(piece).await.expect("written");
        let staged = resumed.writer.finish(None).await.expect("ended");
        let path = root.join(key.as_str());
        std::fs::remove_file(&path).expect("given up");
        std::fs::write(&path, "exchange").expect("begun anew");
        becomes_no_blob(&storage, staged, "other bytes").await;
        assert_eq!(std::fs::read(&path).expect("the other's"), b"exchange");
    });
}

#[test]
fn a_directory_may_be_named_from_where_one_is() {
    let name = format!("target/tmp/relative-{}", std::process::id());
    let storage = Storage::in_directory(Utf8Path::new(&name)).expect("opened");
    let outcome = runtime().block_on(storage.probe());
    std::fs::remove_dir_all(&name).expect("removed");
    outcome.expect("it answers");
}
