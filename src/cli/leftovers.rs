//! What a root that is gone left running.

use std::time::Duration;

use super::ui::Ui;
use crate::supervisor::job;
use crate::supervisor::protocol::JobSpec;
use crate::sys::{net, process};

/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Ends processes that hold a service's port and were started in a directory
/// that stood where the root is now, and was removed: nobody else would. Says
/// which.
pub fn end(ui: &Ui, specs: &[JobSpec]) {
    for spec in specs {
        let port = spec.listen.as_deref().and_then(|listen| listen.rsplit_once(':'));
        let Some(port) = port.and_then(|(_, port)| port.parse().ok()) else {
            continue;
        };
        let Some(holder) = net::port_holder(port) else { continue };
        if !holder.is_in_removed(&spec.cwd) {
            continue;
        }
        ui.warn(&format!(
            "{}: ending {} (process {}), left by a root that was removed from {}",
            spec.name, holder.name, holder.pid, spec.cwd
        ));
        if let Some(group) = process::group_of(holder.pid) {
            job::end_group(group, GRACE);
        }
    }
}
