//! (19) A silent node becomes NotReady after its grace period and never before; its pods are evicted after their
//! toleration and never before; both soon enough while nothing else is wrong.
//!
//! Moments are known as windows: between the last that came certainly before and the first that came certainly after.

use crate::Violation;

const INVARIANT: &str = "node and eviction times (19)";

/// A moment that lies between two. 0 and `u64::MAX`: nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub after_us: u64,
    pub before_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The node's agent renewed its lease or told its state.
    Alive,
    /// The control plane says that the node is silent.
    Silent,
    /// The node itself says that it is not ready.
    Unready,
    /// It is back.
    Back,
    /// A pod of it that nobody else deletes was deleted.
    Evicted { pod: String },
}

/// What happened to one node, in the order of revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub node: String,
    pub what: What,
    pub at: Window,
}

/// A loss of a worker that nothing else disturbed, by the suite's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub node: String,
    /// What ran on it.
    pub pods: Vec<String>,
    pub start_us: u64,
    pub end_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub grace_us: u64,
    pub toleration_us: u64,
    /// How much later than that is still soon enough.
    pub slack_us: u64,
    /// An eviction that was under way when the node came back may still happen for so long.
    pub race_us: u64,
}

/// # Errors
/// The first change that came too early, or did not come in time.
pub fn check(changes: &[Change], losses: &[Loss], bounds: Bounds) -> Result<(), Violation> {
    let nodes: std::collections::BTreeSet<&str> = changes.iter().map(|c| c.node.as_str()).collect();
    for node in nodes {
        let own: Vec<&Change> = changes.iter().filter(|c| c.node == node).collect();
        never_early(&own, bounds)?;
    }
    losses.iter().try_for_each(|loss| soon_enough(loss, changes, bounds))
}

/// Everything of one node, in order.
fn never_early(own: &[&Change], bounds: Bounds) -> Result<(), Violation> {
    let (mut alive, mut silent): (Option<&Change>, Option<&Change>) = (None, None);
    let mut back: Option<&Change> = None;
    for change in own {
        let too_early = |since: &Change, bound_us: u64| {
            // Even if the one came as early and the other as late as it can have.
            since.at.after_us > 0
                && change.at.before_us != u64::MAX
                && change.at.before_us < since.at.after_us.saturating_add(bound_us)
        };
        match &change.what {
            What::Alive => alive = Some(change),
            What::Back => back = Some(change),
            What::Unready => (silent, back) = (silent.filter(|_| back.is_none()).or(Some(change)), None),
            What::Silent => {
                if let Some(alive) = alive.filter(|a| too_early(a, bounds.grace_us)) {
                    return Err(Violation::new(INVARIANT, format!("{change:?} within the grace of {alive:?}")));
                }
                (silent, back) = (silent.filter(|_| back.is_none()).or(Some(change)), None);
            }
            What::Evicted { .. } => match silent {
                None => return Err(Violation::new(INVARIANT, format!("{change:?}, and its node was not silent"))),
                Some(silent) if too_early(silent, bounds.toleration_us) => {
                    let story = format!("{change:?} within the toleration of {silent:?}");
                    return Err(Violation::new(INVARIANT, story));
                }
                Some(_) => {
                    let late = |b: &&Change| change.at.after_us > b.at.before_us.saturating_add(bounds.race_us);
                    if let Some(back) = back.filter(late) {
                        return Err(Violation::new(INVARIANT, format!("{change:?}, and its node was back: {back:?}")));
                    }
                }
            },
        }
    }
    Ok(())
}

fn soon_enough(loss: &Loss, changes: &[Change], bounds: Bounds) -> Result<(), Violation> {
    let due_us = loss.start_us + bounds.grace_us + bounds.slack_us;
    if loss.end_us < due_us {
        return Ok(());
    }
    let of = |c: &&Change| c.node == loss.node && c.what == What::Silent && c.at.before_us > loss.start_us;
    if changes.iter().filter(of).all(|c| c.at.after_us > due_us) {
        return Err(Violation::new(INVARIANT, format!("{loss:?}, and the node was not NotReady by {due_us} us")));
    }
    let due_us = due_us + bounds.toleration_us;
    for pod in loss.pods.iter().filter(|_| loss.end_us >= due_us) {
        let evicted = What::Evicted { pod: pod.clone() };
        if !changes.iter().any(|c| c.what == evicted && c.at.after_us <= due_us) {
            return Err(Violation::new(INVARIANT, format!("{loss:?}, and {pod} was not evicted by {due_us} us")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { grace_us: 80, toleration_us: 50, slack_us: 30, race_us: 10 };

    fn change(what: What, after_us: u64, before_us: u64) -> Change {
        Change { node: "w".into(), what, at: Window { after_us, before_us } }
    }

    fn evicted(after_us: u64, before_us: u64) -> Change {
        change(What::Evicted { pod: "p".into() }, after_us, before_us)
    }

    fn judge(changes: &[Change], end_us: u64) -> bool {
        let loss = Loss { node: "w".into(), pods: vec!["p".into()], start_us: 105, end_us };
        check(changes, &[loss], BOUNDS).is_ok()
    }

    #[test]
    fn what_may_have_come_in_time_is_accepted() {
        let right = [
            change(What::Alive, 90, 110),
            change(What::Silent, 185, 200),
            evicted(230, 260),
            change(What::Back, 300, 310),
        ];
        assert!(judge(&right, 400));
        assert!(judge(&[change(What::Alive, 0, 110), change(What::Silent, 60, 79)], 100), "nobody knows since when");
        // It is not known when the sign of life came, within 20: perhaps early enough.
        assert!(judge(&[change(What::Alive, 90, 110), change(What::Silent, 160, 171)], 150));
    }

    #[test]
    fn too_early_too_late_and_for_no_reason_are_told() {
        assert!(!judge(&[change(What::Alive, 90, 110), change(What::Silent, 150, 169)], 150));
        let silent = change(What::Silent, 185, 200);
        assert!(!judge(&[silent.clone(), evicted(220, 234)], 150));
        assert!(!judge(&[evicted(220, 234)], 150));
        assert!(!judge(&[silent, change(What::Back, 200, 201), evicted(300, 310)], 150), "it was back");
        assert!(!judge(&[change(What::Silent, 216, 230)], 400), "too late");
        assert!(!judge(&[change(What::Silent, 190, 200)], 400), "and the pod stays");
        assert!(judge(&[change(What::Silent, 190, 200), evicted(250, 260)], 400));
        assert!(!judge(&[], 400), "never");
        assert!(judge(&[], 200), "not lost for long enough");
    }
}
