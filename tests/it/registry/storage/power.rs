//! Power loss and failing disks, on a model.
//!
//! Everything that the store changes on disk is recorded. For every point of
//! the record the model says what a disk may hold after a power loss there:
//! nothing of what was not synced, or only the names of it, or all of it.
//! Each of these is laid out, opened, and compared with what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use kdk::registry::metadata::{Deleted, Files, Metadata as _, MetadataError, Moves, PutManifest};
use kdk::registry::oci::{Algorithm, Digest, ParsedManifest, RepoName, Tag};
use kdk::registry::storage::drivers::filesystem::disk::{Disk, Observer, Operation};
use kdk::registry::storage::writer::Piece;
use kdk::registry::storage::{Blobs, Drivers, Durability, Filesystem, StagedBlob, Storage, Target, layout};

use crate::support::driver::leased;
use crate::support::temporary;

/// Something that is there or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Tag(String, String),
    Manifest(String, String),
    Blob(String, String),
}

/// What is to become of some things; a tag has a value.
type Intent = Vec<(Key, Option<String>)>;

#[derive(Clone, Debug)]
enum Step {
    MakeDirectory(Utf8PathBuf),
    Write(Utf8PathBuf, usize, Vec<u8>),
    Rename(Utf8PathBuf, Utf8PathBuf),
    Remove(Utf8PathBuf),
    SyncFile(Utf8PathBuf),
    SyncDirectory(Utf8PathBuf),
    SyncAll,
    /// It failed, and the system tells nobody else: what was not durable never will be.
    SyncFailed,
    Begin(usize, Intent),
    End(usize),
}

#[derive(Debug)]
struct Recorder {
    root: Utf8PathBuf,
    steps: Mutex<Vec<Step>>,
    /// The operation that is to fail, counted from the start.
    fails: Option<usize>,
    /// Whether the file system can be synced as a whole.
    group: bool,
    count: AtomicUsize,
}

impl Recorder {
    fn new(root: &Utf8Path, fails: Option<usize>, group: bool) -> Arc<Self> {
        Arc::new(Self {
            root: root.to_owned(),
            steps: Mutex::default(),
            fails,
            group,
            count: AtomicUsize::new(0),
        })
    }

    fn add(&self, step: Step) {
        self.steps.lock().expect("not poisoned").push(step);
    }
}

impl Observer for Recorder {
    fn before(&self, operation: &Operation<'_>) -> io::Result<()> {
        if self.fails == Some(self.count.fetch_add(1, Ordering::Relaxed)) {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        let own = |path: &Utf8Path| path.strip_prefix(&self.root).expect("below the root").to_owned();
        self.add(match operation {
            Operation::MakeDirectory(path) => Step::MakeDirectory(own(path)),
            Operation::Write { path, offset, content } => {
                Step::Write(own(path), usize::try_from(*offset).expect("small"), content.to_vec())
            }
            Operation::Rename { from, to } => Step::Rename(own(from), own(to)),
            Operation::Remove(path) => Step::Remove(own(path)),
            Operation::SyncFile(path) => Step::SyncFile(own(path)),
            Operation::SyncDirectory(path) => Step::SyncDirectory(own(path)),
            Operation::SyncAll => Step::SyncAll,
        });
        Ok(())
    }

    fn may_group(&self) -> bool {
        self.group
    }
}

/// A disk that remembers what of it is durable.
#[derive(Clone, Default)]
struct Model {
    files: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Files whose content no sync will make durable any more.
    lost: BTreeSet<usize>,
    directories: Vec<(BTreeMap<String, Node>, BTreeMap<String, Node>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory(usize),
}

/// What is left after a power loss.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// What was not synced is gone.
    All,
    /// Names are there, content that was not synced is gone.
    Content,
    /// Nothing: only the process was killed.
    Nothing,
}

impl Model {
    fn new() -> Self {
        Self {
            files: Vec::new(),
            lost: BTreeSet::new(),
            directories: vec![Default::default()],
        }
    }

