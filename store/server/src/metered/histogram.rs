use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Buckets of etcd's disk histograms: from 1 ms, each twice the one before.
const BUCKETS: usize = 14;
const BUCKET_S_MIN: f64 = 0.001;

/// Durations by Prometheus' buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Not cumulated; the last one holds what is slower.
    counts: [AtomicU64; BUCKETS + 1],
    sum_us: AtomicU64,
}

fn bound_s(bucket: usize) -> f64 {
    BUCKET_S_MIN * f64::from(1_u32 << bucket)
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let took_s = took.as_secs_f64();
        let bucket = (0..BUCKETS).find(|bucket| took_s <= bound_s(*bucket)).unwrap_or(BUCKETS);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// In Prometheus' text form, under `name`, without labels of its own.
    pub fn write(&self, text: &mut String, name: &str) {
        let mut total = 0;
        // Writing to a String cannot fail.
        for (bucket, count) in self.counts.iter().enumerate() {
            total += count.load(Relaxed);
            let _ = match bucket {
                BUCKETS => writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {total}"),
                bucket => writeln!(text, "{name}_bucket{{le=\"{}\"}} {total}", bound_s(bucket)),
            };
        }
        let sum_s = Duration::from_micros(self.sum_us.load(Relaxed)).as_secs_f64();
        let _ = writeln!(text, "{name}_sum {sum_s}\n{name}_count {total}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulated_and_the_last_holds_all() {
        let histogram = Histogram::default();
        for ms in [0, 1, 3, 100_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut text = String::new();
        histogram.write(&mut text, "x");
        for line in [
            "x_bucket{le=\"0.001\"} 2",
            "x_bucket{le=\"0.004\"} 3",
            "x_bucket{le=\"8.192\"} 3",
            "x_bucket{le=\"+Inf\"} 4",
            "x_count 4",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
        }
    }
}
