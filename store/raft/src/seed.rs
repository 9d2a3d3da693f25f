//! The log of a member whose state was put there by a restore.

use std::{collections::BTreeMap, path::Path};

use keelstone_env::Env;
use keelstone_mvcc::Applied;
use keelstone_wal::{Wal, WalOptions};
use prost::Message;

use crate::{
    convert,
    log_store::encode_log_id,
    types::{log_id, Membership, StoredMembership, Vote},
    MemberInfo, RaftError,
};

/// Where a restored cluster's log begins. Not at 0: a member that joins later must be sent the state as a
/// snapshot, because no entry holds what was restored.
const SEED_TERM: u64 = 1;
const SEED_INDEX: u64 = 1;

/// Makes the log of member `id` in `<data_dir>/wal`: empty, purged up to where the restored state counts as
/// applied. Returns that place, with the membership, for the state. All first members of the new cluster must
/// be given the same state and the same `members`.
///
/// # Errors
/// If there is a log already, or the disk fails.
pub async fn seed_log(
    env: &Env,
    data_dir: &Path,
    id: u64,
    members: BTreeMap<u64, MemberInfo>,
) -> Result<Applied, RaftError> {
    let wal = Wal::open(env.clone(), WalOptions::new(data_dir.join("wal"))).await?;
    let state = wal.state();
    if state.last.is_some() || state.purged.is_some() || state.vote.is_some() {
        return Err(RaftError::Fatal(format!("{} holds a log already", data_dir.display())));
    }
    let seed = log_id(SEED_TERM, SEED_INDEX);
    let mark = encode_log_id(&seed);
    // As one that has voted in the first term: the first election is of the second.
    wal.save_vote(convert::vote_out(&Vote::new(SEED_TERM, id)).encode_to_vec().into()).await?;
    wal.purge(SEED_INDEX, mark.clone()).await?;
    let membership = Membership::new(vec![members.keys().copied().collect()], members)
        .map_err(|error| RaftError::Fatal(format!("the membership makes no sense: {error}")))?;
    let stored = StoredMembership::new(Some(seed), membership);
    let membership = convert::stored_membership_out(&stored).encode_to_vec().into();
    Ok(Applied { index: SEED_INDEX, log_id: mark, membership })
}
