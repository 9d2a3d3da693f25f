use std::{
    fmt::Write,
    sync::{
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
        Arc,
    },
    time::Duration,
};

use tonic::Code;

use crate::{constants::DURATION_BUCKETS_S, metered::Meters, method::Method};

/// Codes of gRPC, `Ok` to `Unauthenticated`.
const CODES: usize = 17;

/// Counters of one gRPC method.
#[derive(Debug, Default)]
struct MethodMetrics {
    started: AtomicU64,
    handled: [AtomicU64; CODES],
    /// Calls per bucket of [`DURATION_BUCKETS_S`], not cumulated; the last one holds the slower ones.
    durations: [AtomicU64; DURATION_BUCKETS_S.len() + 1],
    duration_us: AtomicU64,
}

/// What this member counts itself; gauges of Raft and of the state machine are read when asked for.
#[derive(Debug)]
pub(crate) struct Metrics {
    methods: Vec<MethodMetrics>,
    pub proposals_pending: AtomicI64,
    pub proposals_failed: AtomicU64,
    pub leader_changes_seen: AtomicU64,
    pub read_indexes_failed: AtomicU64,
    pub watch_streams: AtomicI64,
    pub watchers: AtomicI64,
    pub watch_events_sent: AtomicU64,
    pub leases_renewed: AtomicU64,
    pub health_successes: AtomicU64,
    pub health_failures: AtomicU64,
    pub meters: Arc<Meters>,
}

impl Metrics {
    pub fn new(meters: Arc<Meters>) -> Self {
        Self {
            methods: Method::ALL.iter().map(|_| MethodMetrics::default()).collect(),
            proposals_pending: AtomicI64::new(0),
            proposals_failed: AtomicU64::new(0),
            leader_changes_seen: AtomicU64::new(0),
            read_indexes_failed: AtomicU64::new(0),
            watch_streams: AtomicI64::new(0),
            watchers: AtomicI64::new(0),
            watch_events_sent: AtomicU64::new(0),
            leases_renewed: AtomicU64::new(0),
            health_successes: AtomicU64::new(0),
            health_failures: AtomicU64::new(0),
            meters,
        }
    }

    pub fn started(&self, method: Method) {
        self.methods[method as usize].started.fetch_add(1, Relaxed);
    }

    pub fn handled(&self, method: Method, code: Code, took: Duration) {
        let counters = &self.methods[method as usize];
        counters.handled[code as usize % CODES].fetch_add(1, Relaxed);
        let took_s = took.as_secs_f64();
        let bucket = DURATION_BUCKETS_S.iter().position(|bound| took_s <= *bound).unwrap_or(DURATION_BUCKETS_S.len());
        counters.durations[bucket].fetch_add(1, Relaxed);
        counters.duration_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The per-method counters in Prometheus' text form, under the names of the usual gRPC interceptors.
    pub fn write_methods(&self, text: &mut String) {
        family(text, "grpc_server_started_total", "counter", "Total number of RPCs started on the server.");
        for (method, counters) in self.each() {
            sample(text, "grpc_server_started_total", &method.labels(), counters.started.load(Relaxed));
        }
        family(text, "grpc_server_handled_total", "counter", "Total number of RPCs completed, by code.");
        for (method, counters) in self.each() {
            for (code, count) in counters.handled.iter().enumerate() {
                let (code, count) = (Code::from(i32::try_from(code).unwrap_or(2)), count.load(Relaxed));
                if count > 0 || code == Code::Ok {
                    let labels = format!("grpc_code=\"{}\",{}", code_name(code), method.labels());
                    sample(text, "grpc_server_handled_total", &labels, count);
                }
            }
        }
        let name = "grpc_server_handling_seconds";
        family(text, name, "histogram", "Response latency of RPCs that the server handled.");
        for (method, counters) in self.each().filter(|(method, _)| method.is_unary()) {
            let mut total = 0;
            for (index, count) in counters.durations.iter().enumerate() {
                total += count.load(Relaxed);
                let bound = DURATION_BUCKETS_S.get(index).map_or("+Inf".to_owned(), f64::to_string);
                sample(text, &format!("{name}_bucket"), &format!("{},le=\"{bound}\"", method.labels()), total);
            }
            let sum_s = Duration::from_micros(counters.duration_us.load(Relaxed)).as_secs_f64();
            sample(text, &format!("{name}_sum"), &method.labels(), sum_s);
            sample(text, &format!("{name}_count"), &method.labels(), total);
        }
    }

    /// Calls of a method that were started.
    pub fn started_total(&self, method: Method) -> u64 {
        self.methods[method as usize].started.load(Relaxed)
    }

    /// Calls of a method that succeeded.
    pub fn succeeded_total(&self, method: Method) -> u64 {
        self.methods[method as usize].handled[Code::Ok as usize].load(Relaxed)
    }

    fn each(&self) -> impl Iterator<Item = (Method, &MethodMetrics)> {
        Method::ALL.iter().copied().zip(&self.methods)
    }
}

/// Writes the two lines that introduce a metric.
pub(crate) fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Writes one sample; `labels` without braces.
pub(crate) fn sample(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_calls_are_written_with_their_code_and_duration() {
        let metrics = Metrics::new(Arc::default());
        metrics.started(Method::Put);
        metrics.handled(Method::Put, Code::InvalidArgument, Duration::from_millis(3));
        let mut text = String::new();
        metrics.write_methods(&mut text);
        let labels = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
        assert!(text.contains(&format!("grpc_server_started_total{{{labels}}} 1\n")), "{text}");
        assert!(text.contains(&format!("grpc_server_handled_total{{grpc_code=\"InvalidArgument\",{labels}}} 1\n")));
        assert!(text.contains(&format!("grpc_server_handling_seconds_bucket{{{labels},le=\"0.002\"}} 0\n")));
        assert!(text.contains(&format!("grpc_server_handling_seconds_bucket{{{labels},le=\"0.004\"}} 1\n")));
    }
}