    fn directory(&self, path: &Utf8Path) -> usize {
        path.components()
            .filter(|part| !part.as_str().is_empty())
            .fold(0, |at, part| match self.directories[at].0.get(part.as_str()) {
                Some(Node::Directory(next)) => *next,
                other => panic!("{path}: {other:?} in the way"),
            })
    }

    fn place(&self, path: &Utf8Path) -> (usize, String) {
        let parent = path.parent().unwrap_or(Utf8Path::new(""));
        (self.directory(parent), path.file_name().expect("a name").to_owned())
    }

    fn file(&self, path: &Utf8Path) -> Option<usize> {
        let (directory, name) = self.place(path);
        match self.directories[directory].0.get(&name) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::MakeDirectory(path) => {
                let (directory, name) = self.place(path);
                if !self.directories[directory].0.contains_key(&name) {
                    self.directories.push(Default::default());
                    let node = Node::Directory(self.directories.len() - 1);
                    self.directories[directory].0.insert(name, node);
                }
            }
            Step::Write(path, offset, content) => {
                let file = self.file(path).unwrap_or_else(|| {
                    let (directory, name) = self.place(path);
                    self.files.push((Vec::new(), None));
                    self.directories[directory]
                        .0
                        .insert(name, Node::File(self.files.len() - 1));
                    self.files.len() - 1
                });
                if *offset == 0 {
                    self.lost.remove(&file);
                }
                self.files[file].0.truncate(*offset);
                self.files[file].0.extend_from_slice(content);
            }
            Step::Rename(from, to) => {
                let (directory, name) = self.place(from);
                let node = self.directories[directory].0.remove(&name).expect("there");
                let (directory, name) = self.place(to);
                self.directories[directory].0.insert(name, node);
            }
            Step::Remove(path) => {
                let (directory, name) = self.place(path);
                self.directories[directory].0.remove(&name);
            }
            Step::SyncFile(path) => {
                if let Some(file) = self.file(path).filter(|file| !self.lost.contains(file)) {
                    self.files[file].1 = Some(self.files[file].0.clone());
                }
            }
            Step::SyncDirectory(path) => {
                let directory = self.directory(path);
                self.directories[directory].1 = self.directories[directory].0.clone();
            }
            Step::SyncAll => {
                for (number, (content, synced)) in self.files.iter_mut().enumerate() {
                    if !self.lost.contains(&number) {
                        *synced = Some(content.clone());
                    }
                }
                for (names, synced) in &mut self.directories {
                    synced.clone_from(names);
                }
            }
            Step::SyncFailed => {
                let unsynced =
                    |(_, (content, synced)): &(usize, &(Vec<u8>, Option<Vec<u8>>))| synced.as_ref() != Some(content);
                self.lost
                    .extend(self.files.iter().enumerate().filter(unsynced).map(|(number, _)| number));
            }
            Step::Begin(..) | Step::End(_) => {}
        }
    }

    fn lay_out(&self, at: usize, loss: Loss, target: &Utf8Path) {
        std::fs::create_dir_all(target).expect("made");
        let (names, synced) = &self.directories[at];
        let names = if matches!(loss, Loss::All) { synced } else { names };
        for (name, node) in names {
            let path = target.join(name);
            match node {
                Node::Directory(directory) => self.lay_out(*directory, loss, &path),
                Node::File(file) => {
                    let (content, synced) = &self.files[*file];
                    let content = match loss {
                        Loss::Nothing => content.clone(),
                        // A file system may give a file its length before its content.
                        Loss::Content | Loss::All => match synced {
                            Some(synced) => synced.clone(),
                            None if matches!(loss, Loss::Content) => vec![0; content.len()],
                            None => Vec::new(),
                        },
                    };
                    std::fs::write(path, content).expect("written");
                }
            }
        }
    }
}

