//! What every driver of the storage must do: the port's promises, one by one.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use kdk::registry::oci::{Algorithm, Digest, Hasher};
use kdk::registry::storage::faults::Plan;
use kdk::registry::storage::object::{Object, Source};
use kdk::registry::storage::writer::{Piece, Staged, Writer};
use kdk::registry::storage::{
    Change, Durability, Expected, Key, Prefix, Storage, StorageError, StorageErrorKind, Target,
};
use kdk::sys::clock::Clock;

use crate::support::driver::{DriverKind, on_every_driver};

on_every_driver!(
    what_is_put_is_read_whole_and_in_ranges,
    what_is_not_there_is_nothing,
    names_are_listed_in_order,
    an_unfinished_object_goes_on_with_its_note,
    what_was_not_left_properly_has_no_note,
    going_back_leaves_what_was_there,
    one_writes_at_a_time,
    an_update_expects_what_is_there,
    many_who_compare_and_swap_lose_nothing,
    what_is_updated_is_seen_last,
    a_commit_that_fails_anywhere_shows_nothing,
    a_write_that_fails_keeps_what_was_left_before,
    deletions_take_what_they_name,
    a_touch_needs_what_it_touches,
    what_is_put_aside_is_kept_elsewhere,
    what_is_set_aside_comes_back_or_goes,
    faults_come_as_they_are_planned,
);

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test);
}

fn key(name: &str) -> Key {
    Prefix::top().key(name)
}

fn prefix(name: &str) -> Prefix {
    Prefix::top().below(name)
}

fn put(name: &str, content: impl Into<Bytes>) -> Change {
    Change::Put {
        key: key(name),
        content: content.into(),
    }
}

fn update(name: &str, content: &str, expected: Expected) -> Change {
    Change::Update {
        key: key(name),
        content: content.to_owned().into(),
        expected,
    }
}

async fn commit(storage: &Storage, changes: Vec<Change>) -> Result<(), StorageError> {
    storage.commit(changes, Durability::Durable).await
}

async fn get(storage: &Storage, name: &str) -> Option<Bytes> {
    storage.get(&key(name)).await.expect("read")
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at * 7 % 251).expect("small")).collect()
}

async fn write(
    writer: &mut dyn Writer,
    content: &[u8],
    hasher: Option<Hasher>,
) -> Result<Option<Hasher>, StorageError> {
    let mut piece = Piece {
        bytes: BytesMut::new(),
        hasher,
    };
    for part in content.chunks(512 << 10) {
        piece.bytes.extend_from_slice(part);
        piece = writer.write(piece).await?;
        assert!(piece.bytes.is_empty(), "the buffer comes back empty");
    }
    Ok(piece.hasher)
}

/// Writes an object whole, to be promoted.
async fn staged(storage: &Storage, name: &str, content: &[u8]) -> Result<Staged, StorageError> {
    let mut resumed = storage.resume(&key(name)).await?;
    assert_eq!(resumed.size, 0);
    write(resumed.writer.as_mut(), content, None).await?;
    resumed.writer.finish(None).await
}

async fn what_is_put_is_read_whole_and_in_ranges(kind: DriverKind) {
    let test = kind.open();
    let content = bytes(3 << 20);
    for change in [put("a/object", "before"), put("a/object", content.clone())] {
        commit(&test.storage, vec![change]).await.expect("written");
    }
    for storage in [&test.storage, &test.anew(), &test.storage.bulk()] {
        assert!(get(storage, "a/object").await.expect("there") == content);
        let size = content.len() as u64;
        assert_eq!(storage.head(&key("a/object")).await.expect("read"), Some(size));
        let object = storage.open(&key("a/object")).await.expect("opened").expect("there");
        assert_eq!(object.size, size);
        // Whoever has it open reads on, in any order.
        let ranges = [0..size, 5..6, size - 1..size, 100..2_000_000, 7..7, 0..1];
        let reading = ranges.iter().map(|range| {
            let pieces = object.read(range.clone()).try_collect::<Vec<Bytes>>();
            async move { (range.clone(), pieces.await.expect("read").concat()) }
        });
        for (range, read) in futures_util::future::join_all(reading).await {
            let at = |place: u64| usize::try_from(place).expect("small");
            assert!(read == content[at(range.start)..at(range.end)], "{range:?}");
        }
        let digest = object.digest(Algorithm::Sha256).await.expect("read");
        assert_eq!(digest, Digest::of(Algorithm::Sha256, &content));
    }
}

