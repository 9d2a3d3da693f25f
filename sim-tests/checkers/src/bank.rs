//! (2) Transfers between accounts: every read shows the whole sum, no account is overdrawn, and one revision has one
//! state. The balances are those of the transfers that were carried out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Ended, Ending, Violation};

const INVARIANT: &str = "bank (2)";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Carried out at `revision` if the ending is ok.
    Transfer { from: String, to: String, amount: i64, revision: i64 },
    /// All accounts at one revision.
    Read { balances: BTreeMap<String, i64>, revision: i64 },
}

pub type Operation = Ended<Call>;

/// Checks reads of accounts that held `start` before the first transfer.
///
/// # Errors
/// A read with another sum, an overdrawn account, two states of one revision, or an acknowledged transfer that a later
/// read does not show.
pub fn check(start: &BTreeMap<String, i64>, operations: &[Operation]) -> Result<(), Violation> {
    let fail = |story: String| Err(Violation::new(INVARIANT, story));
    let total: i64 = start.values().sum();
    let mut states: BTreeMap<i64, (&BTreeMap<String, i64>, &Operation)> = BTreeMap::new();
    for operation in operations.iter().filter(|o| o.ending == Ending::Ok) {
        let Call::Read { balances, revision } = &operation.call else { continue };
        let sum: i64 = balances.values().sum();
        if sum != total || !balances.keys().eq(start.keys()) {
            return fail(format!("the sum is {sum}, not {total}: {operation:?}"));
        }
        if balances.values().any(|b| *b < 0) {
            return fail(format!("overdrawn: {operation:?}"));
        }
        if let Some((_, other)) = states.get(revision).filter(|(known, _)| *known != balances) {
            return fail(format!("two states at revision {revision}: {operation:?}, {other:?}"));
        }
        states.insert(*revision, (balances, operation));
    }
    replay(start, operations, &states)
}

/// From read to read the balances differ by the acknowledged transfers between, as long as none of unknown outcome
/// could have been carried out there.
fn replay(
    start: &BTreeMap<String, i64>,
    operations: &[Operation],
    states: &BTreeMap<i64, (&BTreeMap<String, i64>, &Operation)>,
) -> Result<(), Violation> {
    let mut transfers: BTreeMap<i64, (&str, &str, i64)> = BTreeMap::new();
    // The earliest moment from which on one of unknown outcome may have been carried out.
    let mut unknown_from_us = u64::MAX;
    for operation in operations {
        let Call::Transfer { from, to, amount, revision } = &operation.call else { continue };
        match operation.ending {
            Ending::Ok => drop(transfers.insert(*revision, (from, to, *amount))),
            Ending::Unknown => unknown_from_us = unknown_from_us.min(operation.start_us),
            Ending::Failed => {}
        }
    }
    let mut expected = start.clone();
    let mut transfers = transfers.into_iter().peekable();
    for (revision, (balances, read)) in states {
        while let Some((_, (from, to, amount))) = transfers.next_if(|(at, _)| at <= revision) {
            *expected.entry(from.to_owned()).or_default() -= amount;
            *expected.entry(to.to_owned()).or_default() += amount;
        }
        if read.end_us < unknown_from_us && expected != **balances {
            let story = format!("at revision {revision} the acknowledged transfers make {expected:?}, read: {read:?}");
            return Err(Violation::new(INVARIANT, story));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(a: i64, b: i64) -> BTreeMap<String, i64> {
        BTreeMap::from([("a".into(), a), ("b".into(), b)])
    }

    fn transfer(amount: i64, revision: i64, ending: Ending) -> Operation {
        let call = Call::Transfer { from: "a".into(), to: "b".into(), amount, revision };
        Operation { client: 0, start_us: 10, end_us: 20, call, ending }
    }

    fn read(a: i64, b: i64, revision: i64, start_us: u64) -> Operation {
        let call = Call::Read { balances: accounts(a, b), revision };
        Operation { client: 1, start_us, end_us: start_us + 1, call, ending: Ending::Ok }
    }

    #[test]
    fn accepts_what_is_right() {
        let right = [
            read(10, 10, 2, 0),
            transfer(3, 3, Ending::Ok),
            transfer(4, 0, Ending::Failed),
            read(7, 13, 3, 30),
            read(7, 13, 3, 32),
        ];
        assert_eq!(check(&accounts(10, 10), &right), Ok(()));
        // One of unknown outcome may have been carried out.
        let unknown = [transfer(3, 0, Ending::Unknown), read(7, 13, 3, 30)];
        assert_eq!(check(&accounts(10, 10), &unknown), Ok(()));
    }

    #[test]
    fn rejects_a_wrong_sum_an_overdrawn_account_and_two_states_of_one_revision() {
        assert!(check(&accounts(10, 10), &[read(10, 13, 3, 0)]).is_err());
        assert!(check(&accounts(10, 10), &[read(-1, 21, 3, 0)]).is_err());
        assert!(check(&accounts(10, 10), &[read(7, 13, 3, 0), read(8, 12, 3, 2)]).is_err());
        let mut missing = read(20, 0, 3, 0);
        if let Call::Read { balances, .. } = &mut missing.call {
            balances.remove("b");
        }
        assert!(check(&accounts(10, 10), &[missing]).is_err());
    }

    #[test]
    fn rejects_a_lost_transfer_and_one_that_had_failed() {
        assert!(check(&accounts(10, 10), &[transfer(3, 3, Ending::Ok), read(10, 10, 4, 30)]).is_err());
        assert!(check(&accounts(10, 10), &[transfer(3, 0, Ending::Failed), read(7, 13, 4, 30)]).is_err());
    }
}
