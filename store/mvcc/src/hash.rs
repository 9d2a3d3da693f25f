use keelstone_engine::Column;
use keelstone_etcd_api::ApiError;

use crate::{load, read, record, shared::Shared, view::View, MvccError};

/// CRC-32C of the key-values that can be read at `revision` or were written after the compacted revision up to
/// there, in revision order, whatever else is still on disk. Returns it with the compacted revision and the
/// revision hashed.
pub fn hash_kv(shared: &Shared, revision: i64) -> Result<(u32, i64, i64), ApiError> {
    let view = shared.view();
    read::check_revision(view.compacted, view.revision, revision)?;
    let at = if revision > 0 { revision } else { view.revision };
    let hash = walk(&view, at).map_err(|error| {
        tracing::error!(%error, "hashing the store failed");
        ApiError::Corrupt
    })?;
    Ok((hash, view.compacted, at))
}

fn walk(view: &View, at: i64) -> Result<u32, MvccError> {
    let mut hash = 0;
    // Once all dead versions are removed, what is there survives.
    let is_swept = load::swept(&*view.snapshot)? >= view.compacted;
    load::for_each_pair(&*view.snapshot, Column::Revisions, view.generation, |key, value| {
        let revision = record::parse_revision_key(&key)?;
        if revision.main > at {
            return Ok(());
        }
        let kv = || record::decode_kv(value.clone());
        if !is_swept && revision.main <= view.compacted && !view.index().survives(revision, &kv()?, view.compacted)? {
            return Ok(());
        }
        hash = crc32c::crc32c_append(hash, &key[1..]);
        hash = crc32c::crc32c_append(hash, &value);
        Ok(())
    })?;
    Ok(hash)
}