async fn what_is_not_there_is_nothing(kind: DriverKind) {
    let test = kind.open();
    commit(&test.storage, vec![put("a/b/c", "x")]).await.expect("written");
    // Neither what has no name at all, nor what others begin with, nor what is below an object.
    for name in ["other", "a", "a/b", "a/b/c/d"] {
        let storage = &test.storage;
        assert_eq!(get(storage, name).await, None, "{name}");
        assert_eq!(storage.head(&key(name)).await.expect("looked"), None, "{name}");
        assert_eq!(storage.last_used(&key(name)).await.expect("looked"), None, "{name}");
        assert!(storage.open(&key(name)).await.expect("looked").is_none(), "{name}");
        assert_eq!(storage.unfinished(&key(name)).await.expect("looked"), None, "{name}");
    }
    for name in ["other", "a/b/c/d"] {
        let storage = &test.storage;
        assert_eq!(storage.list(&prefix(name)).await.expect("looked"), None, "{name}");
        let gone = storage.delete(vec![Target::Object(key(name))], Durability::Durable);
        assert_eq!(gone.await.expect("done"), 0, "{name}");
        let gone = storage.delete(vec![Target::All(prefix(name))], Durability::Durable);
        assert_eq!(gone.await.expect("done"), 0, "{name}");
    }
    test.storage.probe().await.expect("it answers");
    test.storage.flush().await.expect("nothing to do");
}

async fn names_are_listed_in_order(kind: DriverKind) {
    let test = kind.open();
    let long = "n".repeat(128);
    let names = ["a", "a-b", "a.b", "a0", "A_b", "_layers", "..c", "zz", &long, "10", "9"];
    for name in names {
        for below in ["x", "y/z"] {
            let change = put(&format!("top/{name}/{below}"), name.to_owned());
            commit(&test.storage, vec![change]).await.expect("written");
        }
    }
    commit(&test.storage, vec![put("top/object", "x"), put("topmost/other", "x")])
        .await
        .expect("written");
    let mut expected: Vec<&str> = names.to_vec();
    expected.push("object");
    expected.sort_unstable();
    for storage in [&test.storage, &test.anew()] {
        let listing = storage.list(&prefix("top")).await.expect("listed").expect("there");
        assert_eq!(listing.iter().collect::<Vec<_>>(), expected);
        let below = storage.list(&prefix("top").below(&long)).await.expect("listed");
        assert_eq!(below.expect("there").iter().collect::<Vec<_>>(), ["x", "y"]);
    }
    // What changed is listed anew, also right afterwards.
    for round in 0..20 {
        let name = format!("top/new-{round:02}");
        commit(&test.storage, vec![put(&name, "x")]).await.expect("written");
        let listing = test.storage.list(&prefix("top")).await.expect("listed").expect("there");
        assert_eq!(listing.len(), expected.len() + round + 1);
    }
}

