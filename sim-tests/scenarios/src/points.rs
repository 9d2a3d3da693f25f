//! Decides at the product's fault points, and counts what was reached and seen.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use keelstone_env::{
    fault::{FaultPoints, Point, Sight},
    Random,
};
use keelstone_world::SeededRandom;

use crate::simulation::{Shared, Stage};

/// Pauses are mostly short; one in so many is long, at some points one in fewer.
const LONG_ONE_IN: [u64; 3] = [60, 60, 8];
const PAUSE_US_MAX: u64 = 6_000;
const LONG_PAUSE_MS_MAX: u64 = 900;

/// The seed's decisions at fault points.
#[derive(Clone)]
pub struct Points(Rc<State>);

struct State {
    random: SeededRandom,
    active: BTreeMap<Point, Active>,
    /// How often, of 100 times, a task that could go on lets others overtake it.
    overtake_percent: u64,
    /// Once it is healed nothing strikes any more: an informer that resumes at every second event never keeps up with what it is sent.
    shared: Shared,
    counts: RefCell<Counts>,
}

#[derive(Clone, Copy)]
struct Active {
    /// How often, of 100 times, it does something.
    share: u64,
    long_one_in: u64,
}

#[derive(Default)]
struct Counts {
    reached: BTreeMap<&'static str, u64>,
    sights: BTreeMap<&'static str, u64>,
    /// Until when (simulated time) some watcher is catching up.
    catching_up_until: Duration,
}

impl Points {
    /// `percent` of the points, drawn from the seed, do something; tasks are overtaken `overtake_percent` of the times. Only the latter goes on once the world is healed.
    pub fn new(seed: u64, percent: u64, overtake_percent: u64, shared: Shared) -> Self {
        let random = SeededRandom::derive(seed, "points");
        let mut active = BTreeMap::new();
        for point in Point::ALL {
            let one_of = |values: [u64; 3]| values[random.below(3) as usize];
            let (chosen, share, long_one_in) = (random.chance(percent), one_of([50, 10, 2]), one_of(LONG_ONE_IN));
            if chosen {
                active.insert(*point, Active { share, long_one_in });
            }
        }
        Self(Rc::new(State { random, active, overtake_percent, shared, counts: RefCell::default() }))
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
        let active = self.0.active.get(&point).filter(|_| self.0.shared.stage() != Stage::Healed);
        active.is_some_and(|active| self.0.random.chance(active.share))
    }

    /// Mostly short, sometimes long.
    fn draw_pause(&self, point: Point) -> Duration {
        let random = &self.0.random;
        let long_one_in = self.0.active.get(&point).map_or(LONG_ONE_IN[0], |active| active.long_one_in);
        if random.below(long_one_in) == 0 {
            Duration::from_millis(random.below(LONG_PAUSE_MS_MAX))
        } else {
            Duration::from_micros(random.below(PAUSE_US_MAX))
        }
    }
}

impl FaultPoints for Points {
    fn pause(&self, point: Point) -> Duration {
        let pause = if self.strikes(point) { self.draw_pause(point) } else { Duration::ZERO };
        let end = turmoil::sim_elapsed().unwrap_or_default() + pause;
        let mut counts = self.0.counts.borrow_mut();
        match point {
            // It reads after its pause, in the same step of simulated time or later.
            Point::WatchCatchUp => counts.catching_up_until = counts.catching_up_until.max(end),
            Point::CompactStep if counts.catching_up_until >= end => {
                *counts.sights.entry(Sight::CompactionBesideWatcher.name()).or_default() += 1;
            }
            _ => {}
        }
        pause
    }

    fn rare(&self, point: Point) -> bool {
        self.strikes(point)
    }

    fn overtake(&self) -> bool {
        self.0.overtake_percent > 0 && self.0.random.chance(self.0.overtake_percent)
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
        let points = Points::new(1, 0, 0, Shared::default());
        assert!(Point::ALL.iter().all(|point| !points.rare(*point) && points.pause(*point).is_zero()));
        let (reached, _) = points.counts();
        assert_eq!(reached.len(), Point::ALL.len());
        assert!(reached.values().all(|count| *count == 2));
        let points = Points::new(1, 100, 0, Shared::default());
        assert!((0..100).any(|_| points.rare(Point::ApplyOne)));
    }

    #[test]
    fn nothing_strikes_in_a_healed_world() {
        let shared = Shared::default();
        let points = Points::new(1, 100, 0, shared.clone());
        let strikes = || (0..100).any(|_| points.rare(Point::Flush) || !points.pause(Point::Flush).is_zero());
        assert!(strikes());
        shared.set_stage(Stage::Healed);
        assert!(!strikes());
    }
}
