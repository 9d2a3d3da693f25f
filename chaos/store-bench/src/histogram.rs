//! Latencies, counted in buckets of 1.6 % width.

use std::time::Duration;

const SUB_BITS: u32 = 6;
const SUBS: usize = 1 << SUB_BITS;

/// Counts of microseconds. Buckets are exact below 64 us; above, each power of two is split in 64.
///
/// Example: 1000 us lies in 512..1024, whose buckets are 8 us wide: bucket 992..1000 or 1000..1008.
#[derive(Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

impl Histogram {
    pub fn add(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX >> 1);
        let at = bucket(us);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.total += 1;
        self.max_us = self.max_us.max(us);
    }

    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
        self.max_us = self.max_us.max(other.max_us);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1e3
    }

    /// The latency in milliseconds that a share (0 to 1) of all calls did not exceed; 0 without calls.
    pub fn at_ms(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return lower_bound(at + 1).min(self.max_us.max(1)) as f64 / 1e3;
            }
        }
        0.0
    }
}

fn bucket(us: u64) -> usize {
    let power = (64 - us.leading_zeros()).saturating_sub(SUB_BITS + 1);
    (power as usize) * SUBS + (us >> power) as usize
}

/// The least number of microseconds that bucket `at` counts.
fn lower_bound(at: usize) -> u64 {
    if at < 2 * SUBS {
        return at as u64;
    }
    let power = at / SUBS - 1;
    ((at % SUBS + SUBS) as u64) << power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_lies_between_their_bounds() {
        for us in (0..5_000).chain([65_535, 65_536, 1_000_000, 123_456_789]) {
            let at = bucket(us);
            assert!(lower_bound(at) <= us && us < lower_bound(at + 1), "{us} is not in bucket {at}");
            assert!(lower_bound(at + 1) - lower_bound(at) <= 1 + us / 32);
        }
    }

    #[test]
    fn quantiles_are_found_and_merge() {
        let mut all = Histogram::default();
        for half in [1..=500_u64, 501..=1_000] {
            let mut one = Histogram::default();
            half.for_each(|ms| one.add(Duration::from_millis(ms)));
            all.merge(&one);
        }
        assert_eq!(all.total(), 1_000);
        assert!((all.at_ms(0.5) - 500.0).abs() < 20.0, "{}", all.at_ms(0.5));
        assert!((all.at_ms(0.99) - 990.0).abs() < 40.0);
        assert!((all.max_ms() - 1_000.0).abs() < 1.0);
        assert_eq!(Histogram::default().at_ms(0.99), 0.0);
    }
}
