use bytes::Bytes;
use keelstone_etcd_api::{mvccpb, pb, ApiError};

use super::{auth, txn, working::Working, ApplyError};
use crate::{check, index::Version, read::header, Command, Op, RangeBounds, Response};

/// Applies one command of an entry of `term`. On [`ApplyError::Refused`] nothing was changed.
pub fn apply(working: &mut Working, command: Command, term: u64) -> Result<Response, ApplyError> {
    let Some(op) = command.op else { return Ok(Response::None) };
    check_alarms(working, &op)?;
    auth::check(working, command.caller.as_ref(), &op)?;
    match op {
        Op::Put(request) => {
            // As in etcd, the lease is looked for first here, and last in a transaction.
            check_lease(working, &request)?;
            check_put(working, &request)?;
            let response = put(working, request)?;
            working.commit();
            Ok(Response::Put(response))
        }
        Op::DeleteRange(request) => {
            let response = delete_range(working, &request)?;
            working.commit();
            Ok(Response::DeleteRange(response))
        }
        Op::Txn(request) => txn::apply(working, request).map(Response::Txn),
        Op::Compact(request) => compact(working, request.revision).map(Response::Compact),
        Op::LeaseGrant(request) => lease_grant(working, &request).map(Response::LeaseGrant),
        Op::LeaseRevoke(request) => lease_revoke(working, request.id).map(Response::LeaseRevoke),
        Op::LeaseExpire(expire) => {
            if expire.term != term || working.view.lease(expire.id).is_none() {
                return Ok(Response::None);
            }
            lease_revoke(working, expire.id).map(Response::LeaseRevoke)
        }
        Op::Alarm(request) => Ok(Response::Alarm(alarm(working, &request))),
        Op::Moment(moment) => {
            working.moment(moment.unix_ms)?;
            Ok(Response::None)
        }
        Op::Auth(request) => auth::apply(working, request),
    }
}

fn check_alarms(working: &Working, op: &Op) -> Result<(), ApiError> {
    if matches!(op, Op::Alarm(_)) || working.view.alarms.is_empty() {
        return Ok(());
    }
    if working.view.is_corrupt() {
        return Err(ApiError::Corrupt);
    }
    if working.view.has_alarm(pb::AlarmType::Nospace) && crate::quota::stores_bytes(op) > 0 {
        return Err(ApiError::NoSpace);
    }
    Ok(())
}

/// What could make a put fail, checked before anything is changed.
pub fn check_put(working: &Working, request: &pb::PutRequest) -> Result<(), ApplyError> {
    let needs_old = request.ignore_value || request.ignore_lease;
    if needs_old && working.index().live(&request.key)?.is_none() {
        return Err(ApiError::KeyNotFound.into());
    }
    check_lease(working, request)
}

fn check_lease(working: &Working, request: &pb::PutRequest) -> Result<(), ApplyError> {
    if request.lease != 0 && working.view.lease(request.lease).is_none() {
        return Err(ApiError::LeaseNotFound.into());
    }
    Ok(())
}

/// Must have passed [`check_put`].
pub fn put(working: &mut Working, request: pb::PutRequest) -> Result<pb::PutResponse, ApplyError> {
    let old = working.index().live(&request.key)?;
    let old_kv = match old {
        Some(version) if request.prev_kv || request.ignore_value => Some(working.kv(&request.key, version)?),
        _ => None,
    };
    let value = match &old_kv {
        Some(kv) if request.ignore_value => kv.value.clone(),
        _ => request.value,
    };
    let lease = if request.ignore_lease { old.map_or(0, |version| version.lease) } else { request.lease };
    working.put(request.key, value, lease, old)?;
    let prev_kv = old_kv.filter(|_| request.prev_kv);
    Ok(pb::PutResponse { header: Some(header(working.current_revision())), prev_kv })
}

pub fn delete_range(
    working: &mut Working,
    request: &pb::DeleteRangeRequest,
) -> Result<pb::DeleteRangeResponse, ApplyError> {
    let found: Vec<(Bytes, Version)> = working.live(&RangeBounds::new(&request.key, &request.range_end))?;
    let mut prev_kvs: Vec<mvccpb::KeyValue> = Vec::new();
    if request.prev_kv {
        for (key, version) in &found {
            prev_kvs.push(working.kv(key, *version)?);
        }
    }
    let deleted = found.len() as i64;
    for (key, version) in found {
        working.delete(key, version)?;
    }
    Ok(pb::DeleteRangeResponse { header: Some(header(working.current_revision())), deleted, prev_kvs })
}

fn compact(working: &mut Working, revision: i64) -> Result<pb::CompactionResponse, ApplyError> {
    if revision <= working.view.compacted {
        return Err(ApiError::Compacted.into());
    }
    if revision > working.view.revision {
        return Err(ApiError::FutureRevision.into());
    }
    working.compact(revision);
    Ok(pb::CompactionResponse { header: Some(header(working.view.revision)) })
}

fn lease_grant(working: &mut Working, request: &pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, ApplyError> {
    if request.id == 0 {
        return Err(ApiError::LeaseNotFound.into());
    }
    check::lease_grant(request)?;
    if working.view.lease(request.id).is_some() {
        return Err(ApiError::LeaseExists.into());
    }
    let ttl = request.ttl.max(1);
    working.grant_lease(request.id, ttl);
    let header = Some(header(working.view.revision));
    Ok(pb::LeaseGrantResponse { header, id: request.id, ttl, error: String::new() })
}

fn lease_revoke(working: &mut Working, id: i64) -> Result<pb::LeaseRevokeResponse, ApplyError> {
    if working.view.lease(id).is_none() {
        return Err(ApiError::LeaseNotFound.into());
    }
    working.revoke_lease(id)?;
    Ok(pb::LeaseRevokeResponse { header: Some(header(working.view.revision)) })
}

/// As in etcd, an answer lists the alarms asked for, or the one that was changed.
fn alarm(working: &mut Working, request: &pb::AlarmRequest) -> pb::AlarmResponse {
    use pb::{alarm_request::AlarmAction, AlarmType};
    let one = pb::AlarmMember { member_id: request.member_id, alarm: request.alarm };
    let any = request.alarm == AlarmType::None as i32;
    let alarms = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => {
            let on = working.view.alarms.iter().filter(|(_, alarm)| any || *alarm == request.alarm);
            on.map(|(member_id, alarm)| pb::AlarmMember { member_id: *member_id, alarm: *alarm }).collect()
        }
        Ok(AlarmAction::Activate) if !any => {
            working.set_alarm(request.member_id, request.alarm);
            vec![one]
        }
        Ok(AlarmAction::Deactivate) if working.clear_alarm(request.member_id, request.alarm) => vec![one],
        _ => Vec::new(),
    };
    pb::AlarmResponse { header: Some(header(working.view.revision)), alarms }
}
