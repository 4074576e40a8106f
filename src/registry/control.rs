//! Who uses a storage, and how a collection is asked of the server that does.
//!
//! In `<rootdirectory>/.kdk`: `server.lock`, of which every server holds a
//! share and offline work all; and in `servers/` one locked file per server
//! that names the socket on which it takes requests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::gc::collect::{self, Event, Options, Site};
use super::http::App;
use crate::sys::fs::Lock;

/// Longest path of a unix socket that every supported system takes, in bytes.
const SOCKET_PATH_LIMIT: usize = 100;
/// Longest request in bytes.
const REQUEST_LIMIT: u64 = 64 << 10;
/// Events that wait for a slow listener.
const QUEUE: usize = 256;

/// Returns the directory of what is ours beside the images.
pub fn directory(root: &Utf8Path) -> Utf8PathBuf {
    root.join(".kdk")
}

fn lock_path(root: &Utf8Path) -> Utf8PathBuf {
    directory(root).join("server.lock")
}

/// Held shared by servers that start, and whole by a collection in a server:
/// none starts beside it.
fn starting_path(root: &Utf8Path) -> Utf8PathBuf {
    directory(root).join("starting.lock")
}

/// A server's presence on a storage, until it is dropped.
#[derive(Debug)]
pub struct Presence {
    _share: Lock,
    own: Option<Own>,
    /// Whether a server before this one was killed.
    pub after_kill: bool,
}

/// What others find of a server.
#[derive(Debug)]
struct Own {
    _lock: Lock,
    file: Utf8PathBuf,
    socket: Utf8PathBuf,
    listener: Option<UnixListener>,
}

impl Drop for Own {
    fn drop(&mut self) {
        // Nobody finds a stale one: its lock is free.
        let _ = crate::sys::fs::remove(&self.socket);
        let _ = crate::sys::fs::remove(&self.file);
    }
}

impl Presence {
    /// Announces this server; nothing while offline work or a collection
    /// holds the storage.
    ///
    /// # Errors
    /// When the files cannot be made.
    pub fn announce(root: &Utf8Path) -> io::Result<Option<Self>> {
        crate::sys::fs::create_private_dir(&directory(root))?;
        let Some(_starting) = Lock::try_share(&starting_path(root))? else {
            return Ok(None);
        };
        let Some(share) = Lock::try_share(&lock_path(root))? else {
            return Ok(None);
        };
        let (_, stale) = live(root)?;
        let own = match Own::publish(root) {
            Ok(own) => Some(own),
            // Pulls and deletions must work on a full disk. No collection
            // runs beside a server that cannot be found: it holds its share.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => None,
            Err(error) => return Err(error),
        };
        Ok(Some(Self {
            _share: share,
            own,
            after_kill: stale > 0,
        }))
    }

    /// Takes out the socket on which requests come.
    pub fn listener(&mut self) -> Option<UnixListener> {
        self.own.as_mut()?.listener.take()
    }
}

impl Own {
    fn publish(root: &Utf8Path) -> io::Result<Self> {
        let servers = directory(root).join("servers");
        crate::sys::fs::create_private_dir(&servers)?;
        let id = crate::serve::log::instance_id();
        let file = servers.join(&id);
        let mut socket = servers.join(format!("{id}.socket"));
        if socket.as_str().len() > SOCKET_PATH_LIMIT {
            let hash = HEXLOWER.encode(&Sha256::digest(file.as_str().as_bytes())[..8]);
            let short = Utf8PathBuf::from(format!("/tmp/kdk-registry-{}", crate::sys::process::user_id()));
            crate::sys::fs::create_private_dir(&short)?;
            socket = short.join(hash);
        }
        let listener = UnixListener::bind(&socket)?;
        // Locked before it can be found: what is found unlocked is stale.
        let hidden = servers.join(format!("{id}.new"));
        let lock = Lock::try_take(&hidden)?.ok_or_else(|| io::Error::other(format!("{hidden} is locked")))?;
        io::Write::write_all(&mut lock.file(), socket.as_str().as_bytes())?;
        std::fs::rename(&hidden, &file)?;
        Ok(Self {
            _lock: lock,
            file,
            socket,
            listener: Some(listener),
        })
    }
}

/// Returns the sockets of the servers that use a storage, and how many were
/// killed; what those left is removed.
fn live(root: &Utf8Path) -> io::Result<(Vec<Utf8PathBuf>, usize)> {
    let mut found = Vec::new();
    let mut stale = 0;
    let servers = directory(root).join("servers");
    for entry in servers.read_dir_utf8().into_iter().flatten() {
        let path = entry?.into_path();
        if path.file_name().is_some_and(|name| name.contains('.')) {
            continue;
        }
        if let Some(mut lock) = Lock::try_take(&path)? {
            let socket = lock.read().unwrap_or_default();
            if !socket.is_empty() {
                crate::sys::fs::remove(Utf8Path::new(&socket))?;
            }
            stale += usize::from(crate::sys::fs::remove(&path)?);
        } else {
            found.push(Utf8PathBuf::from(crate::sys::fs::read(&path)?));
        }
    }
    Ok((found, stale))
}

