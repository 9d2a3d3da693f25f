//! The language of the golden scripts: one request a line, its answer below it.
//!
//! ```text
//! put KEY VALUE [lease=N] [prev] [ignore-value] [ignore-lease]
//! get KEY [END] [rev=N] [limit=N] [sort=asc|desc:key|version|create|mod|value] [keys] [count]
//!         [min-mod=N] [max-mod=N] [min-create=N] [max-create=N]
//! del KEY [END] [prev]
//! compact REV        sweep [BUDGET]        restart        crash        flush        hash
//! grant ID TTL       revoke ID       expire ID TERM       leases       keys ID
//! alarm get|on|off MEMBER nospace|corrupt
//! watch NAME KEY [END] [rev=N] [prev] [noput] [nodelete]
//! events NAME        progress NAME
//! txn / if ... / then ... / else ... / end, nested ones indented
//! ```
//! `\0` in a key is the zero byte, `""` the empty string.

use std::collections::BTreeMap;

use futures::FutureExt;
use keelstone_etcd_api::{
    mvccpb,
    pb::{self, compare::TargetUnion, request_op::Request, response_op::Response as OpResponse},
};
use keelstone_mvcc::{check, constants, LeaseExpire, Op, Reply, Response, WatchBatch, WatchSpec, Watcher};

use crate::support::{bytes, op, text, Store};

pub struct Runner {
    store: Store,
    watchers: BTreeMap<String, Watcher>,
}

/// Runs a script; returns it with the answers that the store gave.
pub fn run(script: &str) -> String {
    let mut runner = Runner { store: Store::new(), watchers: BTreeMap::new() };
    let mut out = String::new();
    let mut lines = script.lines().filter(|line| !line.starts_with("  = ")).peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.first() {
            None => continue,
            Some(first) if first.starts_with('#') => continue,
            Some(&"txn") => {
                let txn = parse_txn(&mut lines, &mut out);
                runner.command(Op::Txn(txn))
            }
            Some(_) => runner.line(&words),
        };
        for line in answer {
            out.push_str(&format!("  = {line}\n"));
        }
    }
    out
}

impl Runner {
    fn line(&mut self, words: &[&str]) -> Vec<String> {
        let number = |at: usize| words.get(at).map_or(0, |word| word.parse::<i64>().unwrap());
        match words[0] {
            "put" => self.command(Op::Put(parse_put(words))),
            "del" => self.command(Op::DeleteRange(parse_delete(words))),
            "get" => self.get(&parse_range(words)),
            "compact" => self.command(Op::Compact(pb::CompactionRequest { revision: number(1), physical: false })),
            "grant" => self.command(Op::LeaseGrant(pb::LeaseGrantRequest { id: number(1), ttl: number(2) })),
            "revoke" => self.command(Op::LeaseRevoke(pb::LeaseRevokeRequest { id: number(1) })),
            "expire" => self.command(Op::LeaseExpire(LeaseExpire { id: number(1), term: number(2) as u64 })),
            "alarm" => self.command(Op::Alarm(parse_alarm(words))),
            "sweep" => {
                self.store.sweep(words.get(1).map_or(1000, |word| word.parse().unwrap()));
                vec![]
            }
            "flush" => vec![format!("durable up to entry {}", self.store.mvcc.flush().unwrap())],
            "restart" | "crash" => self.restart(words[0] == "restart"),
            "hash" => self.hash(),
            "leases" => {
                self.store.mvcc.leases().iter().map(|lease| format!("{} ttl {}", lease.id, lease.ttl_s)).collect()
            }
            "keys" => self.store.mvcc.lease_keys(number(1)).unwrap().iter().map(|key| text(key)).collect(),
            "watch" => {
                self.watchers.insert(words[1].to_owned(), self.store.mvcc.watch(parse_watch(words)));
                vec![]
            }
            "events" => self.events(words[1]),
            "progress" => vec![format!("rev {}", self.watchers[words[1]].progress())],
            other => panic!("unknown word {other}"),
        }
    }

    fn command(&mut self, op: Op) -> Vec<String> {
        let checked = match &op {
            Op::Put(request) => check::put(request),
            Op::DeleteRange(request) => check::delete_range(request),
            Op::Txn(request) => check::txn(request, constants::TXN_OPS_MAX),
            _ => Ok(()),
        };
        reply(checked.and_then(|()| self.store.apply(op)))
    }

    fn get(&self, request: &pb::RangeRequest) -> Vec<String> {
        match check::range(request).and_then(|()| self.store.mvcc.range(request)) {
            Ok(response) => range(&response),
            Err(error) => vec![error.to_string()],
        }
    }

    fn restart(&mut self, clean: bool) -> Vec<String> {
        self.watchers.clear();
        self.store = if clean { self.store.reopen() } else { self.store.crash() };
        let mvcc = &self.store.mvcc;
        vec![format!(
            "rev {} compacted {} applied {}",
            mvcc.revision(),
            mvcc.compacted_revision(),
            mvcc.applied().index
        )]
    }

