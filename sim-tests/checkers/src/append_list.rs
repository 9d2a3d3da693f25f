//! (2) Transactions are strict-serializable, by Elle's inference (Kingsbury and Alvaro, VLDB 2020): clients append unique
//! elements to lists and read whole lists, so that a list tells the order of its writers. Who must come before whom
//! makes a graph; a cycle in it is an anomaly, named after Adya (2000).
//!
//! Worked example. T1 appends 1 to x; T2 appends 2 to x; a reader saw x = [1, 2]: T1 comes before T2 (ww), T2 before
//! the reader (wr). Another saw x = [1]: it comes before T2 (rw), because it did not see 2. If that reader began after
//! T2 had ended (rt), it is on a cycle of one rw edge: a stale read, `G-single-realtime`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{graph::Graph, Ending, Violation};

const INVARIANT: &str = "append lists (2)";

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Every element is appended to its key once in a history.
    Append { key: String, element: u64 },
    /// `list` is what was read; it means something only if the transaction ended well.
    Read { key: String, list: Vec<u64> },
}

/// A transaction with its times, of one clock for all clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    pub client: u32,
    pub start_us: u64,
    pub end_us: u64,
    pub steps: Vec<Step>,
    pub ending: Ending,
}

type Element = (String, u64);

/// # Errors
/// The first anomaly, with its name and the transactions on its cycle.
pub fn check(txns: &[Txn]) -> Result<(), Violation> {
    let facts = Facts::gather(txns)?;
    let graph = facts.graph();
    let Some((name, cycle)) = graph.anomaly() else { return Ok(()) };
    let told: Vec<String> = cycle.iter().map(|(i, edge)| format!("  {:?}\n    -{edge}->", txns[*i])).collect();
    Err(Violation::new(INVARIANT, format!("{name}:\n{}", told.join("\n"))))
}

/// What the reads tell.
struct Facts<'a> {
    txns: &'a [Txn],
    /// Who appended an element.
    writers: BTreeMap<Element, usize>,
    /// The longest list that was read of each key: the order of its elements.
    orders: BTreeMap<String, Vec<u64>>,
    /// Reads of what others wrote: transaction, key, length of the list. It is a beginning of the key's order.
    reads: Vec<(usize, String, usize)>,
}

fn fail<T>(name: &str, story: String) -> Result<T, Violation> {
    Err(Violation::new(INVARIANT, format!("{name}: {story}")))
}

impl<'a> Facts<'a> {
    fn gather(txns: &'a [Txn]) -> Result<Self, Violation> {
        let mut writers = BTreeMap::new();
        for (i, txn) in txns.iter().enumerate() {
            for step in &txn.steps {
                if let Step::Append { key, element } = step {
                    writers.insert((key.clone(), *element), i);
                }
            }
        }
        let mut facts = Self { txns, writers, orders: BTreeMap::new(), reads: Vec::new() };
        let mut lists = Vec::new();
        for (i, txn) in txns.iter().enumerate().filter(|(_, t)| t.ending == Ending::Ok) {
            lists.extend(facts.external_reads(i, txn)?);
        }
        for (i, key, list) in &lists {
            facts.sound(*i, key, list)?;
            let order = facts.orders.entry(key.clone()).or_default();
            if list.len() > order.len() {
                *order = list.clone();
            }
        }
        for (i, key, list) in lists {
            let order = &facts.orders[&key];
            if order[..list.len()] != list[..] {
                return fail(
                    "incompatible-order",
                    format!("{key}: {list:?} in {:?}, but another saw {order:?}", txns[i]),
                );
            }
            facts.reads.push((i, key, list.len()));
        }
        Ok(facts)
    }

    /// The lists that a transaction read, without what it had itself appended before, which must be at their ends.
    fn external_reads(&self, i: usize, txn: &Txn) -> Result<Vec<(usize, String, Vec<u64>)>, Violation> {
        let mut own: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let mut reads = Vec::new();
        for step in &txn.steps {
            match step {
                Step::Append { key, element } => own.entry(key).or_default().push(*element),
                Step::Read { key, list } => {
                    let mine = own.get(key.as_str()).map(Vec::as_slice).unwrap_or_default();
                    match list.strip_suffix(mine) {
                        Some(rest) => reads.push((i, key.clone(), rest.to_vec())),
                        None => return fail("internal", format!("{txn:?} does not see its own appends to {key}")),
                    }
                }
            }
        }
        Ok(reads)
    }