/// A store on a recorded disk.
struct Store {
    driver: Storage,
    metadata: Files,
    recorder: Arc<Recorder>,
    begun: AtomicUsize,
}

impl Store {
    fn new(root: &Utf8Path, fails: Option<usize>, group: bool) -> Self {
        let recorder = Recorder::new(root, fails, group);
        let disk = Disk::observed(Arc::clone(&recorder) as Arc<dyn Observer>);
        let driver = leased(Storage::new(Drivers::Filesystem(
            Filesystem::on(root, disk).expect("opened"),
        )));
        Self {
            metadata: Files::new(driver.clone()),
            driver,
            recorder,
            begun: AtomicUsize::new(0),
        }
    }

    /// Does something between two marks in the record.
    async fn doing<T>(
        &self,
        intent: Intent,
        work: impl Future<Output = Result<T, MetadataError>>,
    ) -> Result<T, MetadataError> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        self.recorder.add(Step::Begin(number, intent));
        let outcome = work.await;
        if outcome.is_ok() {
            self.recorder.add(Step::End(number));
        }
        outcome
    }

    async fn put_blob(&self, name: &RepoName, content: &[u8], by_file: bool) -> Result<Digest, MetadataError> {
        let digest = Digest::of(Algorithm::Sha256, content);
        let intent = vec![(Key::Blob(name.to_string(), digest.to_string()), Some(String::new()))];
        let content = Bytes::copy_from_slice(content);
        self.doing(intent, async {
            let blob = if by_file {
                let id = format!("upload-{}", &digest.hex()[..8]);
                // What an attempt before left, which failed.
                let left = Target::All(layout::upload(name.as_str(), &id));
                self.driver.delete(vec![left], Durability::Volatile).await?;
                let mut upload = self.driver.resume(&layout::upload_data(name.as_str(), &id)).await?;
                let piece = Piece {
                    bytes: content.as_ref().into(),
                    hasher: None,
                };
                upload.writer.write(piece).await?;
                let staged = upload.writer.finish(None).await?;
                StagedBlob::of_staged(digest.clone(), staged)
            } else {
                StagedBlob::of_bytes(digest.clone(), content)
            };
            self.metadata.put_blob(name, blob).await
        })
        .await?;
        Ok(digest)
    }

    async fn mount(&self, name: &RepoName, from: &RepoName, digest: &Digest) -> Result<(), MetadataError> {
        let intent = vec![(Key::Blob(name.to_string(), digest.to_string()), Some(String::new()))];
        let mounting = async {
            let mounted = self.metadata.mount_blob(name, from, digest).await?;
            assert!(mounted.is_some(), "{from} has no {digest}");
            Ok(())
        };
        self.doing(intent, mounting).await
    }

    async fn put_image(&self, name: &RepoName, tag: &str, layer: &Digest, note: &str) -> Result<Digest, MetadataError> {
        let content = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{layer}","size":1}},"layers":[],"annotations":{{"note":"{note}"}}}}"#
        );
        let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
        let tag: Tag = tag.parse().expect("a tag");
        let intent = vec![
            (Key::Tag(name.to_string(), tag.to_string()), Some(digest.to_string())),
            (Key::Manifest(name.to_string(), digest.to_string()), Some(String::new())),
        ];
        let manifest = ParsedManifest::read(digest.clone(), Bytes::from(content)).expect("a manifest");
        let tags = [(tag, Moves::Allowed)];
        let putting = self.metadata.put_manifest(
            name,
            PutManifest {
                manifest: &manifest,
                required: &[],
                tags: &tags,
            },
        );
        self.doing(intent, putting).await?;
        Ok(digest)
    }

    async fn delete_tag(&self, name: &RepoName, tag: &str) -> Result<bool, MetadataError> {
        let tag: Tag = tag.parse().expect("a tag");
        let intent = vec![(Key::Tag(name.to_string(), tag.to_string()), None)];
        self.doing(intent, self.metadata.delete_tag(name, &tag)).await
    }

    async fn delete_manifest(&self, name: &RepoName, digest: &Digest, tags: &[&str]) -> Result<bool, MetadataError> {
        let mut intent = vec![(Key::Manifest(name.to_string(), digest.to_string()), None)];
        intent.extend(
            tags.iter()
                .map(|tag| (Key::Tag(name.to_string(), (*tag).to_owned()), None)),
        );
        let deleting = self.metadata.delete_manifest(name, digest, &None);
        Ok(matches!(self.doing(intent, deleting).await?, Deleted::Yes(_)))
    }

    async fn unlink(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        let intent = vec![(Key::Blob(name.to_string(), digest.to_string()), None)];
        self.doing(intent, self.metadata.unlink_blob(name, digest)).await
    }
}

