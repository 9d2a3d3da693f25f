//! When which fault strikes whom: made from a seed before the run, kept in a file, and played again on another target.

use std::{path::Path, time::Duration};

use keelstone_chaos_bed::{Failure, Outcome};
use rand::{rngs::SmallRng, seq::SliceRandom, Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Whom a fault strikes. Who leads is found out when it strikes, so that one schedule fits every target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Victim {
    Leader,
    Follower(usize),
    Member(usize),
    Everyone,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub nemesis: String,
    pub victim: Victim,
    /// From the start of the run.
    pub at_ms: u64,
    pub length_ms: u64,
    /// Seed of whatever else the nemesis chooses.
    pub dice: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub seed: u64,
    pub members: usize,
    pub duration_ms: u64,
    /// One lane after the other in time; faults of two lanes overlap.
    pub lanes: Vec<Vec<Fault>>,
}

/// A nemesis as the plan sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub name: String,
    /// It gets no company.
    pub alone: bool,
    /// It gets no company of its like.
    pub takes_filesystem: bool,
    pub length_ms_min: u64,
}

/// Before the first fault, to see the cluster at rest.
const QUIET_MS: u64 = 3_000;
const LENGTH_MS: std::ops::Range<u64> = 3_000..9_000;
const PAUSE_MS: std::ops::Range<u64> = 3_000..7_000;

impl Schedule {
    /// Each of `nemeses` strikes before one strikes again. `overlap` adds a second lane.
    pub fn plan(seed: u64, members: usize, duration: Duration, nemeses: &[Planned], overlap: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let first = lane(&mut rng, members, duration_ms, nemeses);
        let mut lanes = vec![first];
        if overlap {
            let company: Vec<Planned> = nemeses.iter().filter(|n| !n.alone).cloned().collect();
            let second = lane(&mut rng, members, duration_ms, &company);
            let is =
                |fault: &Fault, what: fn(&Planned) -> bool| nemeses.iter().any(|n| what(n) && n.name == fault.nemesis);
            let takes_filesystem = |fault: &Fault| is(fault, |n| n.takes_filesystem);
            let bears = |first: &Fault, other: &Fault| {
                let apart = ends(first) < other.at_ms || ends(other) < first.at_ms;
                let shared = takes_filesystem(first) && takes_filesystem(other);
                apart || !(is(first, |n| n.alone) || shared)
            };
            let second = second.into_iter().filter(|other| lanes[0].iter().all(|first| bears(first, other))).collect();
            lanes.push(second);
        }
        Self { seed, members, duration_ms, lanes }
    }

    /// # Errors
    /// The file cannot be read, or is none.
    pub fn load(file: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(file)?;
        serde_json::from_str(&text).map_err(|e| Failure::impossible(format!("{}: {e}", file.display())))
    }

    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, file: &Path) -> Outcome<()> {
        Ok(std::fs::write(file, serde_json::to_string_pretty(self).unwrap_or_default())?)
    }

    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.duration_ms)
    }
}

/// Faults that act while they start (a strobe, a rolling restart) may last longer.
fn ends(fault: &Fault) -> u64 {
    fault.at_ms + fault.length_ms + PAUSE_MS.start
}

fn lane(rng: &mut SmallRng, members: usize, duration_ms: u64, nemeses: &[Planned]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut bag: Vec<&Planned> = Vec::new();
    let mut at_ms = QUIET_MS;
    while !nemeses.is_empty() {
        let length_ms = rng.random_range(LENGTH_MS);
        if bag.is_empty() {
            bag = nemeses.iter().collect();
            bag.shuffle(rng);
        }
        let Some(nemesis) = bag.pop() else { break };
        let length_ms = length_ms.max(nemesis.length_ms_min);
        if at_ms + length_ms + QUIET_MS > duration_ms {
            break;
        }
        let victim = match rng.random_range(0..4) {
            0 | 1 => Victim::Leader,
            2 => Victim::Follower(rng.random_range(0..members.max(2) - 1)),
            _ => Victim::Member(rng.random_range(0..members.max(1))),
        };
        faults.push(Fault { nemesis: nemesis.name.clone(), victim, at_ms, length_ms, dice: rng.random() });
        at_ms += length_ms + rng.random_range(PAUSE_MS);
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names; a capital one is alone, one with a `/` takes the filesystem.
    fn planned(list: &[&str]) -> Vec<Planned> {
        let alone = |name: &str| name.starts_with(char::is_uppercase);
        let one = |n: &&str| Planned {
            name: (*n).to_owned(),
            alone: alone(n),
            takes_filesystem: n.contains('/'),
            length_ms_min: if alone(n) { 20_000 } else { 0 },
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn a_seed_is_a_schedule_and_every_nemesis_has_its_turn() {
        let plan = |seed| Schedule::plan(seed, 3, Duration::from_secs(120), &planned(&["a", "b", "c"]), false);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let mut first: Vec<String> = plan(7).lanes[0].iter().take(3).map(|f| f.nemesis.clone()).collect();
        first.sort();
        assert_eq!(first, ["a", "b", "c"]);
        assert!(plan(7).lanes[0].iter().all(|f| f.at_ms + f.length_ms < 120_000));
    }

    #[test]
    fn who_must_be_alone_gets_no_company_and_its_time() {
        let plan = Schedule::plan(3, 3, Duration::from_secs(900), &planned(&["a", "Lonely"]), true);
        let [first, second] = &plan.lanes[..] else { panic!("two lanes") };
        assert!(!second.is_empty() && second.iter().all(|f| f.nemesis == "a"));
        for lonely in first.iter().filter(|f| f.nemesis == "Lonely") {
            assert!(lonely.length_ms >= 20_000);
            assert!(second.iter().all(|f| ends(lonely) < f.at_ms || ends(f) < lonely.at_ms));
        }
    }

    #[test]
    fn a_filesystem_is_taken_by_one_at_a_time() {
        let plan = Schedule::plan(5, 3, Duration::from_secs(900), &planned(&["a", "/full", "/power"]), true);
        let [first, second] = &plan.lanes[..] else { panic!("two lanes") };
        let of = |lane: &[Fault]| lane.iter().filter(|f| f.nemesis.starts_with('/')).cloned().collect::<Vec<_>>();
        assert!(!of(second).is_empty());
        for fault in of(first) {
            assert!(of(second).iter().all(|other| ends(&fault) < other.at_ms || ends(other) < fault.at_ms));
        }
        let met = |f: &Fault| {
            second.iter().any(|other| other.at_ms < f.at_ms + f.length_ms && f.at_ms < other.at_ms + other.length_ms)
        };
        assert!(of(first).iter().any(met), "others keep it company");
    }

    #[test]
    fn a_schedule_survives_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let plan = Schedule::plan(3, 3, Duration::from_secs(60), &planned(&["a"]), true);
        plan.save(file.path()).unwrap();
        assert_eq!(Schedule::load(file.path()).unwrap(), plan);
    }
}
