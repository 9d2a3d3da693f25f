//! (1), (2) A set: every acknowledged element is in each read that began after its addition had ended, and stays; no
//! read holds an element that nobody added.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Ended, Ending, Violation};

const INVARIANT: &str = "set (1, 2)";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Every element is added once in a history.
    Add { element: u64 },
    /// All elements, at one revision.
    Read { elements: Vec<u64>, revision: i64 },
}

pub type Operation = Ended<Call>;

/// # Errors
/// An element that is missing, that came from nowhere, or that was seen and then was not there.
pub fn check(operations: &[Operation]) -> Result<(), Violation> {
    let mut adds: BTreeMap<u64, &Operation> = BTreeMap::new();
    let mut reads: Vec<(&Operation, BTreeSet<u64>, i64)> = Vec::new();
    for operation in operations {
        match &operation.call {
            Call::Add { element } => drop(adds.insert(*element, operation)),
            Call::Read { elements, revision } if operation.ending == Ending::Ok => {
                reads.push((operation, elements.iter().copied().collect(), *revision));
            }
            Call::Read { .. } => {}
        }
    }
    for (read, elements, _) in &reads {
        sound(read, elements, &adds)?;
    }
    nothing_vanishes(&mut reads)
}

fn fail(story: String) -> Result<(), Violation> {
    Err(Violation::new(INVARIANT, story))
}

fn sound(read: &Operation, elements: &BTreeSet<u64>, adds: &BTreeMap<u64, &Operation>) -> Result<(), Violation> {
    let span = format!("the read of client {} from {} to {} us", read.client, read.start_us, read.end_us);
    for element in elements {
        match adds.get(element) {
            None => return fail(format!("{span} has {element}, which nobody added")),
            Some(add) if add.ending == Ending::Failed => {
                return fail(format!("{span} has {element}, whose addition had failed: {add:?}"));
            }
            Some(add) if add.start_us > read.end_us => {
                return fail(format!("{span} has {element} before it was added: {add:?}"));
            }
            Some(_) => {}
        }
    }
    let due = adds.iter().filter(|(_, add)| add.ending == Ending::Ok && add.end_us < read.start_us);
    let missing: Vec<u64> = due.map(|(element, _)| *element).filter(|e| !elements.contains(e)).collect();
    match missing.first() {
        Some(first) => fail(format!("{span} lacks {} acknowledged elements: {:?}", missing.len(), adds[first])),
        None => Ok(()),
    }
}

/// In the order of revisions, no read lacks what an earlier one had.
fn nothing_vanishes(reads: &mut [(&Operation, BTreeSet<u64>, i64)]) -> Result<(), Violation> {
    reads.sort_by_key(|(read, _, revision)| (*revision, read.start_us));
    for pair in reads.windows(2) {
        let ((before, earlier, r1), (after, later, r2)) = (&pair[0], &pair[1]);
        if let Some(gone) = earlier.difference(later).next() {
            let clients = (before.client, after.client);
            return fail(format!("{gone} was there at revision {r1}, not at {r2} (clients {clients:?})"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(start_us: u64, end_us: u64, element: u64, ending: Ending) -> Operation {
        Operation { client: 0, start_us, end_us, call: Call::Add { element }, ending }
    }

    fn read(start_us: u64, end_us: u64, elements: &[u64], revision: i64) -> Operation {
        let call = Call::Read { elements: elements.to_vec(), revision };
        Operation { client: 1, start_us, end_us, call, ending: Ending::Ok }
    }

    #[test]
    fn accepts_what_is_right() {
        let right = [
            add(0, 1, 1, Ending::Ok),
            add(2, 9, 2, Ending::Ok),
            add(2, 9, 3, Ending::Unknown),
            add(2, 9, 4, Ending::Failed),
            read(3, 4, &[1], 2),
            read(5, 6, &[1, 2, 3], 4),
            read(10, 11, &[1, 2, 3], 4),
        ];
        assert_eq!(check(&right), Ok(()));
    }

    #[test]
    fn rejects_a_lost_element() {
        assert!(check(&[add(0, 1, 1, Ending::Ok), read(2, 3, &[], 2)]).is_err());
    }

    #[test]
    fn rejects_an_element_from_nowhere_of_a_failed_call_or_from_the_future() {
        assert!(check(&[read(2, 3, &[1], 2)]).is_err());
        assert!(check(&[add(0, 1, 1, Ending::Failed), read(2, 3, &[1], 2)]).is_err());
        assert!(check(&[add(8, 9, 1, Ending::Ok), read(2, 3, &[1], 2)]).is_err());
    }

    #[test]
    fn rejects_an_element_that_flickers() {
        let unknown = add(0, 1, 1, Ending::Unknown);
        assert!(check(&[unknown, read(2, 3, &[1], 2), read(4, 5, &[], 3)]).is_err());
    }
}
