use keelstone_engine::{Column, Snapshot};
use keelstone_etcd_api::ApiError;

use crate::{load, read, record, shared::Shared, view::View, MvccError};

/// CRC-32C of the key-values that can be read at `revision` or were written after the compacted revision up to
/// there, in revision order, whatever else is still on disk. Returns it with the compacted revision and the
/// revision hashed.
pub fn hash_kv(shared: &Shared, revision: i64) -> Result<(u32, i64, i64), ApiError> {
    let (view, snapshot) = shared.pin().map_err(failed)?;
    read::check_revision(&view, view.revision, revision)?;
    let at = if revision > 0 { revision } else { view.revision };
    let hash = walk(&*snapshot, &view, at).map_err(failed)?;
    Ok((hash, view.compacted, at))
}

fn failed(error: MvccError) -> ApiError {
    tracing::error!(%error, "hashing the store failed");
    ApiError::Corrupt
}

fn walk(snapshot: &dyn Snapshot, view: &View, at: i64) -> Result<u32, MvccError> {
    let mut hash = 0;
    load::for_each_pair(snapshot, Column::Revisions, view.generation, |key, value| {
        let revision = record::parse_revision_key(&key)?;
        if revision.main > at {
            return Ok(());
        }
        if revision.main <= view.compacted {
            let kv = record::decode_kv(value.clone())?;
            if !view.index.history(&kv.key).is_some_and(|h| h.survives(revision, view.compacted)) {
                return Ok(());
            }
        }
        hash = crc32c::crc32c_append(hash, &key[1..]);
        hash = crc32c::crc32c_append(hash, &value);
        Ok(())
    })?;
    Ok(hash)
}
