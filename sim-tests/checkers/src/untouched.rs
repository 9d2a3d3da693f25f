//! (18) While all masters are away, running pods run on: the very same processes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Violation;

/// The processes of each pod, as the machine shows them at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub at_us: u64,
    pub pods: BTreeMap<String, BTreeSet<String>>,
}

/// A time without masters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    pub start_us: u64,
    pub end_us: u64,
    /// Pods that may have been told to end before.
    pub leaving: BTreeSet<String>,
}

/// # Errors
/// A process that ran before and not during the time.
pub fn check(samples: &[Sample], away: &Away) -> Result<(), Violation> {
    let Some(before) = samples.iter().filter(|s| s.at_us < away.start_us).max_by_key(|s| s.at_us) else {
        return Ok(());
    };
    let during = samples.iter().filter(|s| s.at_us >= away.start_us && s.at_us <= away.end_us);
    for sample in during {
        for (pod, processes) in before.pods.iter().filter(|(pod, _)| !away.leaving.contains(*pod)) {
            let now = sample.pods.get(pod);
            if let Some(gone) = processes.iter().find(|p| now.is_none_or(|n| !n.contains(*p))) {
                let (at, since) = (sample.at_us, away.start_us);
                let story = format!("process {gone} of {pod} was gone at {at} us, without masters since {since} us");
                return Err(Violation::new("running pods untouched (18)", story));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_us: u64, processes: &[(&str, &str)]) -> Sample {
        let mut sample = Sample { at_us, ..Sample::default() };
        for (pod, process) in processes {
            sample.pods.entry((*pod).into()).or_default().insert((*process).into());
        }
        sample
    }

    #[test]
    fn a_process_that_ended_or_was_replaced_meanwhile_is_told() {
        let away = Away { start_us: 10, end_us: 20, leaving: BTreeSet::from(["c".to_owned()]) };
        let before = sample(5, &[("a", "1"), ("b", "2"), ("c", "3")]);
        let long_ago = sample(1, &[("gone", "9")]);
        let judge = |during: Sample| check(&[long_ago.clone(), before.clone(), during], &away);
        assert_eq!(judge(sample(15, &[("a", "1"), ("b", "2")])), Ok(()));
        assert!(judge(sample(15, &[("a", "1")])).is_err());
        assert!(judge(sample(15, &[("a", "1"), ("b", "4")])).is_err());
        assert_eq!(judge(sample(21, &[])), Ok(()), "the masters were back");
    }
}
