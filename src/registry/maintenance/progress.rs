//! Telling how far work is.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::events::Event;

/// Tells of more items done, not too often. Whoever listens may be slow: not
/// to be called while the gate is closed.
pub fn progress(report: &(dyn Fn(Event) + Sync), done: &AtomicUsize, more: usize, total: usize) {
    let before = done.fetch_add(more, Ordering::Relaxed);
    let (now, step) = (before + more, 1 + total / 100);
    if now == total || now / step > before / step {
        report(Event::Progress { done: now, total });
    }
}
