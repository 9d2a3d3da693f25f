//! A part that is restarted again and again and remembers how much it had seen, as the node that runs its pods does.
//! (8) What it starts with is never older, whichever API server it asks first: it acts on that.

use std::time::Duration;

use keelstone_checkers::rewind::Newest;
use keelstone_client::{Informer, InformerOptions};
use keelstone_env::Random;
use keelstone_machinery::gvk::GroupVersionResource;

use super::{Scenario, MASTERS};
use crate::simulation::Stage;

/// It lives for up to this.
const LIFE_MS_MAX: u64 = 2_500;
const LOOK_INTERVAL: Duration = Duration::from_millis(40);

pub async fn run(scenario: Scenario) {
    let random = scenario.random("restarts");
    let mut newest = Newest::default();
    while scenario.shared.stage() == Stage::Load {
        let client = scenario.user(random.below(MASTERS as u64) as usize);
        let maps = client.dynamic(&GroupVersionResource::new("", "v1", "configmaps"));
        let informer = Informer::spawn(maps, InformerOptions::default());
        let end = tokio::time::Instant::now() + Duration::from_millis(random.below(LIFE_MS_MAX));
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(LOOK_INTERVAL).await;
            // Nothing yet is no state.
            let version = informer.store().version() as i64;
            if version > 0 {
                if let Err(violation) = newest.observe("a part that was restarted", version) {
                    scenario.shared.violated(violation);
                }
            }
        }
    }
}