/// All kinds of changes in one repository.
async fn workload(store: &Store, number: usize) -> Result<(), MetadataError> {
    let name: RepoName = format!("group/r{number}").parse().expect("a name");
    let other: RepoName = format!("other/r{number}").parse().expect("a name");
    let small = store
        .put_blob(&name, format!("small {number}").as_bytes(), false)
        .await?;
    let large = store
        .put_blob(&name, format!("large {number}").repeat(50).as_bytes(), true)
        .await?;
    store.mount(&other, &name, &large).await?;
    // The same again, from elsewhere.
    store
        .put_blob(&other, format!("small {number}").as_bytes(), true)
        .await?;
    let first = store.put_image(&name, "latest", &small, "first").await?;
    let second = store.put_image(&name, "latest", &large, "second").await?;
    store.put_image(&name, "kept", &small, "first").await?;
    store.delete_tag(&name, "latest").await?;
    store.put_image(&name, "latest", &small, &"long ".repeat(200)).await?;
    store.delete_manifest(&name, &second, &[]).await?;
    store.delete_manifest(&name, &first, &["kept"]).await?;
    store.put_image(&name, "kept", &small, "first").await?;
    store.unlink(&other, &large).await?;
    Ok(())
}

/// What a store that was opened anew shows.
async fn observe(root: &Utf8Path, key: &Key) -> Option<String> {
    let driver = Storage::in_directory(root).expect("opened");
    let (metadata, blobs) = (Files::new(driver.clone()), Blobs::new(driver));
    let repository = |name: &str| name.parse::<RepoName>().expect("a name");
    match key {
        Key::Blob(name, digest) => {
            let digest: Digest = digest.parse().expect("a digest");
            let linked = metadata
                .stored_as(&repository(name), &digest)
                .await
                .expect("read")
                .is_some();
            let content = blobs.read(&digest).await.expect("read");
            let content = content.filter(|_| linked)?;
            assert_eq!(Digest::of(Algorithm::Sha256, &content), digest, "a blob is not whole");
            Some(String::new())
        }
        Key::Manifest(name, digest) => {
            let digest: Digest = digest.parse().expect("a digest");
            let stored = metadata.manifest(&repository(name), &digest).await.expect("read")?;
            assert_eq!(Digest::of(Algorithm::Sha256, &stored.content), digest);
            Some(String::new())
        }
        Key::Tag(name, tag) => {
            let name = repository(name);
            let digest = metadata
                .resolve(&name, &tag.parse().expect("a tag"))
                .await
                .expect("read")?;
            let stored = metadata.manifest(&name, &digest).await.expect("read");
            let stored = stored.unwrap_or_else(|| panic!("the tag {tag} stands for nothing"));
            for reference in stored.manifest().expect("understood").references() {
                let there = metadata.stored_as(&name, reference).await.expect("read").is_some()
                    && blobs.head(reference).await.expect("read").is_some();
                assert!(there, "the tag {tag} stands for an image without {reference}");
            }
            Some(digest.to_string())
        }
    }
}

