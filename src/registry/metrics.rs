//! Numbers for Prometheus, under the names that the Go registries use.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Media type of the text format (OpenMetrics 1.0).
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    code: u16,
    method: String,
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: String,
    route: &'static str,
}

/// What a notification counter is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Sent {
    /// The endpoint.
    pub endpoint: String,
    /// `Events`, `Successes`, `Failures` or `Dropped`.
    pub r#type: &'static str,
}

/// Counts notifications by endpoint and outcome.
pub type Notifications = Family<Sent, Counter>;

/// What a review by the online garbage collection came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reviewed {
    /// `blob` or `manifest`.
    pub worker: &'static str,
    /// `true` when nothing was due.
    pub noop: &'static str,
    /// `true` when nothing referred to it any more.
    pub dangling: &'static str,
    /// `true` when it failed.
    pub error: &'static str,
}

/// All numbers.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Asked, Histogram>,
    /// Requests under way.
    pub in_flight: Gauge,
    /// Sizes of blobs that were pushed, in bytes.
    pub uploads: Histogram,
    /// Sizes of blobs that were pulled, in bytes.
    pub downloads: Histogram,
    /// Notifications by endpoint and outcome.
    pub notifications: Notifications,
    /// Reviews by the online garbage collection.
    pub reviews: Family<Reviewed, Counter>,
    /// Bytes that it removed from the storage.
    pub collected: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("registry");
        let requests = Family::default();
        let durations = Family::new_with_constructor(seconds as fn() -> Histogram);
        let in_flight = Gauge::default();
        let uploads = Histogram::new(exponential_buckets(1024.0, 4.0, 12));
        let downloads = Histogram::new(exponential_buckets(1024.0, 4.0, 12));
        let notifications = Notifications::default();
        let reviews = Family::default();
        let collected = Counter::default();
        registry.register("gc_runs", "Reviews by the online garbage collection", reviews.clone());
        registry.register_with_unit(
            "gc_storage_deleted",
            "What the online garbage collection removed",
            Unit::Bytes,
            collected.clone(),
        );
        registry.register("http_requests", "Requests that were answered", requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time until the answer began",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("http_in_flight_requests", "Requests under way", in_flight.clone());
        registry.register_with_unit(
            "storage_blob_upload",
            "Sizes of pushed blobs",
            Unit::Bytes,
            uploads.clone(),
        );
        registry.register_with_unit(
            "storage_blob_download",
            "Sizes of pulled blobs",
            Unit::Bytes,
            downloads.clone(),
        );
        registry.register(
            "notifications_events",
            "Notifications by outcome",
            notifications.clone(),
        );
        Self {
            registry,
            requests,
            durations,
            in_flight,
            uploads,
            downloads,
            notifications,
            reviews,
            collected,
        }
    }
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 16))
}

impl Metrics {
    /// Counts an answer.
    pub fn answered(&self, route: &'static str, method: &str, code: u16, took: Duration) {
        let method = method.to_ascii_lowercase();
        self.requests
            .get_or_create(&Answered {
                code,
                method: method.clone(),
                route,
            })
            .inc();
        self.durations
            .get_or_create(&Asked { method, route })
            .observe(took.as_secs_f64());
    }

    /// Writes all numbers in the text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes everything");
        text
    }
}