async fn an_unfinished_object_goes_on_with_its_note(kind: DriverKind) {
    let mut test = kind.open();
    let content = bytes(13 << 20);
    let name = "up/data";
    let mut hasher = Some(Hasher::new(Algorithm::Sha256));
    let mut at = 0;
    // Small and large, so that parts of an object store are whole and not.
    for (number, size) in [100, 6 << 20, 0, 1, 5 << 20, 300_000].into_iter().enumerate() {
        let note = Bytes::from(format!("left {number} times"));
        if number % 2 == 1 {
            test = test.after_kill();
        }
        let mut resumed = test.storage.resume(&key(name)).await.expect("opened");
        assert_eq!(resumed.size, at as u64);
        if at > 0 && number % 2 == 0 || kind == DriverKind::Memory && number > 0 {
            let before = format!("left {} times", number - 1);
            // A small file is not worth a note that outlives its process.
            if resumed.note.is_some() || at >= 4 << 20 && number > 2 {
                assert_eq!(resumed.note.as_deref(), Some(before.as_bytes()), "{number}");
            }
        }
        hasher = write(resumed.writer.as_mut(), &content[at..at + size], hasher)
            .await
            .expect("written");
        resumed.writer.pause(Some(note)).await.expect("left");
        at += size;
        assert_eq!(
            test.storage.unfinished(&key(name)).await.expect("looked"),
            Some(at as u64)
        );
        assert!(test.storage.last_used(&key(name)).await.expect("looked").is_some());
    }
    commit(&test.storage, vec![put("blobs/whole", "what was there before")])
        .await
        .expect("written");
    let mut resumed = test.storage.resume(&key(name)).await.expect("opened");
    hasher = write(resumed.writer.as_mut(), &content[at..], hasher)
        .await
        .expect("written");
    let staged = resumed.writer.finish(None).await.expect("ended");
    assert_eq!((&staged.key, staged.size), (&key(name), content.len() as u64));
    assert_eq!(
        hasher.expect("kept").finish(),
        Digest::of(Algorithm::Sha256, &content),
        "whoever writes feeds the digest"
    );
    // What is ended can be read under its own name, and ended again when nothing came of it.
    drop(staged);
    assert!(get(&test.storage, name).await.expect("there") == content);
    let resumed = test.storage.resume(&key(name)).await.expect("opened");
    assert_eq!(resumed.size, content.len() as u64);
    let staged = resumed.writer.finish(None).await.expect("ended");
    let promote = Change::Promote {
        staged,
        key: key("blobs/whole"),
    };
    commit(&test.storage, vec![promote]).await.expect("promoted");
    for storage in [&test.storage, &test.anew()] {
        assert!(get(storage, "blobs/whole").await.expect("there") == content);
        assert_eq!(storage.unfinished(&key(name)).await.expect("looked"), None);
        assert_eq!(get(storage, name).await, None);
    }
}

async fn what_was_not_left_properly_has_no_note(kind: DriverKind) {
    let test = kind.open();
    let name = "up/data";
    let mut resumed = test.storage.resume(&key(name)).await.expect("opened");
    write(resumed.writer.as_mut(), b"first", None).await.expect("written");
    resumed.writer.pause(Some("of the first".into())).await.expect("left");
    let mut resumed = test.storage.resume(&key(name)).await.expect("opened");
    assert_eq!(resumed.note.as_deref(), Some(&b"of the first"[..]));
    write(resumed.writer.as_mut(), b", second", None)
        .await
        .expect("written");
    drop(resumed);
    let resumed = test.storage.resume(&key(name)).await.expect("opened");
    match resumed.size {
        5 => assert_eq!(resumed.note.as_deref(), Some(&b"of the first"[..])),
        13 => assert_eq!(resumed.note, None),
        size => panic!("{size} bytes"),
    }
    resumed.writer.pause(Some("anew".into())).await.expect("left");
    // Nor has what another changed meanwhile: grown, shrunk, replaced, or written over.
    let Some(directory) = test.files() else { return };
    let path = directory.join(name);
    let (longer, shorter) = ("x".repeat(20), "x");
    for other in [longer.as_str(), shorter, "y"] {
        let resumed = test.storage.resume(&key(name)).await.expect("opened");
        resumed.writer.pause(Some("anew".into())).await.expect("left");
        let resumed = test.storage.resume(&key(name)).await.expect("opened");
        assert!(resumed.note.is_some());
        drop(resumed);
        if other == "y" {
            std::fs::remove_file(&path).expect("removed");
        }
        std::fs::write(&path, other).expect("written");
        let resumed = test.storage.resume(&key(name)).await.expect("opened");
        assert_eq!((resumed.size, resumed.note), (other.len() as u64, None), "{other}");
    }
}

