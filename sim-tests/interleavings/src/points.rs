use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use keelstone_env::{
    fault::{FaultPoints, Point, Sight},
    Random,
};
use keelstone_world::SeededRandom;

use crate::constants::POINT_PAUSE_US_MAX;

/// The seed's decisions at the product's fault points. The order of tasks is madsim's.
pub struct Points {
    random: SeededRandom,
    /// How often, of 100 times, something happens at a point.
    percent: u64,
    sights: RefCell<BTreeMap<&'static str, u64>>,
}

impl Points {
    pub fn new(seed: u64) -> Rc<Self> {
        let random = SeededRandom::derive(seed, "points");
        let percent = [0, 2, 20][random.below(3) as usize];
        Rc::new(Self { random, percent, sights: RefCell::default() })
    }

    /// How often each sight was seen.
    pub fn sights(&self) -> BTreeMap<&'static str, u64> {
        self.sights.borrow().clone()
    }
}

impl FaultPoints for Points {
    fn pause(&self, _: Point) -> Duration {
        match self.random.chance(self.percent) {
            true => Duration::from_micros(self.random.below(POINT_PAUSE_US_MAX)),
            false => Duration::ZERO,
        }
    }

    fn rare(&self, _: Point) -> bool {
        self.random.chance(self.percent)
    }

    fn sight(&self, sight: Sight) {
        *self.sights.borrow_mut().entry(sight.name()).or_default() += 1;
    }
}
