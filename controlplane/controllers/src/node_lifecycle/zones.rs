use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use keelstone_client::Object;
use tokio::time::Instant;

/// How many of a zone's nodes are healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub ready: usize,
    pub not_ready: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Normal,
    /// Many nodes are away at once: rather the network's fault than theirs.
    Partial,
    /// No node is ready.
    Full,
}

/// The rates at which nodes may be tainted for eviction, in nodes per second.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    pub normal: f64,
    /// In a zone with many nodes away, if it is large.
    pub secondary: f64,
    /// A zone of at most this many nodes with many away is left alone.
    pub large_zone_nodes_min: usize,
    /// From this part on, many nodes are away.
    pub unhealthy_zone: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { normal: 0.1, secondary: 0.01, large_zone_nodes_min: 50, unhealthy_zone: 0.55 }
    }
}

/// The zone of a node; all without one are in the same.
pub fn of(node: &Node) -> String {
    let label = |key: &str| node.label(key).unwrap_or_default();
    format!("{}:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

impl Count {
    #[allow(clippy::cast_precision_loss)]
    pub fn state(self, rates: &Rates) -> State {
        let all = self.ready + self.not_ready;
        if self.ready == 0 && self.not_ready > 0 {
            State::Full
        } else if self.not_ready > 2 && self.not_ready as f64 / all as f64 >= rates.unhealthy_zone {
            State::Partial
        } else {
            State::Normal
        }
    }

    /// Nodes per second that may be tainted in this zone; 0 for none.
    pub fn rate(self, rates: &Rates) -> f64 {
        match self.state(rates) {
            State::Normal | State::Full => rates.normal,
            State::Partial if self.ready + self.not_ready > rates.large_zone_nodes_min => rates.secondary,
            State::Partial => 0.0,
        }
    }
}

/// Lets one through at once, and the next after the rate's interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limiter {
    next: Option<Instant>,
}

impl Limiter {
    pub fn allow(&mut self, now: Instant, rate: f64) -> bool {
        if rate <= 0.0 || self.next.is_some_and(|next| now < next) {
            return false;
        }
        // A rate so small that its interval is beyond a year counts as one a year.
        let interval_s = (1.0 / rate).min(31_536_000.0);
        self.next = Some(now + Duration::from_secs_f64(interval_s));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_rates() {
        let rates = Rates::default();
        let count = |ready, not_ready| Count { ready, not_ready };
        assert_eq!(count(2, 1).state(&rates), State::Normal);
        assert_eq!(count(0, 1).state(&rates), State::Full);
        assert_eq!(count(0, 0).state(&rates), State::Normal);
        assert_eq!(count(1, 2).state(&rates), State::Normal);
        assert_eq!(count(2, 3).state(&rates), State::Partial);
        assert_eq!(count(2, 3).rate(&rates), 0.0);
        assert_eq!(count(20, 30).rate(&rates), 0.0);
        assert_eq!(count(20, 31).rate(&rates), 0.01);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limiter_waits_for_its_interval() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        assert!(!limiter.allow(start, 0.0));
        assert!(limiter.allow(start, 0.1));
        assert!(!limiter.allow(start + Duration::from_millis(9_999), 0.1));
        assert!(limiter.allow(start + Duration::from_secs(10), 0.1));
    }
}
