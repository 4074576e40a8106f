//! Numbers for Prometheus, under the names that the Go registries use.

use std::sync::atomic::AtomicU64;
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
    method: &'static str,
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: &'static str,
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

/// An endpoint of notifications.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndpointLabel {
    /// Its name.
    pub endpoint: String,
}

/// Notifications by endpoint.
#[derive(Clone, Debug, Default)]
pub struct Notifications {
    /// By outcome.
    pub events: Family<Sent, Counter>,
    /// Those that wait.
    pub pending: Family<EndpointLabel, Gauge>,
}

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
    /// Room on the storage: `free` and `total`, in bytes.
    pub space: Family<SpaceLabel, Gauge>,
    /// Connections to the database: `open`, `idle`; and requests that are `waiting` for one.
    pub connections: Family<ConnectionLabel, Gauge>,
    process: Process,
}

/// What room is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SpaceLabel {
    /// `free` or `total`.
    pub kind: &'static str,
}

/// What connections are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabel {
    /// `open`, `idle` or `waiting`.
    pub state: &'static str,
}

/// What the process uses, under the names that all of Prometheus' clients use.
#[derive(Debug, Default)]
struct Process {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    descriptors: Gauge,
    most_descriptors: Gauge,
    started: Gauge<f64, AtomicU64>,
}

impl Process {
    fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        let now = crate::sys::clock::Clock::System.now();
        own.started.set(now.as_duration().as_secs_f64());
        let part = registry.sub_registry_with_prefix("process");
        part.register_with_unit("cpu", "Time on processors", Unit::Seconds, own.cpu.clone());
        part.register_with_unit("resident_memory", "Memory in use", Unit::Bytes, own.resident.clone());
        part.register("open_fds", "Open descriptors", own.descriptors.clone());
        part.register("max_fds", "Descriptors that may be open", own.most_descriptors.clone());
        part.register_with_unit(
            "start_time",
            "When the process was started",
            Unit::Seconds,
            own.started.clone(),
        );
        own
    }

    fn look(&self) {
        let usage = crate::sys::usage::own();
        let set = |gauge: &Gauge, value: Option<u64>| {
            if let Some(value) = value {
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        };
        self.cpu.inc_by((usage.cpu.as_secs_f64() - self.cpu.get()).max(0.0));
        set(&self.resident, usage.resident);
        set(&self.descriptors, usage.descriptors);
        set(&self.most_descriptors, usage.most_descriptors);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Registry::default();
        let process = Process::register(&mut all);
        let registry = all.sub_registry_with_prefix("registry");
        let space = Family::<SpaceLabel, Gauge>::default();
        let connections = Family::<ConnectionLabel, Gauge>::default();
        registry.register_with_unit("storage_space", "Room on the storage", Unit::Bytes, space.clone());
        registry.register(
            "database_connections",
            "Connections to the metadata database",
            connections.clone(),
        );
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
            notifications.events.clone(),
        );
        registry.register(
            "notifications_pending",
            "Notifications that wait for their endpoint",
            notifications.pending.clone(),
        );
        Self {
            registry: all,
            space,
            connections,
            process,
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

/// Returns the label of a method: whoever makes methods up makes no labels.
fn label(method: &str) -> &'static str {
    const KNOWN: [(&str, &str); 7] = [
        ("DELETE", "delete"),
        ("GET", "get"),
        ("HEAD", "head"),
        ("OPTIONS", "options"),
        ("PATCH", "patch"),
        ("POST", "post"),
        ("PUT", "put"),
    ];
    let known = KNOWN.iter().find(|(name, _)| *name == method);
    known.map_or("other", |(_, label)| label)
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 16))
}

impl Metrics {
    /// Counts an answer.
    pub fn answered(&self, route: &'static str, method: &str, code: u16, took: Duration) {
        let method = label(method);
        self.requests.get_or_create(&Answered { code, method, route }).inc();
        self.durations
            .get_or_create(&Asked { method, route })
            .observe(took.as_secs_f64());
    }

    /// Writes all numbers in the text format.
    pub fn encode(&self) -> String {
        self.process.look();
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes everything");
        text
    }
}
