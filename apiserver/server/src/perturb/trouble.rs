use std::time::Duration;

use keelstone_machinery::status::ApiStatus;

use super::plan::Effect;
use crate::constants::RETRY_AFTER_S;

/// What becomes of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    pub delay: Duration,
    pub throttle: bool,
    pub fail: bool,
    pub gone: bool,
    pub fail_after_commit: bool,
    /// How old an answer may be that is allowed to be old.
    pub stale: Duration,
    pub hold: Duration,
    pub pause: Duration,
    pub drop_after: Option<Duration>,
}

impl Trouble {
    pub fn add(&mut self, effect: Effect, time: Duration) {
        match effect {
            Effect::Delay => self.delay += time,
            Effect::Stale => self.stale = self.stale.max(time),
            Effect::Hold => self.hold += time,
            Effect::Slow => self.pause += time,
            Effect::Drop => self.drop_after = Some(self.drop_after.map_or(time, |before| before.min(time))),
            Effect::Gone => self.gone = true,
            Effect::Throttle => self.throttle = true,
            Effect::Fail => self.fail = true,
            Effect::FailAfterCommit => self.fail_after_commit = true,
        }
    }

    /// The answer of a request that is not done. `has_position`: it goes on from a resourceVersion or a
    /// continue token, which may have been compacted.
    pub fn refusal(&self, has_position: bool) -> Option<ApiStatus> {
        if self.throttle {
            return Some(ApiStatus::too_many_requests("Too many requests, please try again later.", RETRY_AFTER_S));
        }
        if self.fail {
            return Some(ApiStatus::internal("perturbed: nothing was done"));
        }
        (self.gone && has_position).then(expired)
    }

    /// The answer of a write that was done.
    pub fn lost_answer(&self) -> Option<ApiStatus> {
        let text = "Timeout: request did not complete within requested timeout - context deadline exceeded";
        self.fail_after_commit.then(|| ApiStatus::new(504, "Timeout", text))
    }
}

/// What a client is told whose place in history is gone.
fn expired() -> ApiStatus {
    ApiStatus::expired("perturbed: the requested history has been compacted")
}