    fn hash(&self) -> Vec<String> {
        let (_, state) = self.store.mvcc.state_hash();
        let (kv, compacted, revision) = self.store.mvcc.hash_kv(0).unwrap();
        vec![format!("state {state:016x} kv {kv:08x} compacted {compacted} rev {revision}")]
    }

    fn events(&mut self, name: &str) -> Vec<String> {
        let watcher = self.watchers.get_mut(name).unwrap();
        let mut lines = Vec::new();
        while let Some(batch) = watcher.next().now_or_never() {
            match batch.unwrap() {
                Some(WatchBatch::Events { revision, events }) => {
                    lines.push(format!("up to rev {revision}"));
                    lines.extend(events.iter().map(event));
                }
                Some(WatchBatch::Progress { revision }) => lines.push(format!("progress {revision}")),
                Some(WatchBatch::Compacted { compact_revision }) => lines.push(format!("compacted {compact_revision}")),
                None => {
                    lines.push("ended".to_owned());
                    break;
                }
            }
        }
        lines
    }
}

fn reply(reply: Reply) -> Vec<String> {
    let revision = |header: &Option<pb::ResponseHeader>| header.as_ref().unwrap().revision;
    match reply {
        Err(error) => vec![error.to_string()],
        Ok(Response::None) => vec!["nothing".to_owned()],
        Ok(Response::Put(r)) => put(&r),
        Ok(Response::DeleteRange(r)) => delete(&r),
        Ok(Response::Txn(r)) => txn(&r),
        Ok(Response::Compact(r)) => vec![format!("rev {}", revision(&r.header))],
        Ok(Response::LeaseGrant(r)) => vec![format!("rev {} lease {} ttl {}", revision(&r.header), r.id, r.ttl)],
        Ok(Response::LeaseRevoke(r)) => vec![format!("rev {}", revision(&r.header))],
        Ok(Response::Alarm(r)) => {
            let alarm = |a: &pb::AlarmMember| format!("alarm {:?} of {}", a.alarm(), a.member_id);
            std::iter::once(format!("rev {}", revision(&r.header))).chain(r.alarms.iter().map(alarm)).collect()
        }
    }
}

pub fn kv(kv: &mvccpb::KeyValue) -> String {
    let lease = if kv.lease == 0 { String::new() } else { format!(" lease {}", kv.lease) };
    let (create, modified, version) = (kv.create_revision, kv.mod_revision, kv.version);
    format!("{}={} create {create} mod {modified} version {version}{lease}", text(&kv.key), text(&kv.value))
}

fn event(event: &mvccpb::Event) -> String {
    let now = event.kv.as_ref().unwrap();
    let prev = event.prev_kv.as_ref().map_or(String::new(), |prev| format!(" | prev {}", kv(prev)));
    match event.r#type() {
        mvccpb::event::EventType::Put => format!("PUT {}{prev}", kv(now)),
        mvccpb::event::EventType::Delete => format!("DELETE {} mod {}{prev}", text(&now.key), now.mod_revision),
    }
}

pub fn range(response: &pb::RangeResponse) -> Vec<String> {
    let more = if response.more { " more" } else { "" };
    let head = format!("rev {} count {}{more}", response.header.as_ref().unwrap().revision, response.count);
    std::iter::once(head).chain(response.kvs.iter().map(kv)).collect()
}

fn put(response: &pb::PutResponse) -> Vec<String> {
    let head = format!("rev {}", response.header.as_ref().unwrap().revision);
    std::iter::once(head).chain(response.prev_kv.iter().map(|prev| format!("prev {}", kv(prev)))).collect()
}

fn delete(response: &pb::DeleteRangeResponse) -> Vec<String> {
    let head = format!("rev {} deleted {}", response.header.as_ref().unwrap().revision, response.deleted);
    std::iter::once(head).chain(response.prev_kvs.iter().map(|prev| format!("prev {}", kv(prev)))).collect()
}

pub fn txn(response: &pb::TxnResponse) -> Vec<String> {
    let mut lines = vec![format!("rev {} {}", response.header.as_ref().unwrap().revision, response.succeeded)];
    for op in &response.responses {
        let inner = match op.response.as_ref().unwrap() {
            OpResponse::ResponseRange(r) => range(r),
            OpResponse::ResponsePut(r) => put(r),
            OpResponse::ResponseDeleteRange(r) => delete(r),
            OpResponse::ResponseTxn(r) => txn(r),
        };
        lines.extend(inner.iter().enumerate().map(|(i, line)| format!("{} {line}", if i == 0 { "-" } else { " " })));
    }
    lines
}

/// The value of `name=value` among `words`.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number(words: &[&str], name: &str) -> i64 {
    option(words, name).map_or(0, |value| value.parse().unwrap())
}

fn key(word: &str) -> bytes::Bytes {
    bytes(&if word == "\"\"" { String::new() } else { word.replace("\\0", "\0") })
}

