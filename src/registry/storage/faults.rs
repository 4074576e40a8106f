//! Faults on purpose: before and after each operation of the storage somebody
//! may let it fail, wait, or stop. In debug builds the real server's are
//! failpoints (`storage:commit`, `storage:commit:done`; see `sys::failpoint`).

use std::fmt::{Debug, Display};
use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::error::StorageError;

/// What is to go wrong.
pub trait Plan: Debug + Send + Sync {
    /// Is told of a place, `commit` or `commit:done`, and what it is about.
    /// The operation goes on when this does, and fails when this fails.
    fn at(&self, place: &'static str, name: &str) -> BoxFuture<'static, io::Result<()>>;
}

/// The plan, where there is one.
#[derive(Clone, Debug, Default)]
pub struct Faults(Option<Arc<dyn Plan>>);

impl Faults {
    /// Follows a plan.
    pub fn planned(plan: Arc<dyn Plan>) -> Self {
        Self(Some(plan))
    }

    /// Does what is planned for a place; mostly nothing.
    ///
    /// # Errors
    /// With the error that the operation is to fail with.
    pub async fn reach(&self, place: &'static str, name: &(dyn Display + Sync)) -> Result<(), StorageError> {
        #[cfg(debug_assertions)]
        if crate::sys::failpoint::is_planned() {
            let point = format!("storage:{place}");
            let reached = crate::sys::task::blocking(move || crate::sys::failpoint::reach(&point));
            let reached = reached.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            reached.map_err(|source| StorageError::new(place, &name, source))?;
        }
        match &self.0 {
            None => Ok(()),
            Some(plan) => {
                let planned = plan.at(place, &name.to_string()).await;
                planned.map_err(|source| StorageError::new(place, &name, source))
            }
        }
    }
}
