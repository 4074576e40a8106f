//! Damaged stores: whatever a link, a manifest or a name suffered, nothing
//! that it could have named is removed, by nobody; each says what is wrong;
//! and pushing again heals.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, digest};
use crate::support::{KDK, Output, TestRegistry, temporary};

/// What all stores are copies of.
struct Template {
    directory: tempfile::TempDir,
    /// Manifests by the reference under which they are pushed, in that order.
    pushed: Vec<(String, &'static str, Vec<u8>)>,
    /// The files of blobs that belong to something.
    needed: BTreeMap<PathBuf, Vec<u8>>,
    tagged: String,
    entry: String,
    layer: String,
}

fn blob_path(digest: &str) -> PathBuf {
    let hex = &digest[7..];
    PathBuf::from(format!("blobs/sha256/{}/{hex}/data", &hex[..2]))
}

/// A tagged image, an index of two that have no tags, a signature, another
/// image; and garbage.
fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let mut registry = TestRegistry::start();
        let (_, garbage) = registry.push_image("a/b", "garbage", "garbage");
        registry.send("DELETE", "/v2/a/b/manifests/garbage");
        let mut pushed = Vec::new();
        let mut push = |reference: String, kind: &'static str, content: Vec<u8>| {
            let answer = registry.put_manifest("a/b", &reference, kind, &content);
            assert_eq!(answer.status(), 201, "{:?}", answer.text());
            pushed.push((reference, kind, content));
        };
        let image = |seed: &str| {
            let (content, own) = registry.push_image("a/b", "passing", seed);
            (content, own)
        };
        let (content, tagged) = image("tagged");
        push("t".into(), OCI_MANIFEST, content.clone());
        let size = content.len();
        let (other, _) = image("other");
        push("other".into(), OCI_MANIFEST, other);
        let (one, entry) = image("one");
        let (two, second) = image("two");
        let entry_of = |own: &str, size: usize| format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{own}","size":{size}}}"#);
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{},{}]}}"#,
            entry_of(&entry, one.len()),
            entry_of(&second, two.len())
        );
        push(entry.clone(), OCI_MANIFEST, one);
        push(second, OCI_MANIFEST, two);
        push("i".into(), OCI_INDEX, index.into_bytes());
        let config = registry.push_blob("a/b", b"{}");
        let signature = registry.push_blob("a/b", b"signature");
        let attached = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","artifactType":"application/x","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"x","digest":"{signature}","size":9}}],"subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{tagged}","size":{size}}}}}"#
        );
        push(digest(attached.as_bytes()), OCI_MANIFEST, attached.into_bytes());
        assert_eq!(registry.send("DELETE", "/v2/a/b/manifests/passing").status(), 202);
        registry.stop();
        let store = registry.directory.path().join("storage/docker/registry/v2");
        let mut needed = BTreeMap::new();
        for path in files(&store.join("blobs")) {
            let content = fs::read(&path).expect("read");
            let is_garbage = content == b"layer garbage"
                || content == br#"{"seed":"garbage"}"#
                || path.ends_with(blob_path(&garbage));
            if !is_garbage {
                needed.insert(path.strip_prefix(&store).expect("below").to_owned(), content);
            }
        }
        assert_eq!(needed.len(), 4 * 3 + 1 + 3, "images, the index, the signature");
        Template {
            directory: std::mem::replace(&mut registry.directory, temporary()),
            pushed,
            needed,
            tagged,
            entry,
            layer: digest(b"layer tagged"),
        }
    })
}

fn files(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else if entry.file_type().expect("a type").is_file() {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

/// A store of its own.
struct Store {
    directory: tempfile::TempDir,
    top: PathBuf,
}

impl Store {
    fn new() -> Self {
        let directory = temporary();
        copy(template().directory.path(), directory.path());
        let config = directory.path().join("config.yml");
        let text = fs::read_to_string(&config).expect("read");
        let (from, to) = (template().directory.path(), directory.path());
        let text = text.replace(&*from.to_string_lossy(), &to.to_string_lossy());
        fs::write(&config, text).expect("written");
        let top = directory.path().join("storage/docker/registry/v2");
        Self { directory, top }
    }

    fn verb(&self, arguments: &[&str]) -> Output {
        let config = self.directory.path().join("config.yml");
        Output::of(Command::new(KDK).arg("registry").args(arguments).arg(config))
    }

    fn manifests(&self) -> PathBuf {
        self.top.join("repositories/a/b/_manifests")
    }

    /// All that is needed is where it was, but for what was damaged itself.
    #[track_caller]
    fn check(&self, when: &str, damaged: &Path) {
        for (path, content) in &template().needed {
            let own = self.top.join(path);
            let there = fs::read(&own).is_ok_and(|found| found == *content) || own == damaged;
            assert!(there, "{when}: {} is gone", path.display());
        }
    }

    fn collect(&self, when: &str, damaged: &Path) -> Output {
        let done = self.verb(&["garbage-collect", "-m", "--grace", "0s"]);
        if done.code != 0 {
            let told = done.code == 1 && done.stderr.contains("nothing was removed");
            assert!(told, "{when}: {}", done.shown());
        }
        self.check(when, damaged);
        done
    }
}

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Emptied,
    Cut,
    Flipped,
    Gone,
    Doubled,
    Foreign,
}

const KINDS: [Kind; 6] = [
    Kind::Emptied,
    Kind::Cut,
    Kind::Flipped,
    Kind::Gone,
    Kind::Doubled,
    Kind::Foreign,
];

impl Kind {
    fn strike(self, path: &Path, foreign: &[u8]) {
        let mut content = fs::read(path).expect("it is there");
        match self {
            Self::Emptied => content.clear(),
            Self::Cut => content.truncate(content.len() / 2),
            Self::Flipped => {
                let at = content.len() - 9;
                content[at] ^= 1;
            }
            Self::Gone => return fs::remove_file(path).expect("removed"),
            Self::Doubled => content.extend(content.clone()),
            Self::Foreign => content = foreign.to_vec(),
        }
        fs::write(path, content).expect("written");
    }
}

/// Who says something of a fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    ByBoth,
    ByVerify,
    ByCollection,
    Nowhere,
}