/// The optional range end behind a key, if the word is no option.
fn end(words: &[&str], at: usize) -> bytes::Bytes {
    const FLAGS: [&str; 7] = ["prev", "keys", "count", "noput", "nodelete", "ignore-value", "ignore-lease"];
    match words.get(at) {
        Some(word) if !word.contains('=') && !FLAGS.contains(word) => key(word),
        _ => bytes::Bytes::new(),
    }
}

fn parse_put(words: &[&str]) -> pb::PutRequest {
    pb::PutRequest {
        key: key(words[1]),
        value: key(words[2]),
        lease: number(words, "lease"),
        prev_kv: words.contains(&"prev"),
        ignore_value: words.contains(&"ignore-value"),
        ignore_lease: words.contains(&"ignore-lease"),
    }
}

fn parse_delete(words: &[&str]) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key(words[1]), range_end: end(words, 2), prev_kv: words.contains(&"prev") }
}

fn parse_range(words: &[&str]) -> pb::RangeRequest {
    let mut request = pb::RangeRequest {
        key: key(words[1]),
        range_end: end(words, 2),
        limit: number(words, "limit"),
        revision: number(words, "rev"),
        keys_only: words.contains(&"keys"),
        count_only: words.contains(&"count"),
        min_mod_revision: number(words, "min-mod"),
        max_mod_revision: number(words, "max-mod"),
        min_create_revision: number(words, "min-create"),
        max_create_revision: number(words, "max-create"),
        ..Default::default()
    };
    if let Some((order, target)) = option(words, "sort").map(|sort| sort.split_once(':').unwrap()) {
        request.sort_order = ["none", "asc", "desc"].iter().position(|o| *o == order).unwrap() as i32;
        let targets = ["key", "version", "create", "mod", "value"];
        request.sort_target = targets.iter().position(|t| *t == target).unwrap() as i32;
    }
    request
}

fn parse_watch(words: &[&str]) -> WatchSpec {
    WatchSpec {
        key: key(words[2]),
        range_end: end(words, 3),
        start_revision: number(words, "rev"),
        prev_kv: words.contains(&"prev"),
        no_put: words.contains(&"noput"),
        no_delete: words.contains(&"nodelete"),
    }
}

fn parse_alarm(words: &[&str]) -> pb::AlarmRequest {
    let alarm = match words.get(3) {
        Some(&"nospace") => pb::AlarmType::Nospace,
        Some(&"corrupt") => pb::AlarmType::Corrupt,
        _ => pb::AlarmType::None,
    };
    let action = ["get", "on", "off"].iter().position(|action| *action == words[1]).unwrap() as i32;
    let member_id = words.get(2).map_or(0, |word| word.parse().unwrap());
    pb::AlarmRequest { action, member_id, alarm: alarm as i32 }
}

/// Reads up to the `end` of a txn, whose `txn` line was just read.
fn parse_txn<'a>(lines: &mut impl Iterator<Item = &'a str>, out: &mut String) -> pb::TxnRequest {
    let mut txn = pb::TxnRequest::default();
    let mut succeeding = true;
    loop {
        let line = lines.next().expect("a txn ends with `end`");
        out.push_str(line);
        out.push('\n');
        let words: Vec<&str> = line.split_whitespace().collect();
        let request = match words[0] {
            "end" => return txn,
            "then" | "else" => {
                succeeding = words[0] == "then";
                continue;
            }
            "if" => {
                txn.compare.push(parse_compare(&words));
                continue;
            }
            "txn" => Request::RequestTxn(parse_txn(lines, out)),
            "put" => Request::RequestPut(parse_put(&words)),
            "del" => Request::RequestDeleteRange(parse_delete(&words)),
            "get" => Request::RequestRange(parse_range(&words)),
            other => panic!("unknown word {other} in a txn"),
        };
        if succeeding {
            txn.success.push(op(request));
        } else {
            txn.failure.push(op(request));
        }
    }
}

/// `if TARGET KEY [END] = < > != VALUE`
fn parse_compare(words: &[&str]) -> pb::Compare {
    let at = words.iter().position(|word| ["=", "<", ">", "!="].contains(word)).unwrap();
    let value = words[at + 1];
    let number = || value.parse::<i64>().unwrap();
    let (target, union) = match words[1] {
        "version" => (0, TargetUnion::Version(number())),
        "create" => (1, TargetUnion::CreateRevision(number())),
        "mod" => (2, TargetUnion::ModRevision(number())),
        "value" => (3, TargetUnion::Value(key(value))),
        "lease" => (4, TargetUnion::Lease(number())),
        other => panic!("unknown target {other}"),
    };
    pb::Compare {
        result: ["=", ">", "<", "!="].iter().position(|result| *result == words[at]).unwrap() as i32,
        target,
        key: key(words[2]),
        range_end: if at > 3 { key(words[3]) } else { bytes::Bytes::new() },
        target_union: Some(union),
    }
}
