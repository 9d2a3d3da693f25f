//! Decides at the product's fault points, and counts what was reached and seen.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use keelstone_env::{
    fault::{FaultPoints, Point, Sight},
    Random,
};
use keelstone_world::SeededRandom;

/// Pauses are mostly short; one in so many is long.
const LONG_ONE_IN: u64 = 60;
const PAUSE_US_MAX: u64 = 6_000;
const LONG_PAUSE_MS_MAX: u64 = 900;

/// The seed's decisions at fault points.
#[derive(Clone)]
pub struct Points(Rc<State>);

struct State {
    random: SeededRandom,
    /// How often, of 100 times, each active point does something.
    active: BTreeMap<Point, u64>,
    counts: RefCell<Counts>,
}

#[derive(Default)]
struct Counts {
    reached: BTreeMap<&'static str, u64>,
    sights: BTreeMap<&'static str, u64>,
    /// Until when (simulated time) some watcher is catching up.
    catching_up_until: Duration,
}

impl Points {
    /// `percent` of the points, drawn from the seed, do something.
    pub fn new(seed: u64, percent: u64) -> Self {
        let random = SeededRandom::derive(seed, "points");
        let mut active = BTreeMap::new();
        for point in Point::ALL {
            let (chosen, share) = (random.chance(percent), [50, 10, 2][random.below(3) as usize]);
            if chosen {
                active.insert(*point, share);
            }
        }
        Self(Rc::new(State { random, active, counts: RefCell::default() }))
    }

    pub fn install(&self) -> keelstone_env::fault::Installed {
        keelstone_env::fault::install(Rc::new(self.clone()))
    }

    /// How often each point was reached, and each sight seen.
    pub fn counts(&self) -> (BTreeMap<&'static str, u64>, BTreeMap<&'static str, u64>) {
        let counts = self.0.counts.borrow();
        (counts.reached.clone(), counts.sights.clone())
    }

    /// Counts the point; true if it does something this time.
    fn strikes(&self, point: Point) -> bool {
        *self.0.counts.borrow_mut().reached.entry(point.name()).or_default() += 1;
        self.0.active.get(&point).is_some_and(|share| self.0.random.chance(*share))
    }
}

impl FaultPoints for Points {
    fn pause(&self, point: Point) -> Duration {
        if !self.strikes(point) {
            return Duration::ZERO;
        }
        let random = &self.0.random;
        let pause = if random.below(LONG_ONE_IN) == 0 {
            Duration::from_millis(random.below(LONG_PAUSE_MS_MAX))
        } else {
            Duration::from_micros(random.below(PAUSE_US_MAX))
        };
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let mut counts = self.0.counts.borrow_mut();
        match point {
            Point::WatchCatchUp => counts.catching_up_until = counts.catching_up_until.max(now + pause),
            Point::CompactStep if counts.catching_up_until > now => {
                *counts.sights.entry(Sight::CompactionBesideWatcher.name()).or_default() += 1;
            }
            _ => {}
        }
        pause
    }

    fn rare(&self, point: Point) -> bool {
        self.strikes(point)
    }

    fn sight(&self, sight: Sight) {
        *self.0.counts.borrow_mut().sights.entry(sight.name()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_point_strikes_at_nought_percent_and_all_are_counted() {
        let points = Points::new(1, 0);
        assert!(Point::ALL.iter().all(|point| !points.rare(*point) && points.pause(*point).is_zero()));
        let (reached, _) = points.counts();
        assert_eq!(reached.len(), Point::ALL.len());
        assert!(reached.values().all(|count| *count == 2));
        let points = Points::new(1, 100);
        assert!((0..100).any(|_| points.rare(Point::ApplyOne)));
    }
}