/// Goes through all that may be done with a damaged store.
fn endure(fault: &str, damaged: &Path, store: Store, told: Told) {
    let found = store.verb(&["verify"]);
    let is_told = matches!(told, Told::ByBoth | Told::ByVerify);
    assert_eq!(found.code, i32::from(is_told), "{fault}: {}", found.shown());
    let collected = store.collect(&format!("{fault}, collected"), damaged);
    let is_told = matches!(told, Told::ByBoth | Told::ByCollection);
    let tells = collected.stderr.contains("warning: ") || collected.code != 0;
    assert_eq!(tells, is_told, "{fault}: {}", collected.shown());
    import(fault, &store);
    let repaired = store.verb(&["verify", "--repair", "--yes"]);
    assert!(repaired.code < 2, "{fault}: {}", repaired.shown());
    store.check(&format!("{fault}, repaired"), damaged);
    let again = store.collect(&format!("{fault}, repaired and collected"), damaged);
    assert!(again.code <= collected.code, "{fault}: {}", again.shown());
    heal(fault, store);
}

/// What is pushed again is whole again, and a collection goes through.
fn heal(fault: &str, store: Store) {
    let Store { directory, top } = store;
    let mut registry = TestRegistry::with(directory, "", &[]);
    for seed in ["tagged", "other", "one", "two"] {
        registry.push_blob("a/b", format!("{{\"seed\":\"{seed}\"}}").as_bytes());
        registry.push_blob("a/b", format!("layer {seed}").as_bytes());
    }
    for (reference, kind, content) in &template().pushed {
        let answer = registry.put_manifest("a/b", reference, kind, content);
        assert_eq!(answer.status(), 201, "{fault}: {:?}", answer.text());
    }
    for (reference, _, content) in &template().pushed {
        let got = registry.get(&format!("/v2/a/b/manifests/{reference}"));
        assert_eq!(got.status(), 200, "{fault}: {reference}");
        assert_eq!(got.bytes().expect("read"), content, "{fault}: {reference}");
    }
    registry.stop();
    let directory = std::mem::replace(&mut registry.directory, temporary());
    let store = Store { directory, top };
    let done = store.collect(&format!("{fault}, healed"), Path::new(""));
    assert_eq!(done.code, 0, "{fault}, healed: {}", done.shown());
    let gone = store.top.join(blob_path(&digest(b"layer garbage")));
    assert!(!gone.exists(), "{fault}: garbage stays");
}

/// An import comes to its end, brings the image in that nothing happened to,
/// and changes no file but the marks.
fn import(fault: &str, store: &Store) {
    // One after the other, in one database that is emptied each time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let database = "damage";
    let postgres = TestPostgres::shared();
    postgres.database(database);
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n{}",
        store.directory.path().join("storage").display(),
        postgres.section(database, false)
    );
    let config = store.directory.path().join("import.yml");
    fs::write(&config, text).expect("written");
    let before: Vec<_> = files(&store.top)
        .iter()
        .map(|path| (path.clone(), fs::read(path).expect("read")))
        .collect();
    let mut command = Command::new(KDK);
    command.args(["registry", "database", "import", "--log-directory"]);
    let done = Output::of(command.arg(store.directory.path()).arg(&config));
    assert_eq!(done.code, 0, "{fault}: {}", done.shown());
    let tags = postgres.sql(database, "SELECT name FROM tags ORDER BY name");
    assert!(tags.lines().any(|tag| tag == "other"), "{fault}: {tags}");
    for (path, content) in before {
        assert_eq!(
            fs::read(&path).expect("it is there"),
            content,
            "{fault}: {}",
            path.display()
        );
    }
    postgres.sql(
        database,
        "SET session_replication_role = replica; DELETE FROM tags; DELETE FROM manifest_references;
        DELETE FROM layers; DELETE FROM manifests; DELETE FROM repository_blobs; DELETE FROM blobs;
        DELETE FROM repositories; DELETE FROM top_level_namespaces; DELETE FROM import_statistics;
        DELETE FROM gc_manifest_review_queue; DELETE FROM gc_blob_review_queue; DELETE FROM gc_blobs_layers;
        DELETE FROM gc_blobs_configurations; DELETE FROM gc_tmp_blobs_manifests",
    );
    let mark = store
        .directory
        .path()
        .join("storage/docker/registry/lockfiles/database-in-use");
    fs::remove_file(mark).expect("the import says where the metadata are");
}

