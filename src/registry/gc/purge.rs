//! Purging of uploads that were never finished.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::registry::config::UploadPurging;
use crate::registry::http::App;
use crate::registry::oci::RepoName;
use crate::registry::storage::{Durability, StorageError, Target, layout, tree};
use crate::sys::clock::Clock;

/// Longest pause before the first round: servers started together should not purge together.
const JITTER: Duration = Duration::from_hours(1);

/// Starts the rounds that the configuration asks for.
pub fn start(app: Arc<App>, stop: CancellationToken) {
    let Some(purging) = app
        .config
        .storage
        .upload_purging
        .filter(|_| !app.config.storage.readonly)
    else {
        return;
    };
    let most = u64::try_from(purging.interval.min(JITTER).as_millis()).unwrap_or(u64::MAX);
    let pause = crate::sys::random::below(most);
    let first = Duration::from_millis(pause);
    app.logger.info(
        &format!("Starting upload purge in {}m{}s", pause / 60_000, pause / 1000 % 60),
        Vec::new(),
    );
    crate::sys::task::spawn(async move {
        let mut pause = first;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = crate::sys::task::sleep(pause) => {}
            }
            match round(&app, purging).await {
                Ok(count) => app
                    .logger
                    .info("upload purge complete", vec![("uploads", count.into())]),
                Err(error) => app
                    .logger
                    .error("upload purge failed", vec![("error", error.to_string().into())]),
            }
            app.uploads.forget_idle();
            pause = purging.interval;
        }
    });
}

async fn round(app: &App, purging: UploadPurging) -> Result<usize, StorageError> {
    let now = Clock::System.now();
    let mut count = 0;
    for name in tree::holding(&app.driver, "_uploads").await? {
        for id in app
            .driver
            .list(&layout::uploads(&name))
            .await?
            .iter()
            .flat_map(|ids| ids.iter())
        {
            match purge(app, &name, id, now, purging).await {
                Ok(purged) => count += usize::from(purged),
                // One that cannot be removed must not keep the others.
                Err(error) => app.logger.error(
                    "cannot purge an upload",
                    vec![
                        ("repository", name.as_str().into()),
                        ("id", id.as_str().into()),
                        ("error", error.to_string().into()),
                    ],
                ),
            }
        }
    }
    if !purging.dry_run {
        let age = jiff::SignedDuration::try_from(purging.age).unwrap_or(jiff::SignedDuration::MAX);
        let before = now.checked_sub(age).unwrap_or(Timestamp::MIN);
        app.driver.tidy(&layout::registry(), before).await?;
    }
    Ok(count)
}

async fn purge(app: &App, group: &str, id: &str, now: Timestamp, purging: UploadPurging) -> Result<bool, StorageError> {
    if !is_old(app, group, id, now, purging).await? {
        return Ok(false);
    }
    app.logger.info(
        "purging upload",
        vec![
            ("repository", group.into()),
            ("id", id.into()),
            ("dry_run", purging.dry_run.into()),
        ],
    );
    if purging.dry_run {
        return Ok(true);
    }
    let Ok(name) = group.parse::<RepoName>() else {
        let all = vec![Target::All(layout::upload(group, id))];
        return Ok(app.driver.delete(all, Durability::Volatile).await? > 0);
    };
    let mut session = app.uploads.session(id).await;
    // A piece may have come while this waited for its turn.
    if !is_old(app, group, id, now, purging).await? {
        return Ok(false);
    }
    app.uploads.end(&mut session, &name, id).await
}

/// Says whether an upload was begun, and last added to, long enough ago.
async fn is_old(
    app: &App,
    group: &str,
    id: &str,
    now: Timestamp,
    purging: UploadPurging,
) -> Result<bool, StorageError> {
    let written = app.driver.get(&layout::upload_started_at(group, id)).await?;
    let started = written.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse::<Timestamp>().ok());
    // A full disk may have left it without a time.
    let begun = app.driver.last_used(&layout::upload_started_at(group, id)).await?;
    let started = started.or(begun.map(|used| used.at));
    // An upload that still grows is alive, whenever it was started.
    let data = app.driver.last_used(&layout::upload_data(group, id)).await?;
    let changed = data.map(|used| used.at);
    let Some(touched) = started.max(changed) else {
        return Ok(false);
    };
    let limit = jiff::SignedDuration::try_from(purging.age).unwrap_or(jiff::SignedDuration::MAX);
    Ok(now.duration_since(touched) >= limit)
}
