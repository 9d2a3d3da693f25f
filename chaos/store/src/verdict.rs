//! Judges a history, and nothing but the history.

use std::{collections::BTreeMap, sync::Arc};

use keelstone_checkers::{Event, Violation};
use serde::{Deserialize, Serialize};

use crate::{
    ending::STORE,
    record::{Class, Line, NEMESIS},
    workloads::Workload,
};

/// One check: what was asked, and what came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    /// `None`: it held.
    pub violation: Option<String>,
    /// Operations by outcome: acknowledged, failed, unknown.
    pub counts: [usize; 3],
}

/// What a run says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub checks: Vec<Check>,
    /// Why it says too little.
    pub inconclusive: Vec<String>,
}

impl Verdict {
    pub fn violated(&self) -> bool {
        self.checks.iter().any(|c| c.violation.is_some())
    }

    /// 0 held, 1 violated, 2 inconclusive.
    pub fn exit_code(&self) -> u8 {
        match (self.violated(), self.inconclusive.is_empty()) {
            (true, _) => 1,
            (false, true) => 0,
            (false, false) => 2,
        }
    }

    /// In one word.
    pub fn word(&self) -> &'static str {
        match self.exit_code() {
            0 => "held",
            1 => "violated",
            _ => "inconclusive",
        }
    }
}

/// Every check over the lines of `workloads`.
pub fn judge(lines: &[Line], workloads: &[Arc<dyn Workload>]) -> Verdict {
    let mut verdict = Verdict::default();
    let logs = logs(lines);
    let log = logs.as_ref().ok().and_then(|logs| logs.values().next().cloned()).unwrap_or_default();
    verdict.checks.push(check("equal logs of all members (4)", logs.and_then(|logs| equal_logs(&logs)), [0; 3]));
    verdict.checks.push(check("equal states of all members (4)", equal_hashes(lines), [0; 3]));
    if log.is_empty() {
        verdict.inconclusive.push("no member told its log at the end".into());
    }
    for workload in workloads {
        let own: Vec<&Line> = lines.iter().filter(|l| l.source == workload.name()).collect();
        let of = |class| own.iter().filter(|l| l.class == class).count();
        let counts = [of(Class::Ok), of(Class::Failed), of(Class::Unknown)];
        let sources = workload.sources();
        let wanted: Vec<&Line> = lines.iter().filter(|l| sources.contains(&l.source.as_str())).collect();
        verdict.checks.push(check(workload.name(), workload.check(&wanted, &log), counts));
        if counts[0] < workload.acknowledged_min() {
            verdict.inconclusive.push(format!("only {} acknowledged operations of {}", counts[0], workload.name()));
        }
    }
    if !lines.iter().any(|l| l.source == NEMESIS) {
        verdict.inconclusive.push("no fault struck".into());
    }
    verdict
}

fn check(name: &str, held: Result<(), Violation>, counts: [usize; 3]) -> Check {
    Check { name: name.to_owned(), violation: held.err().map(|v| v.to_string()), counts }
}

type Logs<'a> = BTreeMap<&'a str, Vec<Event>>;

fn logs(lines: &[Line]) -> Result<Logs<'_>, Violation> {
    let told = lines.iter().filter(|l| l.source == STORE && l.kind == "log");
    told.map(|l| Ok((l.host.as_str(), l.read().map_err(|e| Violation::new("history", e))?))).collect()
}

fn equal_logs(logs: &Logs<'_>) -> Result<(), Violation> {
    let mut all = logs.iter();
    let Some((first, log)) = all.next() else { return Ok(()) };
    for (other, theirs) in all {
        let at = log.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or(log.len().min(theirs.len()));
        if (log.len(), at) != (theirs.len(), log.len()) {
            let story = format!("change {at}: {first} has {:?}, {other} has {:?}", log.get(at), theirs.get(at));
            return Err(Violation::new("equal logs (4)", story));
        }
    }
    Ok(())
}

#[derive(Deserialize, PartialEq, Debug)]
struct Hash {
    revision: i64,
    hash: u32,
}

fn equal_hashes(lines: &[Line]) -> Result<(), Violation> {
    let mut first: Option<(&str, Hash)> = None;
    for line in lines.iter().filter(|l| l.source == STORE && l.kind == "hash") {
        let hash: Hash = line.read().map_err(|e| Violation::new("history", e))?;
        match &first {
            None => first = Some((&line.host, hash)),
            Some((_, known)) if *known == hash => {}
            Some((other, known)) => {
                let story = format!("{other} has {known:?}, {} has {hash:?}", line.host);
                return Err(Violation::new("equal state (4)", story));
            }
        }
    }
    Ok(())
}