fn each_kind(what: &str, place: impl Fn(&Store) -> PathBuf, foreign: &[u8], told: impl Fn(Kind) -> Told) {
    for kind in KINDS {
        let store = Store::new();
        let path = place(&store);
        kind.strike(&path, foreign);
        endure(&format!("{what} {kind:?}"), &path, store, told(kind));
    }
}

fn other() -> String {
    digest(&template().pushed[1].2)
}

#[test]
fn a_tags_link_suffers() {
    let place = |store: &Store| store.manifests().join("tags/t/current/link");
    each_kind("a tag's link", place, other().as_bytes(), |kind| match kind {
        // It might have been moved there; a push that was killed leaves none.
        Kind::Foreign | Kind::Gone => Told::ByCollection,
        _ => Told::ByBoth,
    });
}

#[test]
fn a_manifests_link_suffers() {
    let place = |store: &Store| revision(store, &template().tagged).join("link");
    each_kind("a manifest's link", place, other().as_bytes(), |_| Told::ByBoth);
}

#[test]
fn a_tags_history_suffers() {
    let place = |store: &Store| {
        let own = store.manifests().join("tags/t/index/sha256");
        own.join(&template().tagged[7..]).join("link")
    };
    // Nothing rests upon it.
    each_kind("a tag's history", place, other().as_bytes(), |_| Told::Nowhere);
}

#[test]
fn a_layers_link_suffers() {
    let place = |store: &Store| {
        let own = store.top.join("repositories/a/b/_layers/sha256");
        own.join(&template().layer[7..]).join("link")
    };
    each_kind("a layer's link", place, other().as_bytes(), |_| Told::ByVerify);
}

#[test]
fn a_manifest_suffers() {
    let place = |store: &Store| store.top.join(blob_path(&template().tagged));
    each_kind("a manifest", place, &template().pushed[1].2, |_| Told::ByBoth);
}

#[test]
fn a_layer_suffers() {
    let place = |store: &Store| store.top.join(blob_path(&template().layer));
    // A collection does not look into layers.
    each_kind("a layer", place, b"layer other", |_| Told::ByVerify);
}

#[test]
fn an_entry_of_an_index_suffers() {
    let place = |store: &Store| store.top.join(blob_path(&template().entry));
    each_kind("an entry", place, &template().pushed[1].2, |_| Told::ByBoth);
}

fn revision(store: &Store, digest: &str) -> PathBuf {
    store.manifests().join("revisions/sha256").join(&digest[7..])
}

type Strike = fn(&Store);

#[test]
fn names_suffer() {
    let all: [(&str, Told, Strike); 7] = [
        ("a tag's name is none", Told::ByBoth, |store| {
            let tags = store.manifests().join("tags");
            fs::rename(tags.join("t"), tags.join("-t~")).expect("renamed");
        }),
        ("a manifest's name is none", Told::ByBoth, |store| {
            let own = revision(store, &template().entry);
            fs::rename(&own, own.with_extension("orig")).expect("renamed");
        }),
        ("an algorithm's name is none", Told::ByBoth, |store| {
            let all = store.manifests().join("revisions");
            fs::create_dir(all.join("sha25")).expect("made");
            let own = revision(store, &template().entry);
            let name = own.file_name().expect("a name").to_owned();
            fs::rename(&own, all.join("sha25").join(name)).expect("renamed");
        }),
        ("the place of an entry's link is gone", Told::ByVerify, |store| {
            fs::remove_dir_all(revision(store, &template().entry)).expect("removed");
        }),
        ("a tag's link is a directory", Told::ByBoth, |store| {
            let link = store.manifests().join("tags/t/current/link");
            fs::remove_file(&link).expect("removed");
            fs::create_dir(&link).expect("made");
        }),
        ("files lie among tags, manifests and layers", Told::ByVerify, |store| {
            let layers = store.top.join("repositories/a/b/_layers/sha256");
            for place in [
                store.manifests().join("tags"),
                store.manifests().join("revisions/sha256"),
                layers,
            ] {
                fs::write(place.join(".DS_Store"), "x").expect("written");
            }
        }),
        (
            "a manifest lies among the links of another algorithm",
            Told::ByBoth,
            |store| {
                let own = store.manifests().join("revisions/sha512").join("0".repeat(128));
                fs::create_dir_all(&own).expect("made");
                fs::write(own.join("link"), &template().tagged).expect("written");
            },
        ),
    ];
    for (fault, told, strike) in all {
        let store = Store::new();
        strike(&store);
        if fault.starts_with("a tag's link") {
            // Pushing cannot put a file where a directory is.
            let collected = store.collect(fault, Path::new(""));
            assert!(collected.stderr.contains("warning: "), "{}", collected.shown());
            import(fault, &store);
            continue;
        }
        endure(fault, Path::new(""), store, told);
    }
}