/// What may be seen of each thing at the end of a record.
fn expected(steps: &[Step]) -> BTreeMap<Key, Vec<Option<String>>> {
    let mut acknowledged: BTreeMap<Key, Option<String>> = BTreeMap::new();
    let mut begun: BTreeMap<usize, &Intent> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Begin(number, intent) => drop(begun.insert(*number, intent)),
            Step::End(number) => {
                for (key, value) in begun.remove(number).expect("begun") {
                    acknowledged.insert(key.clone(), value.clone());
                }
            }
            _ => {}
        }
    }
    let mut allowed: BTreeMap<Key, Vec<Option<String>>> = acknowledged
        .into_iter()
        .map(|(key, value)| (key, vec![value]))
        .collect();
    for (key, value) in begun.into_values().flatten() {
        allowed
            .entry(key.clone())
            .or_insert_with(|| vec![None])
            .push(value.clone());
    }
    allowed
}

async fn check(root: &Utf8Path, steps: &[Step], place: &str) {
    for (key, allowed) in expected(steps) {
        let seen = observe(root, &key).await;
        assert!(
            allowed.contains(&seen),
            "{place}: {key:?} is {seen:?}, not one of {allowed:?}"
        );
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn replay(steps: &[Step], stride: usize) {
    let runtime = runtime();
    let base = temporary();
    let base = Utf8Path::from_path(base.path()).expect("UTF-8").to_owned();
    let mut model = Model::new();
    for (number, step) in steps.iter().enumerate() {
        model.apply(step);
        if !number.is_multiple_of(stride) && number + 1 != steps.len() {
            continue;
        }
        for loss in [Loss::All, Loss::Content, Loss::Nothing] {
            let target = base.join("disk");
            model.lay_out(0, loss, &target);
            let place = format!("after step {number} ({step:?}), losing {loss:?}");
            runtime.block_on(check(&target, &steps[..=number], &place));
            std::fs::remove_dir_all(&target).expect("removed");
        }
    }
}

#[test]
fn no_power_loss_takes_what_was_acknowledged() {
    for group in [false, true] {
        let directory = temporary();
        let root = Utf8Path::from_path(directory.path()).expect("UTF-8");
        let store = Store::new(root, None, group);
        runtime().block_on(workload(&store, 0)).expect("done");
        let steps = store.recorder.steps.lock().expect("not poisoned").clone();
        assert_eq!(steps.iter().any(|step| matches!(step, Step::SyncAll)), group);
        replay(&steps, 1);
    }
}

#[test]
fn no_power_loss_takes_what_a_group_acknowledged() {
    let directory = temporary();
    let root = Utf8Path::from_path(directory.path()).expect("UTF-8");
    let store = Arc::new(Store::new(root, None, true));
    runtime().block_on(async {
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { workload(&store, number).await })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic").expect("done");
        }
    });
    let steps = store.recorder.steps.lock().expect("not poisoned").clone();
    replay(&steps, 37);
}

#[test]
fn a_disk_that_fails_leaves_nothing_half_done() {
    let runtime = runtime();
    let mut failures = 0;
    for at in 0.. {
        let directory = temporary();
        let root = Utf8Path::from_path(directory.path()).expect("UTF-8");
        let store = Store::new(root, Some(at), at % 2 == 0);
        let outcome = runtime.block_on(workload(&store, 0));
        let steps = store.recorder.steps.lock().expect("not poisoned").clone();
        let count = store.recorder.count.load(Ordering::Relaxed);
        runtime.block_on(check(root, &steps, &format!("operation {at} failed")));
        failures += usize::from(outcome.is_err());
        if at >= count {
            break;
        }
        // The disk works again, and so does the same server.
        runtime.block_on(workload(&store, 0)).expect("it recovers by itself");
        let steps = store.recorder.steps.lock().expect("not poisoned").clone();
        runtime.block_on(check(root, &steps, &format!("after operation {at} failed once")));
    }
    assert!(failures > 50, "only {failures} failures were noticed");
}

