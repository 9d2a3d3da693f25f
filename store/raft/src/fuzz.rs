//! Messages of members that somebody has bent: they are read or refused.

use proptest::{collection::vec, option, prelude::*};
use prost::Message;

use crate::{convert, outcome::Outcome, peer};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..4_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()]
}

fn log_id() -> impl Strategy<Value = peer::LogId> {
    (number(), number()).prop_map(|(term, index)| peer::LogId { term, index })
}

fn vote() -> impl Strategy<Value = peer::Vote> {
    (number(), number(), any::<bool>()).prop_map(|(term, node, committed)| peer::Vote { term, node, committed })
}

fn membership() -> impl Strategy<Value = peer::Membership> {
    let voters = vec(number(), 0..4).prop_map(|ids| peer::Voters { ids });
    let member = (number(), ".{0,8}").prop_map(|(id, name)| peer::Member { id, name, ..Default::default() });
    (vec(voters, 0..3), vec(member, 0..4)).prop_map(|(configs, members)| peer::Membership { configs, members })
}

fn body() -> impl Strategy<Value = bytes::Bytes> {
    prop_oneof![
        vec(any::<u8>(), 0..60).prop_map(Into::into),
        membership().prop_map(|membership| membership.encode_to_vec().into()),
    ]
}

fn entry() -> impl Strategy<Value = peer::Entry> {
    (number(), number(), -1..6_i32, body()).prop_map(|(term, index, kind, body)| peer::Entry {
        term,
        index,
        kind,
        body,
    })
}

/// Whatever bytes are, they are read as a message or refused; so is what is made of it.
fn read_all(bytes: &[u8]) {
    let _ = peer::AppendRequest::decode(bytes).map(convert::append_in);
    let _ = peer::AppendResponse::decode(bytes).map(convert::append_result_in);
    let _ = peer::VoteRequest::decode(bytes).map(convert::vote_request_in);
    let _ = peer::VoteResponse::decode(bytes).map(convert::vote_response_in);
    let _ = peer::StoredMembership::decode(bytes).map(convert::stored_membership_in);
    let _ = peer::Outcome::decode(bytes).map(Outcome::from_wire);
}

proptest! {
    #[test]
    fn bent_messages_are_read_or_refused(
        previous in option::of(log_id()),
        entries in vec(entry(), 0..5),
        vote in option::of(vote()),
        leader_commit in option::of(log_id()),
        bends in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let request = peer::AppendRequest { vote, previous, entries, leader_commit };
        let mut bytes = request.encode_to_vec();
        let read = convert::append_in(request);
        if let Ok(read) = &read {
            // What was taken follows on each other, so that the next number exists.
            let last = read.entries.last().map(|entry| entry.log_id.index());
            prop_assert!(last.is_none_or(|last| last < u64::MAX));
        }
        for (at, byte) in bends {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        read_all(&bytes);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn any_answer_is_read_or_unknown(kind in -1..14_i32, body in body()) {
        let _ = Outcome::from_wire(peer::Outcome { kind, body }).into_result();
    }
}
