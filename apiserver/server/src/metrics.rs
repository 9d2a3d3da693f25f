use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Upper bounds in seconds of the request duration histogram.
const BUCKETS_S: [f64; 10] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0, 5.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
}

#[derive(Clone, Debug, Default)]
struct Histogram {
    buckets: [u64; BUCKETS_S.len()],
    count: u64,
    sum_s: f64,
}

#[derive(Default)]
struct Inner {
    requests: BTreeMap<(Labels, u16), u64>,
    durations: BTreeMap<Labels, Histogram>,
}

/// Counters under the names that operators' dashboards use.
#[derive(Default)]
pub struct Metrics(Mutex<Inner>);

/// One finished request. The resource's names are empty unless they are served, so that clients cannot make
/// the table of counters grow.
pub struct Finished<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub code: u16,
    /// `None` for watches, whose duration says nothing.
    pub duration: Option<Duration>,
}

impl Metrics {
    pub fn record(&self, finished: &Finished<'_>) {
        let labels = Labels {
            verb: finished.verb.to_uppercase(),
            group: finished.group.into(),
            version: finished.version.into(),
            resource: finished.resource.into(),
            subresource: finished.subresource.into(),
        };
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(duration) = finished.duration {
            let seconds = duration.as_secs_f64();
            let histogram = inner.durations.entry(labels.clone()).or_default();
            histogram.count += 1;
            histogram.sum_s += seconds;
            for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKETS_S) {
                *bucket += u64::from(seconds <= bound);
            }
        }
        *inner.requests.entry((labels, finished.code)).or_default() += 1;
    }

    /// The Prometheus text form. `in_flight` is reading, mutating.
    pub fn render(&self, in_flight: (usize, usize)) -> String {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE apiserver_request_total counter");
        for ((labels, code), count) in &inner.requests {
            let _ = writeln!(out, "apiserver_request_total{{{},code=\"{code}\"}} {count}", labels.render());
        }
        let name = "apiserver_request_duration_seconds";
        let _ = writeln!(out, "# TYPE {name} histogram");
        for (labels, histogram) in &inner.durations {
            let labels = labels.render();
            for (count, bound) in histogram.buckets.iter().zip(BUCKETS_S) {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count);
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}", histogram.sum_s);
            let _ = writeln!(out, "{name}_count{{{labels}}} {}", histogram.count);
        }
        let name = "apiserver_current_inflight_requests";
        let _ = writeln!(out, "# TYPE {name} gauge");
        let _ = writeln!(out, "{name}{{request_kind=\"readOnly\"}} {}", in_flight.0);
        let _ = writeln!(out, "{name}{{request_kind=\"mutating\"}} {}", in_flight.1);
        out
    }
}

impl Labels {
    fn render(&self) -> String {
        format!(
            "verb={:?},group={:?},version={:?},resource={:?},subresource={:?}",
            self.verb, self.group, self.version, self.resource, self.subresource
        )
    }
}