/// Lets the first sync of everything fail, once something else was written meanwhile.
#[derive(Debug)]
struct FailsForAnother {
    recorder: Arc<Recorder>,
    syncs: AtomicUsize,
    /// Tells that the first sync has begun.
    begun: std::sync::mpsc::Sender<()>,
    /// Hears that the other has written all of its own.
    written: Mutex<std::sync::mpsc::Receiver<()>>,
    tells: std::sync::mpsc::Sender<()>,
}

impl Observer for FailsForAnother {
    fn before(&self, operation: &Operation<'_>) -> io::Result<()> {
        if *operation == Operation::SyncAll && self.syncs.fetch_add(1, Ordering::Relaxed) == 0 {
            self.begun.send(()).expect("heard");
            let written = self.written.lock().expect("not poisoned");
            written
                .recv_timeout(std::time::Duration::from_secs(20))
                .expect("written");
            self.recorder.add(Step::SyncFailed);
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        self.recorder.before(operation)?;
        // The tag's new link is the last that a push writes before its sync.
        if let Operation::Write { path, .. } = operation
            && path.as_str().contains("/another/")
            && path.as_str().contains("/current/link")
        {
            let _ = self.tells.send(());
        }
        Ok(())
    }
}

/// The system reports that data were lost once, and to whoever syncs then.
#[test]
fn a_sync_that_fails_for_anothers_data_acknowledges_none_of_it() {
    let directory = temporary();
    let root = Utf8Path::from_path(directory.path()).expect("UTF-8");
    let recorder = Recorder::new(root, None, true);
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (tells, written) = std::sync::mpsc::channel();
    let observer = FailsForAnother {
        recorder: Arc::clone(&recorder),
        // Not before the images' layer is there.
        syncs: AtomicUsize::new(usize::MAX / 2),
        begun,
        written: Mutex::new(written),
        tells,
    };
    let observer = Arc::new(observer);
    let disk = Disk::observed(Arc::clone(&observer) as Arc<dyn Observer>);
    let driver = leased(Storage::new(Drivers::Filesystem(
        Filesystem::on(root, disk).expect("opened"),
    )));
    let store = Arc::new(Store {
        metadata: Files::new(driver.clone()),
        driver,
        recorder: Arc::clone(&recorder),
        begun: AtomicUsize::new(0),
    });
    let name = |name: &str| -> RepoName { name.parse().expect("a name") };
    let runtime = runtime();
    let (first, other) = runtime.block_on(async {
        let layer = store
            .put_blob(&name("group/first"), b"layer", false)
            .await
            .expect("stored");
        store
            .mount(&name("group/another"), &name("group/first"), &layer)
            .await
            .expect("mounted");
        observer.syncs.store(0, Ordering::Relaxed);
        let (one, two) = (Arc::clone(&store), Arc::clone(&store));
        let digest = layer.clone();
        let first = tokio::spawn(async move { one.put_image(&name("group/first"), "latest", &digest, "first").await });
        tokio::task::spawn_blocking(move || has_begun.recv().expect("begun"))
            .await
            .expect("no panic");
        let other = tokio::spawn(async move { two.put_image(&name("group/another"), "latest", &layer, "other").await });
        (first.await.expect("no panic"), other.await.expect("no panic"))
    });
    assert!(first.is_err(), "its own sync failed");
    assert!(other.is_err(), "what it wrote before that sync may be lost");
    let steps = recorder.steps.lock().expect("not poisoned").clone();
    replay(&steps, steps.len());
    // It can be done again, and then it is there.
    let again = runtime.block_on(async {
        let layer = Digest::of(Algorithm::Sha256, b"layer");
        store.put_image(&name("group/another"), "latest", &layer, "other").await
    });
    again.expect("the disk works again");
    let steps = recorder.steps.lock().expect("not poisoned").clone();
    replay(&steps, steps.len());
}