async fn going_back_leaves_what_was_there(kind: DriverKind) {
    let test = kind.open();
    let name = "up/data";
    let content = bytes(17 << 20);
    let mut resumed = test.storage.resume(&key(name)).await.expect("opened");
    write(resumed.writer.as_mut(), &content[..6 << 20], None)
        .await
        .expect("written");
    resumed.writer.pause(Some("six".into())).await.expect("left");
    // Longer than what then comes in its place.
    let mut resumed = test.storage.resume(&key(name)).await.expect("opened");
    write(resumed.writer.as_mut(), &bytes(20 << 20), None)
        .await
        .expect("written");
    resumed.writer.rollback().await.expect("taken back");
    assert_eq!(
        test.storage.unfinished(&key(name)).await.expect("looked"),
        Some(6 << 20)
    );
    let mut resumed = test.storage.resume(&key(name)).await.expect("opened");
    assert_eq!((resumed.size, resumed.note.as_deref()), (6 << 20, Some(&b"six"[..])));
    write(resumed.writer.as_mut(), &content[6 << 20..], None)
        .await
        .expect("written");
    let staged = resumed.writer.finish(None).await.expect("ended");
    let promote = Change::Promote {
        staged,
        key: key("blobs/whole"),
    };
    commit(&test.storage, vec![promote]).await.expect("promoted");
    assert!(get(&test.storage, "blobs/whole").await.expect("there") == content);
}

async fn one_writes_at_a_time(kind: DriverKind) {
    let test = kind.open();
    let name = "up/data";
    let mut first = test.storage.resume(&key(name)).await.expect("opened");
    write(first.writer.as_mut(), b"first", None).await.expect("written");
    let busy = test.storage.resume(&key(name)).await.map(drop).expect_err("busy");
    assert_eq!(busy.source.kind(), io::ErrorKind::ResourceBusy, "{busy}");
    first.writer.pause(None).await.expect("left");
    let second = test.storage.resume(&key(name)).await.expect("opened");
    assert_eq!(second.size, 5);
}

async fn an_update_expects_what_is_there(kind: DriverKind) {
    let test = kind.open();
    let is = |text: &'static str| Expected::Content(text.into());
    for (expected, works) in [
        (is("absent"), false),
        (Expected::Absent, true),
        (Expected::Absent, false),
        (is("other"), false),
        (is("content 1"), true),
        (Expected::Anything, true),
    ] {
        let before = get(&test.storage, "tags/latest").await;
        let next = before.as_ref().map_or(1, |before| {
            let number = before.strip_prefix(b"content ").expect("ours");
            std::str::from_utf8(number)
                .expect("ours")
                .parse::<usize>()
                .expect("ours")
                + 1
        });
        // What comes along stands or falls with it.
        let along = format!("along/{next}-{works}");
        let changes = vec![
            update("tags/latest", &format!("content {next}"), expected.clone()),
            put(&along, "x"),
        ];
        let outcome = commit(&test.storage, changes).await;
        assert_eq!(outcome.is_ok(), works, "{expected:?}");
        let after = get(&test.storage, "tags/latest").await;
        if let Err(error) = outcome {
            assert!(error.is_conflict(), "{error}");
            assert_eq!(after, before, "{expected:?}");
            assert_eq!(get(&test.storage, &along).await, None, "{expected:?}");
        } else {
            assert_eq!(after, Some(format!("content {next}").into()));
        }
    }
}

