//! Figures of a history: how long no write was acknowledged around each fault, and how soon after it one was.

use serde::{Deserialize, Serialize};

use crate::record::{Class, Line, NEMESIS};

/// A gap that began during a fault may outlast it by so much and is still its own.
const AFTERMATH_US: u64 = 10_000_000;

/// One fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultFigures {
    pub nemesis: String,
    pub told: String,
    pub start_us: u64,
    pub end_us: u64,
    /// The longest time without an acknowledged write that overlaps the fault.
    pub gap_us: u64,
    /// From the end of the fault to the next acknowledged write that was sent after it.
    pub recovery_us: Option<u64>,
}

/// One line for each fault, in the order of their starts.
pub fn faults(lines: &[Line]) -> Vec<FaultFigures> {
    let mut writes: Vec<(u64, u64)> =
        lines.iter().filter(|l| l.writes && l.class == Class::Ok).map(|l| (l.end_us, l.start_us)).collect();
    writes.sort_unstable();
    let mut figures: Vec<FaultFigures> =
        lines.iter().filter(|l| l.source == NEMESIS).map(|fault| of_fault(fault, &writes)).collect();
    figures.sort_by_key(|f| f.start_us);
    figures
}

fn of_fault(fault: &Line, writes: &[(u64, u64)]) -> FaultFigures {
    let ends = || writes.iter().map(|(end, _)| *end);
    let before = ends().take_while(|end| *end < fault.start_us).last().unwrap_or(fault.start_us);
    let until = fault.end_us + AFTERMATH_US;
    let mut last = before;
    let mut gap_us = 0;
    for end in ends().skip_while(|end| *end < fault.start_us).take_while(|end| *end < until) {
        // A gap that began only after the fault is not its own.
        if last <= fault.end_us {
            gap_us = gap_us.max(end - last);
        }
        last = end;
    }
    if last <= fault.end_us {
        gap_us = gap_us.max(fault.end_us - last);
    }
    let after = writes.iter().filter(|(_, sent)| *sent >= fault.end_us).map(|(end, _)| end - fault.end_us);
    FaultFigures {
        nemesis: fault.kind.clone(),
        told: fault.what["told"].as_str().unwrap_or_default().to_owned(),
        start_us: fault.start_us,
        end_us: fault.end_us,
        gap_us,
        recovery_us: after.min(),
    }
}

/// Per nemesis: times, median and maximum of the gaps, median and maximum of the recoveries, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub nemesis: String,
    pub times: usize,
    pub gap_us: (u64, u64),
    pub recovery_us: (u64, u64),
}

pub fn summaries(faults: &[FaultFigures]) -> Vec<Summary> {
    let mut names: Vec<&str> = faults.iter().map(|f| f.nemesis.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |mut values: Vec<u64>| {
        values.sort_unstable();
        (values.get(values.len() / 2).copied().unwrap_or(0), values.last().copied().unwrap_or(0))
    };
    names
        .into_iter()
        .map(|name| {
            let own: Vec<&FaultFigures> = faults.iter().filter(|f| f.nemesis == name).collect();
            Summary {
                nemesis: name.to_owned(),
                times: own.len(),
                gap_us: of(own.iter().map(|f| f.gap_us).collect()),
                recovery_us: of(own.iter().filter_map(|f| f.recovery_us).collect()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(source: &str, start_us: u64, end_us: u64) -> Line {
        crate::record::line(source, "kill", start_us, end_us)
    }

    #[test]
    fn a_gap_is_the_faults_that_it_overlaps() {
        let second = 1_000_000;
        let mut lines: Vec<Line> = (0..5).map(|i| line("w", i * second, i * second + 1)).collect();
        lines.push(line(NEMESIS, 4 * second + 2, 9 * second));
        lines.extend([line("w", 6 * second, 7 * second), line("w", 9 * second + 5, 10 * second)]);
        let figures = faults(&lines);
        assert_eq!(figures[0].gap_us, 3 * second);
        assert_eq!(figures[0].recovery_us, Some(second));
        // Without a write at all the fault's own length is the least.
        let alone = faults(&[line(NEMESIS, 0, 5 * second)]);
        assert_eq!((alone[0].gap_us, alone[0].recovery_us), (5 * second, None));
    }
}