    /// A list by itself: no element twice, all of them appended by transactions that did not fail, and none of a
    /// transaction that was not over.
    fn sound(&self, reader: usize, key: &str, list: &[u64]) -> Result<(), Violation> {
        let txn = &self.txns[reader];
        let distinct: BTreeSet<u64> = list.iter().copied().collect();
        if distinct.len() < list.len() {
            return fail("duplicate-elements", format!("{key} = {list:?} in {txn:?}"));
        }
        for element in list {
            match self.writers.get(&(key.to_owned(), *element)).map(|w| &self.txns[*w]) {
                None => return fail("garbage-read", format!("nobody appended {element} to {key}: {txn:?}")),
                Some(writer) if writer.ending == Ending::Failed => {
                    return fail("G1a (aborted read)", format!("{element} of {writer:?} was read by {txn:?}"));
                }
                Some(_) => {}
            }
        }
        let Some(last) = list.last() else { return Ok(()) };
        let writer = self.writers[&(key.to_owned(), *last)];
        let finals = self.txns[writer].steps.iter().rev().find_map(|s| match s {
            Step::Append { key: k, element } if k == key => Some(*element),
            _ => None,
        });
        if writer != reader && finals != Some(*last) {
            let story = format!("{txn:?} saw {key} end with {last}, in the middle of {:?}", self.txns[writer]);
            return fail("G1b (intermediate read)", story);
        }
        Ok(())
    }

    fn writer(&self, key: &str, element: u64) -> usize {
        self.writers[&(key.to_owned(), element)]
    }