async fn many_who_compare_and_swap_lose_nothing(kind: DriverKind) {
    const WORKERS: u64 = 8;
    const ROUNDS: u64 = 20;
    let test = kind.open();
    commit(&test.storage, vec![put("counter", "0")]).await.expect("written");
    let conflicts = Arc::new(AtomicUsize::new(0));
    let workers = (0..WORKERS).map(|_| {
        let (storage, conflicts) = (test.storage.clone(), Arc::clone(&conflicts));
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                loop {
                    let before = get(&storage, "counter").await.expect("there");
                    let number: u64 = std::str::from_utf8(&before).expect("ours").parse().expect("ours");
                    tokio::task::yield_now().await;
                    let next = update("counter", &(number + 1).to_string(), Expected::Content(before));
                    match commit(&storage, vec![next]).await {
                        Ok(()) => break,
                        Err(error) if error.is_conflict() => drop(conflicts.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("no panic");
    }
    assert_eq!(
        get(&test.storage, "counter").await,
        Some((WORKERS * ROUNDS).to_string().into())
    );
    assert!(conflicts.load(Ordering::Relaxed) > 0, "nobody met anybody");
}

async fn what_is_updated_is_seen_last(kind: DriverKind) {
    let test = kind.open();
    let storage = test.storage.clone();
    let enough = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&enough);
    let writer = tokio::spawn(async move {
        for round in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let changes = vec![
                update("tags/latest", &format!("{round}"), Expected::Anything),
                Change::PutVerified {
                    key: key(&format!("links/{round}")),
                    content: "link".into(),
                },
                put(&format!("blobs/{round}"), "blob"),
            ];
            commit(&storage, changes).await.expect("written");
        }
    });
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 50 && !writer.is_finished() {
        if let Some(round) = get(&test.storage, "tags/latest").await {
            let round = std::str::from_utf8(&round).expect("ours").to_owned();
            assert_eq!(
                get(&test.storage, &format!("links/{round}")).await.as_deref(),
                Some(&b"link"[..])
            );
            assert_eq!(
                get(&test.storage, &format!("blobs/{round}")).await.as_deref(),
                Some(&b"blob"[..])
            );
            seen.insert(round);
        }
        tokio::task::yield_now().await;
    }
    enough.store(true, Ordering::Relaxed);
    writer.await.expect("no panic");
}

async fn a_commit_that_fails_anywhere_shows_nothing(kind: DriverKind) {
    let names = [
        "blobs/put",
        "links/verified",
        "links/long",
        "blobs/promoted",
        "tags/old",
        "tags/new",
    ];
    let long = "a link that is too long for one write ".repeat(10);
    let changes = |staged: Staged| {
        vec![
            put("blobs/put", "put"),
            Change::PutVerified {
                key: key("links/verified"),
                content: "verified".into(),
            },
            Change::PutVerified {
                key: key("links/long"),
                content: long.clone().into(),
            },
            Change::Promote {
                staged,
                key: key("blobs/promoted"),
            },
            update("tags/old", "new", Expected::Content("old".into())),
            update("tags/new", "new", Expected::Absent),
        ]
    };
    let mut failures = 0;
    for at in 0.. {
        let test = kind.open();
        commit(&test.storage, vec![put("tags/old", "old")])
            .await
            .expect("written");
        let upload = staged(&test.storage, "up/data", b"promoted").await.expect("ended");
        test.full.plan(at);
        let outcome = commit(&test.storage, changes(upload)).await;
        let was_reached = test.full.end();
        // What comes after it is done may fail unseen.
        assert!(was_reached || outcome.is_ok(), "operation {at}: {outcome:?}");
        for storage in [&test.storage, &test.anew()] {
            let mut seen = Vec::new();
            for name in names {
                let content = get(storage, name).await;
                seen.push(content.map(|content| String::from_utf8_lossy(&content).into_owned()));
            }
            let text = |text: &str| Some(text.to_owned());
            let expected = if outcome.is_err() {
                [None, None, None, None, text("old"), None]
            } else {
                [
                    text("put"),
                    text("verified"),
                    text(&long),
                    text("promoted"),
                    text("new"),
                    text("new"),
                ]
            };
            assert_eq!(seen, expected, "operation {at}");
        }
        if !was_reached {
            break;
        }
        failures += usize::from(outcome.is_err());
        if outcome.is_ok() {
            continue;
        }
        // There is room again, and what failed works, with what is left of the upload or a new one.
        let left = test.storage.unfinished(&key("up/data")).await.expect("looked");
        let upload = if left.is_some() {
            let resumed = test.storage.resume(&key("up/data")).await.expect("opened");
            assert_eq!(resumed.size, 8, "operation {at}");
            resumed.writer.finish(None).await.expect("ended")
        } else {
            staged(&test.storage, "up/data", b"promoted").await.expect("ended")
        };
        commit(&test.storage, changes(upload)).await.expect("it works again");
        assert_eq!(
            get(&test.anew(), "blobs/promoted").await.as_deref(),
            Some(&b"promoted"[..])
        );
    }
    assert!(failures >= 8, "only {failures} operations");
}

async fn a_write_that_fails_keeps_what_was_left_before(kind: DriverKind) {
    let content = bytes(12 << 20);
    let half = 6 << 20;
    let mut failures = 0;
    for at in 0.. {
        let test = kind.open();
        let mut resumed = test.storage.resume(&key("up/data")).await.expect("opened");
        write(resumed.writer.as_mut(), &content[..half], None)
            .await
            .expect("written");
        resumed.writer.pause(Some("half".into())).await.expect("left");
        test.full.plan(at);
        let outcome = async {
            let mut resumed = test.storage.resume(&key("up/data")).await?;
            write(resumed.writer.as_mut(), &content[half..], None).await?;
            resumed.writer.pause(Some("whole".into())).await
        };
        let outcome = outcome.await;
        let was_reached = test.full.end();
        // What was acknowledged is there, whether more is or not.
        let test = test.after_kill();
        let resumed = test.storage.resume(&key("up/data")).await.expect("opened");
        let size = usize::try_from(resumed.size).expect("small");
        assert!(size >= half, "operation {at}: {size}");
        if outcome.is_ok() {
            assert_eq!(size, content.len(), "operation {at}");
        }
        match resumed.note.as_deref() {
            Some(b"half") => assert_eq!(size, half, "operation {at}"),
            Some(b"whole") => assert_eq!(size, content.len(), "operation {at}"),
            other => assert_eq!(other, None, "operation {at}"),
        }
        let mut writer = resumed.writer;
        write(writer.as_mut(), &content[size..], None).await.expect("written");
        let staged = writer.finish(None).await.expect("ended");
        let promote = Change::Promote {
            staged,
            key: key("blobs/whole"),
        };
        commit(&test.storage, vec![promote]).await.expect("promoted");
        assert!(
            get(&test.storage, "blobs/whole").await.expect("there") == content,
            "operation {at}"
        );
        if !was_reached {
            break;
        }
        failures += 1;
    }
    assert!(failures >= 3, "only {failures} operations");
}

async fn deletions_take_what_they_name(kind: DriverKind) {
    let test = kind.open();
    let storage = &test.storage;
    let names = ["a/b/one", "a/b/two/three", "a/b-c", "a/bb/four", "a/five"];
    for name in names {
        commit(storage, vec![put(name, "x")]).await.expect("written");
    }
    let mut resumed = storage.resume(&key("a/b/up/data")).await.expect("opened");
    write(resumed.writer.as_mut(), &bytes(6 << 20), None)
        .await
        .expect("written");
    resumed.writer.pause(Some("note".into())).await.expect("left");
    let targets = vec![
        Target::All(prefix("a/b")),
        Target::Object(key("a/five")),
        Target::Object(key("a/six")),
    ];
    for (durability, there) in [(Durability::Durable, 2), (Durability::Volatile, 0)] {
        let gone = storage.delete(targets.clone(), durability).await.expect("removed");
        assert_eq!(gone, there);
    }
    storage.flush().await.expect("durable");
    for storage in [storage, &test.anew()] {
        for (name, is_there) in names.iter().zip([false, false, true, true, false]) {
            assert_eq!(get(storage, name).await.is_some(), is_there, "{name}");
        }
        assert_eq!(storage.unfinished(&key("a/b/up/data")).await.expect("looked"), None);
        let listing = storage.list(&prefix("a")).await.expect("listed").expect("there");
        assert_eq!(listing.iter().collect::<Vec<_>>(), ["b-c", "bb"]);
    }
    // It begins anew, without a note.
    let resumed = storage.resume(&key("a/b/up/data")).await.expect("opened");
    assert_eq!((resumed.size, resumed.note), (0, None));
}

async fn a_touch_needs_what_it_touches(kind: DriverKind) {
    let test = kind.open();
    let touch = || vec![Change::Touch { key: key("blobs/data") }];
    let absent = commit(&test.storage, touch()).await.expect_err("nothing there");
    assert_eq!(absent.source.kind(), io::ErrorKind::NotFound, "{absent}");
    commit(&test.storage, vec![put("blobs/data", "x")])
        .await
        .expect("written");
    let used = |storage: Storage| async move {
        let used = storage.last_used(&key("blobs/data")).await.expect("looked");
        used.expect("there")
    };
    let before = used(test.storage.clone()).await;
    assert_eq!(before.size, 1);
    if let Some(directory) = test.files() {
        let file = std::fs::File::open(directory.join("blobs/data")).expect("opened");
        let hours_ago = std::time::SystemTime::now() - Duration::from_hours(2);
        file.set_modified(hours_ago).expect("set");
        assert!(used(test.storage.clone()).await.at < before.at);
    }
    commit(&test.storage, touch()).await.expect("touched");
    for storage in [test.storage.clone(), test.anew()] {
        assert!(used(storage).await.at >= before.at);
    }
    assert_eq!(get(&test.storage, "blobs/data").await.as_deref(), Some(&b"x"[..]));
}

async fn what_is_put_aside_is_kept_elsewhere(kind: DriverKind) {
    let test = kind.open();
    commit(&test.storage, vec![put("blobs/data", "damaged")])
        .await
        .expect("written");
    let aside = test
        .storage
        .set_aside(vec![key("blobs/data")])
        .await
        .expect("set aside");
    test.storage.quarantine(&aside, "sha256:name").await.expect("kept");
    for storage in [&test.storage, &test.anew()] {
        assert_eq!(get(storage, "blobs/data").await, None);
        let aside = get(storage, ".kdk/quarantine/sha256:name").await;
        assert_eq!(aside.as_deref(), Some(&b"damaged"[..]));
    }
    let aside = test
        .storage
        .set_aside(vec![key("blobs/data")])
        .await
        .expect("nothing to do");
    let absent = test.storage.quarantine(&aside, "x").await.expect_err("nothing there");
    assert_eq!(absent.source.kind(), io::ErrorKind::NotFound);
}

async fn what_is_set_aside_comes_back_or_goes(kind: DriverKind) {
    let test = kind.open();
    let storage = &test.storage;
    let names = ["blobs/one", "blobs/two"];
    let keys = || vec![key("blobs/one"), key("blobs/two"), key("blobs/never")];
    let far = || Clock::System.now() + jiff::SignedDuration::from_mins(10);
    let put_both = async |content: &str| {
        for name in names {
            commit(storage, vec![put(name, content.to_owned())])
                .await
                .expect("written");
        }
    };
    let both = async |storage: &Storage| {
        let mut all = Vec::new();
        for name in names {
            let content = get(storage, name).await;
            all.push(content.map(|content| String::from_utf8_lossy(&content).into_owned()));
        }
        all
    };
    let are = |text: &str| vec![Some(text.to_owned()); 2];
    // Back where it was.
    put_both("first").await;
    let aside = storage.set_aside(keys()).await.expect("set aside");
    if kind != DriverKind::Memory {
        assert_eq!(both(&test.anew()).await, [None, None], "out of sight");
    }
    storage.restore(&aside).await.expect("put back");
    assert_eq!(both(&test.anew()).await, are("first"));
    // Gone for good, and nothing is left to be put back.
    let aside = storage.set_aside(keys()).await.expect("set aside");
    assert_eq!(storage.purge(&aside, far()).await.expect("purged"), 2);
    storage.restore(&aside).await.expect("nothing to do");
    assert_eq!(both(&test.anew()).await, [None, None]);
    assert_eq!(storage.purge(&aside, far()).await.expect("nothing to do"), 0);
    // What comes in its place stays, whichever step follows.
    for purges in [true, false] {
        put_both("before").await;
        let aside = storage.set_aside(keys()).await.expect("set aside");
        tokio::time::sleep(Duration::from_millis(20)).await;
        put_both("after").await;
        if purges {
            storage.purge(&aside, far()).await.expect("purged");
        } else {
            storage.restore(&aside).await.expect("put back");
        }
        assert_eq!(both(&test.anew()).await, are("after"), "purges: {purges}");
    }
    // Whoever wakes up late does nothing.
    let aside = storage.set_aside(keys()).await.expect("set aside");
    let late = Clock::System.now() - jiff::SignedDuration::from_secs(1);
    let late = storage.purge(&aside, late).await.expect_err("too late");
    assert_eq!(late.source.kind(), io::ErrorKind::TimedOut);
    storage.restore(&aside).await.expect("put back");
    assert_eq!(both(&test.anew()).await, are("after"));
    // What was used again in between stays.
    if kind == DriverKind::Memory {
        let aside = storage.set_aside(keys()).await.expect("set aside");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let touch = names.map(|name| Change::Touch { key: key(name) });
        commit(storage, touch.into()).await.expect("touched");
        assert_eq!(storage.purge(&aside, far()).await.expect("done"), 0);
        assert_eq!(both(storage).await, are("after"));
    }
    // What a killed process left comes back with the next start.
    drop(storage.set_aside(keys()).await.expect("set aside"));
    let test = test.after_kill();
    assert_eq!(both(&test.storage).await, are("after"));
}

/// Fails, or waits, at one place.
#[derive(Debug)]
struct Planned {
    place: &'static str,
    fails: bool,
    release: Arc<tokio::sync::Notify>,
    reached: Arc<tokio::sync::Notify>,
}

impl Plan for Planned {
    fn at(&self, place: &'static str, _: &str) -> BoxFuture<'static, io::Result<()>> {
        let (is_here, fails) = (place == self.place, self.fails);
        let (release, reached) = (Arc::clone(&self.release), Arc::clone(&self.reached));
        Box::pin(async move {
            if !is_here {
                return Ok(());
            }
            reached.notify_one();
            if fails {
                return Err(io::Error::from_raw_os_error(nix::libc::EIO));
            }
            release.notified().await;
            Ok(())
        })
    }
}

/// A driver's thread that never comes back must not keep whoever asked.
#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_ends() {
    for place in ["get", "head", "open", "list", "get:done"] {
        let plan = Planned {
            place,
            fails: false,
            release: Arc::default(),
            reached: Arc::default(),
        };
        let storage = Storage::in_memory().with_faults(Arc::new(plan));
        let began = tokio::time::Instant::now();
        let failed = match place {
            "head" => storage.head(&key("a")).await.map(drop),
            "open" => storage.open(&key("a")).await.map(drop),
            "list" => storage.list(&prefix("a")).await.map(drop),
            _ => storage.get(&key("a")).await.map(drop),
        };
        let failed = failed.expect_err("it hangs");
        assert_eq!(failed.kind(), StorageErrorKind::Unavailable, "{place}");
        assert_eq!(began.elapsed(), Duration::from_mins(1));
    }
    let object = Object::new(4, Arc::new(Hanging));
    let pieces: Vec<_> = object.read(0..4).map_err(|error| error.kind()).collect().await;
    assert_eq!(pieces, [Ok("ab".into()), Err(io::ErrorKind::TimedOut)]);
}

/// Gives a first piece, and never another.
struct Hanging;

impl Source for Hanging {
    fn read(self: Arc<Self>, _: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        let first = futures_util::stream::iter([Ok(Bytes::from_static(b"ab"))]);
        first.chain(futures_util::stream::pending()).boxed()
    }

    fn is_bulk(&self) -> bool {
        false
    }
}

async fn faults_come_as_they_are_planned(kind: DriverKind) {
    let test = kind.open();
    for (place, is_there) in [("commit", false), ("commit:done", true)] {
        for fails in [true, false] {
            let plan = Arc::new(Planned {
                place,
                fails,
                release: Arc::default(),
                reached: Arc::default(),
            });
            let storage = test.storage.clone().with_faults(Arc::clone(&plan) as Arc<dyn Plan>);
            let name = format!("{place}-{fails}").replace(':', "-");
            let changes = vec![put(&name, "x")];
            let writing = storage.clone();
            let work = tokio::spawn(async move { commit(&writing, changes).await });
            plan.reached.notified().await;
            // Others go on, whoever is stopped there.
            assert_eq!(get(&storage, "elsewhere").await, None);
            if fails {
                let failed = work.await.expect("no panic").expect_err("planned");
                assert_eq!(failed.source.raw_os_error(), Some(nix::libc::EIO));
                assert_eq!(get(&storage, &name).await.is_some(), is_there, "{place}");
            } else {
                assert!(!work.is_finished());
                assert_eq!(get(&storage, &name).await.is_some(), is_there, "{place}");
                plan.release.notify_one();
                work.await.expect("no panic").expect("goes on");
                assert!(get(&storage, &name).await.is_some());
            }
        }
    }
}