/// Who uses a storage.
#[derive(Debug)]
pub enum Users {
    /// Nobody; this is held until the work is done.
    Nobody(Lock),
    /// One server, which takes requests on this socket.
    One(Utf8PathBuf),
    /// More than one server.
    Several(usize),
    /// Somebody does offline work, or a server that cannot be asked.
    Busy,
}

/// Finds out who uses a storage; when nobody does, keeps it that way.
///
/// # Errors
/// When the files cannot be read or made.
pub fn users(root: &Utf8Path) -> io::Result<Users> {
    crate::sys::fs::create_private_dir(&directory(root))?;
    if let Some(lock) = Lock::try_take(&lock_path(root))? {
        return Ok(Users::Nobody(lock));
    }
    let (mut live, _) = live(root)?;
    Ok(match live.len() {
        0 => Users::Busy,
        1 => Users::One(live.remove(0)),
        several => Users::Several(several),
    })
}

/// What may be asked of a server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
enum Request {
    /// Collect garbage, and tell how it goes.
    CollectGarbage(Options),
}

/// Takes requests until `stop`.
pub async fn serve(app: Arc<App>, listener: UnixListener, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            crate::sys::task::spawn(answer(Arc::clone(&app), stream, stop.child_token()));
        } else {
            crate::sys::task::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn answer(app: Arc<App>, stream: UnixStream, stop: CancellationToken) {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading.take(REQUEST_LIMIT));
    let mut line = String::new();
    let Ok(Request::CollectGarbage(options)) = reading
        .read_line(&mut line)
        .await
        .and_then(|_| Ok(serde_json::from_str(&line)?))
    else {
        return;
    };
    if app.metadata.is_database() {
        let message = "the metadata of this registry are in a database, and garbage is collected while it serves (see kdk registry gc status); nothing was touched".to_owned();
        let _ = send(&mut writing, &Event::Failed { message }).await;
        return;
    }
    // Whoever asked and goes away wants no more of it.
    let gone = stop.clone();
    crate::sys::task::spawn(async move {
        let mut rest = Vec::new();
        let _ = reading.read_to_end(&mut rest).await;
        gone.cancel();
    });
    // No other server may start beside it, and none may be there.
    let root = &app.config.storage.root;
    let alone = match Lock::try_take(&starting_path(root)) {
        Ok(Some(lock)) if live(root).is_ok_and(|(servers, _)| servers.len() == 1) => lock,
        _ => {
            let message = "another registry uses this storage, or starts to".to_owned();
            let _ = send(&mut writing, &Event::Failed { message }).await;
            return;
        }
    };
    app.logger.info(
        "garbage collection started",
        vec![
            ("delete_untagged", options.delete_untagged.into()),
            ("dry_run", options.dry_run.into()),
        ],
    );
    let (sender, mut events) = mpsc::channel::<Event>(QUEUE);
    let (report, reported) = std::sync::mpsc::sync_channel::<Event>(QUEUE);
    // The crew's threads run futures and may not wait for a channel of theirs.
    crate::sys::task::blocking(move || {
        reported.iter().try_for_each(|event| sender.blocking_send(event)).ok();
    });
    let collecting = {
        let (app, stop, handle) = (Arc::clone(&app), stop.clone(), tokio::runtime::Handle::current());
        crate::sys::task::blocking(move || {
            // When nobody reads any more the collection is stopped by `gone`.
            let report = move |event| drop(report.send(event));
            let site = Site {
                driver: &app.driver.bulk(),
                gate: Some(&app.gate),
                handle: &handle,
                stop: &stop,
                report: &report,
            };
            collect::collect(&site, options)
        })
    };
    while let Some(event) = events.recv().await {
        if send(&mut writing, &event).await.is_err() {
            stop.cancel();
        }
    }
    let outcome = collecting.await;
    drop(alone);
    let last = match outcome {
        Ok(Ok(summary)) => {
            app.logger.info(
                "garbage collection complete",
                vec![
                    ("blobs_deleted", summary.blobs_deleted.into()),
                    ("manifests_deleted", summary.manifests_deleted.into()),
                    ("bytes_freed", summary.bytes_freed.into()),
                ],
            );
            Event::Finished(summary)
        }
        Ok(Err(error)) => {
            let mut message = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                message = format!("{message}: {source}");
            }
            app.logger.warn(
                "garbage collection ended early",
                vec![("error", message.clone().into())],
            );
            Event::Failed { message }
        }
        Err(failure) => Event::Failed {
            message: failure.to_string(),
        },
    };
    let _ = send(&mut writing, &last).await;
}

async fn send(writing: &mut (impl tokio::io::AsyncWrite + Unpin), event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    writing.write_all(&line).await
}

/// Asks the server behind a socket to collect garbage; `report` hears how it
/// goes, the last event included. Dropping the future ends the collection.
///
/// # Errors
/// When the server cannot be reached or goes away.
pub async fn ask(socket: &Utf8Path, options: Options, report: &(dyn Fn(Event) + Sync)) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut request = serde_json::to_vec(&Request::CollectGarbage(options))?;
    request.push(b'\n');
    stream.write_all(&request).await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        let event: Event = serde_json::from_str(&line)?;
        let last = matches!(event, Event::Finished(_) | Event::Failed { .. });
        report(event);
        if last {
            return Ok(());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the registry ended before the collection did",
    ))
}
