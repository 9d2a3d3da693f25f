//! A naive store: every version of every key in one list, and answers by looking through all of it.

use keelstone_etcd_api::{
    mvccpb::KeyValue,
    pb::{self, compare::TargetUnion, request_op::Request, response_op::Response as OpResponse},
    ApiError,
};

#[derive(Clone, Default)]
pub struct Model {
    pub revision: i64,
    pub compacted: i64,
    /// Every version in the order it was written; `version` 0 is a deletion.
    pub history: Vec<KeyValue>,
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

fn inside(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

impl Model {
    pub fn new() -> Self {
        Self { revision: 1, compacted: -1, history: Vec::new() }
    }

    fn at(&self, key: &[u8], end: &[u8], revision: i64) -> Vec<KeyValue> {
        let mut found: std::collections::BTreeMap<&[u8], &KeyValue> = Default::default();
        for kv in self.history.iter().filter(|kv| kv.mod_revision <= revision && inside(&kv.key, key, end)) {
            found.insert(&kv.key, kv);
        }
        found.into_values().filter(|kv| kv.version > 0).cloned().collect()
    }

    fn check(&self, revision: i64) -> Result<(), ApiError> {
        match revision {
            r if r > self.revision => Err(ApiError::FutureRevision),
            r if r > 0 && r < self.compacted => Err(ApiError::Compacted),
            _ => Ok(()),
        }
    }

    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ApiError> {
        self.check(request.revision)?;
        Ok(self.range_as_of(request, self.revision))
    }

    fn range_as_of(&self, request: &pb::RangeRequest, current: i64) -> pb::RangeResponse {
        let at = if request.revision > 0 { request.revision } else { current };
        let mut kvs = self.at(&request.key, &request.range_end, at);
        let count = kvs.len() as i64;
        let mut more = false;
        if request.count_only {
            kvs.clear();
        }
        kvs.retain(|kv| request.min_mod_revision == 0 || kv.mod_revision >= request.min_mod_revision);
        kvs.retain(|kv| request.max_create_revision == 0 || kv.create_revision <= request.max_create_revision);
        // Order 0 with another target than the key is left out of the generated requests.
        match request.sort_target {
            1 => kvs.sort_by_key(|kv| kv.version),
            3 => kvs.sort_by_key(|kv| kv.mod_revision),
            4 => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
            _ => {}
        }
        if request.sort_order == 2 && request.sort_target == 0 {
            kvs.reverse();
        }
        if request.limit > 0 && kvs.len() as i64 > request.limit {
            kvs.truncate(request.limit as usize);
            more = true;
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        pb::RangeResponse { header: header(current), kvs, more, count }
    }

    pub fn put(&mut self, request: &pb::PutRequest) -> pb::PutResponse {
        let mut response = self.put_at(request, self.revision + 1);
        self.revision += 1;
        response.header = header(self.revision);
        response
    }

    fn put_at(&mut self, request: &pb::PutRequest, revision: i64) -> pb::PutResponse {
        let prev = self.at(&request.key, b"", revision).pop();
        self.history.push(KeyValue {
            key: request.key.clone(),
            value: request.value.clone(),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            lease: 0,
        });
        pb::PutResponse { header: header(revision), prev_kv: prev.filter(|_| request.prev_kv) }
    }

    pub fn delete(&mut self, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let mut response = self.delete_at(request, self.revision + 1);
        self.revision += i64::from(response.deleted > 0);
        response.header = header(self.revision);
        response
    }

    fn delete_at(&mut self, request: &pb::DeleteRangeRequest, revision: i64) -> pb::DeleteRangeResponse {
        let prev = self.at(&request.key, &request.range_end, revision);
        for kv in &prev {
            self.history.push(KeyValue { key: kv.key.clone(), mod_revision: revision, ..Default::default() });
        }
        let deleted = prev.len() as i64;
        let prev_kvs = if request.prev_kv { prev } else { vec![] };
        pb::DeleteRangeResponse { header: None, deleted, prev_kvs }
    }

    fn holds(&self, compare: &pb::Compare) -> bool {
        let mut kvs = self.at(&compare.key, &compare.range_end, self.revision);
        if kvs.is_empty() {
            if compare.target == 3 {
                return false;
            }
            kvs.push(KeyValue::default());
        }
        kvs.iter().all(|kv| {
            let order = match compare.target_union.as_ref().unwrap() {
                TargetUnion::Version(v) => kv.version.cmp(v),
                TargetUnion::CreateRevision(v) => kv.create_revision.cmp(v),
                TargetUnion::ModRevision(v) => kv.mod_revision.cmp(v),
                TargetUnion::Value(v) => kv.value.cmp(v),
                TargetUnion::Lease(v) => kv.lease.cmp(v),
            };
            match compare.result {
                0 => order.is_eq(),
                1 => order.is_gt(),
                2 => order.is_lt(),
                _ => order.is_ne(),
            }
        })
    }

    pub fn txn(&mut self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, ApiError> {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &request.success } else { &request.failure };
        for op in ops {
            if let Some(Request::RequestRange(range)) = &op.request {
                self.check(range.revision)?;
            }
        }
        let (before, next) = (self.history.len(), self.revision + 1);
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(r) => OpResponse::ResponseRange(self.range_as_of(r, self.now(before))),
                Request::RequestPut(r) => OpResponse::ResponsePut(self.put_at(r, next)),
                Request::RequestDeleteRange(r) => {
                    let mut response = self.delete_at(r, next);
                    response.header = header(self.now(before));
                    OpResponse::ResponseDeleteRange(response)
                }
                Request::RequestTxn(_) => unreachable!("not generated"),
            };
            responses.push(pb::ResponseOp { response: Some(response) });
        }
        self.revision = self.now(before);
        Ok(pb::TxnResponse { header: header(self.revision), succeeded, responses })
    }

    /// The revision as seen in a txn that began when the history had so many entries.
    fn now(&self, before: usize) -> i64 {
        self.revision + i64::from(self.history.len() > before)
    }

    pub fn compact(&mut self, revision: i64) -> Result<(), ApiError> {
        if revision <= self.compacted {
            return Err(ApiError::Compacted);
        }
        if revision > self.revision {
            return Err(ApiError::FutureRevision);
        }
        self.compacted = revision;
        Ok(())
    }
}
