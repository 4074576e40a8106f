//! What a metadata database says, against the storage that it speaks of.

use std::collections::HashSet;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::finding::{Finding, Findings};
use crate::registry::metadata::postgres::walk::Named;
use crate::registry::metadata::{MetadataError, Postgres, Stored};
use crate::registry::oci::Digest;
use crate::registry::oci::references::{Holds, Platforms, required};
use crate::registry::storage::{Blobs, Storage};

/// Rows that are looked at in one go.
const PAGE: i64 = 1000;

/// Checks every blob and manifest that a database knows of.
///
/// # Errors
/// When the database or the storage fails, or the work is interrupted.
pub async fn check(
    postgres: &Postgres,
    driver: &Storage,
    platforms: &Platforms,
    stop: &CancellationToken,
    all: &mut Findings,
) -> Result<(), MetadataError> {
    check_blobs(postgres, driver, stop, all).await?;
    check_manifests(postgres, platforms, stop, all).await?;
    all.in_database = true;
    all.findings.sort_unstable();
    Ok(())
}

fn check_stop(stop: &CancellationToken) -> Result<(), MetadataError> {
    if stop.is_cancelled() {
        return Err(MetadataError::Import("interrupted".to_owned()));
    }
    Ok(())
}

async fn check_blobs(
    postgres: &Postgres,
    driver: &Storage,
    stop: &CancellationToken,
    all: &mut Findings,
) -> Result<(), MetadataError> {
    let blobs = Blobs::new(driver.clone());
    let mut after: Option<Digest> = None;
    loop {
        check_stop(stop)?;
        let page = postgres.blob_page(after.as_ref(), PAGE).await?;
        for (digest, size) in &page {
            let stored = blobs.head(digest).await?;
            let (problem, detail) = match stored {
                Some(stored) if i64::try_from(stored) == Ok(*size) => continue,
                Some(stored) => (
                    "wrong-size",
                    format!("the database says {size} bytes, the storage has {stored}"),
                ),
                None => ("missing-blob", "the database has it, the storage has not".to_owned()),
            };
            // It may have been collected since the page was read, or be on its way to.
            if postgres.is_blob_needed(digest).await? {
                all.findings.push(finding(problem, None, digest, detail));
            }
        }
        match page.last() {
            Some((digest, _)) => after = Some(digest.clone()),
            None => return Ok(()),
        }
    }
}

async fn check_manifests(
    postgres: &Postgres,
    platforms: &Platforms,
    stop: &CancellationToken,
    all: &mut Findings,
) -> Result<(), MetadataError> {
    let mut repositories = HashSet::new();
    let mut after = i64::MIN;
    loop {
        check_stop(stop)?;
        let page = postgres.manifest_page(after, PAGE).await?;
        for (_, name, digest, content) in &page {
            repositories.insert(name.clone());
            let computed = Digest::of(digest.algorithm(), content);
            if computed != *digest {
                let detail = format!("{} bytes whose digest is {computed}", content.len());
                let name = Some(name.clone());
                all.findings.push(finding("corrupt-manifest", name, digest, detail));
            }
        }
        let named: Vec<Named> = page
            .iter()
            .flat_map(|(_, name, digest, content)| named_by(name, digest, content, platforms))
            .collect();
        for (of, is_stored) in postgres.unlinked(&named).await? {
            let (problem, detail) = if is_stored {
                ("missing-layer-link", "is stored, but no part of the repository")
            } else {
                ("missing-blob", "is not stored; push it again")
            };
            let detail = format!("named by {}, {detail}", of.by);
            let name = Some(of.repository.clone());
            all.findings.push(finding(problem, name, &of.digest, detail));
        }
        all.manifests += page.len();
        match page.last() {
            Some((id, ..)) => after = *id,
            None => break,
        }
    }
    all.repositories = repositories.len();
    Ok(())
}

/// Returns what a manifest needs.
fn named_by<'a>(
    name: &'a str,
    digest: &'a Digest,
    content: &Bytes,
    platforms: &Platforms,
) -> impl Iterator<Item = Named> + use<'a> {
    let manifest = Stored::new(content.clone()).manifest();
    let needed = manifest.map_or_else(Vec::new, |manifest| required(&manifest, platforms));
    needed.into_iter().map(move |one| Named {
        repository: name.to_owned(),
        by: digest.clone(),
        or_manifest: one.holds == Holds::Either,
        digest: one.digest,
    })
}

fn finding(problem: &'static str, repository: Option<String>, digest: &Digest, detail: String) -> Finding {
    Finding {
        problem,
        repository,
        subject: digest.to_string(),
        detail,
        repaired: None,
    }
}