    /// Acknowledged appends that no read saw: they come after all that was seen.
    fn unseen(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut unseen: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for ((key, element), writer) in &self.writers {
            let seen = self.orders.get(key).is_some_and(|order| order.contains(element));
            if !seen && self.txns[*writer].ending == Ending::Ok {
                unseen.entry(key).or_default().push(*writer);
            }
        }
        unseen
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::new(self.txns.len());
        let unseen = self.unseen();
        let none = Vec::new();
        for (key, order) in &self.orders {
            for pair in order.windows(2) {
                graph.ww(self.writer(key, pair[0]), self.writer(key, pair[1]));
            }
            for later in unseen.get(key.as_str()).unwrap_or(&none) {
                if let Some(last) = order.last() {
                    graph.ww(self.writer(key, *last), *later);
                }
            }
        }
        for (reader, key, length) in &self.reads {
            let order = &self.orders[key];
            if let Some(last) = length.checked_sub(1) {
                graph.wr(self.writer(key, order[last]), *reader);
            }
            match order.get(*length) {
                Some(next) => graph.rw(*reader, self.writer(key, *next)),
                None => unseen.get(key.as_str()).unwrap_or(&none).iter().for_each(|w| graph.rw(*reader, *w)),
            }
        }
        // A transaction of unknown outcome has no end; a failed one is on no edge.
        let spans = self.txns.iter().map(|t| match t.ending {
            Ending::Ok => Some((t.start_us, t.end_us)),
            Ending::Unknown => Some((t.start_us, u64::MAX)),
            Ending::Failed => None,
        });
        graph.real_time(&spans.collect::<Vec<_>>());
        graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(key: &str, element: u64) -> Step {
        Step::Append { key: key.into(), element }
    }

    fn r(key: &str, list: &[u64]) -> Step {
        Step::Read { key: key.into(), list: list.to_vec() }
    }

    fn txn(start_us: u64, end_us: u64, steps: &[Step]) -> Txn {
        Txn { client: 0, start_us, end_us, steps: steps.to_vec(), ending: Ending::Ok }
    }

    fn ending(ending: Ending, txn: Txn) -> Txn {
        Txn { ending, ..txn }
    }

    #[track_caller]
    fn rejects(name: &str, txns: &[Txn]) {
        let story = check(txns).unwrap_err().story;
        assert!(story.starts_with(name), "{story}");
    }

    #[test]
    fn accepts_what_is_right() {
        let right = [
            txn(0, 1, &[a("x", 1), r("x", &[1]), a("y", 1)]),
            txn(0, 9, &[r("x", &[1]), a("x", 2)]),
            txn(10, 11, &[r("x", &[1, 2]), r("y", &[1])]),
            // Overlapping: it may come before the one that appended 2.
            txn(2, 12, &[r("x", &[1])]),
            ending(Ending::Failed, txn(3, 4, &[a("x", 7)])),
            ending(Ending::Unknown, txn(3, 4, &[a("x", 8)])),
        ];
        assert_eq!(check(&right), Ok(()));
        // An unknown one may take effect long after its client gave up.
        let late =
            [ending(Ending::Unknown, txn(0, 1, &[a("x", 1)])), txn(5, 6, &[r("x", &[])]), txn(7, 8, &[r("x", &[1])])];
        assert_eq!(check(&late), Ok(()));
    }

    #[test]
    fn rejects_what_lists_alone_show() {
        rejects("duplicate-elements", &[txn(0, 1, &[a("x", 1)]), txn(2, 3, &[r("x", &[1, 1])])]);
        rejects("garbage-read", &[txn(0, 1, &[r("x", &[5])])]);
        rejects("internal", &[txn(0, 1, &[a("x", 1), r("x", &[])])]);
        rejects("G1a", &[ending(Ending::Failed, txn(0, 1, &[a("x", 1)])), txn(2, 3, &[r("x", &[1])])]);
        rejects(
            "G1b",
            &[txn(0, 9, &[a("x", 1), a("x", 2)]), txn(0, 9, &[r("x", &[1])]), txn(0, 9, &[r("x", &[1, 2])])],
        );
        let split = [
            txn(0, 9, &[a("x", 1)]),
            txn(0, 9, &[a("x", 2)]),
            txn(0, 9, &[r("x", &[1, 2])]),
            txn(0, 9, &[r("x", &[2])]),
        ];
        rejects("incompatible-order", &split);
    }

    #[test]
    fn rejects_a_dirty_write() {
        let g0 = [
            txn(0, 9, &[a("x", 1), a("y", 1)]),
            txn(0, 9, &[a("x", 2), a("y", 2)]),
            txn(0, 9, &[r("x", &[1, 2]), r("y", &[2, 1])]),
        ];
        rejects("G0", &g0);
    }

    #[test]
    fn rejects_circular_information_flow() {
        let g1c = [txn(0, 9, &[a("x", 1), r("y", &[1])]), txn(0, 9, &[a("y", 1), r("x", &[1])])];
        rejects("G1c", &g1c);
    }

    #[test]
    fn rejects_a_torn_read_and_a_lost_update() {
        let torn = [txn(0, 9, &[a("x", 1), a("y", 1)]), txn(0, 9, &[r("x", &[1]), r("y", &[])])];
        rejects("G-single", &torn);
        let lost =
            [txn(0, 9, &[r("x", &[]), a("x", 1)]), txn(0, 9, &[r("x", &[]), a("x", 2)]), txn(0, 9, &[r("x", &[1, 2])])];
        rejects("G-single", &lost);
    }

    #[test]
    fn rejects_write_skew() {
        let skew = [
            txn(0, 9, &[r("x", &[]), a("y", 1)]),
            txn(0, 9, &[r("y", &[]), a("x", 1)]),
            txn(0, 9, &[r("x", &[1]), r("y", &[1])]),
        ];
        rejects("G2", &skew);
    }

    #[test]
    fn rejects_a_stale_read_and_a_lost_append() {
        let stale = [
            txn(0, 1, &[a("x", 1)]),
            txn(2, 3, &[a("x", 2)]),
            txn(4, 5, &[r("x", &[1])]),
            txn(6, 7, &[r("x", &[1, 2])]),
        ];
        rejects("G-single-realtime", &stale);
        let lost = [txn(0, 1, &[a("x", 1)]), txn(2, 3, &[a("x", 2)]), txn(4, 5, &[r("x", &[1])])];
        rejects("G-single-realtime", &lost);
        // Nothing is said of an append that was never acknowledged.
        let unknown =
            [txn(0, 1, &[a("x", 1)]), ending(Ending::Unknown, txn(2, 3, &[a("x", 2)])), txn(4, 5, &[r("x", &[1])])];
        assert_eq!(check(&unknown), Ok(()));
    }
}
