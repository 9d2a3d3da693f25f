//! Segments whose checksums hold, but that no log has written: a checksum says nothing about who made it. They are
//! read or refused, and what is made of them is not larger than they are.

use keelstone_env::Env;
use proptest::{collection::vec, prelude::*};

use crate::{codec, segment, verify, LogEntry, Wal, WalOptions};

#[derive(Clone, Debug)]
enum Piece {
    Entry { index: u64, body: Vec<u8> },
    Vote(Vec<u8>),
    Committed(Vec<u8>),
    Truncate(u64),
    Purge(u64, Vec<u8>),
    Raw(Vec<u8>),
}

fn index() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..8_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()]
}

fn piece() -> impl Strategy<Value = Piece> {
    let bytes = || vec(any::<u8>(), 0..40);
    prop_oneof![
        6 => (index(), bytes()).prop_map(|(index, body)| Piece::Entry { index, body }),
        1 => bytes().prop_map(Piece::Vote),
        1 => bytes().prop_map(Piece::Committed),
        2 => index().prop_map(Piece::Truncate),
        2 => (index(), bytes()).prop_map(|(through, mark)| Piece::Purge(through, mark)),
        1 => bytes().prop_map(Piece::Raw),
    ]
}

fn put(out: &mut Vec<u8>, piece: &Piece) {
    match piece {
        Piece::Entry { index, body } => {
            codec::put_entry(out, &LogEntry { index: *index, term: 1, kind: 1, body: body.clone().into() });
        }
        Piece::Vote(vote) => codec::put_vote(out, vote),
        Piece::Committed(mark) => codec::put_committed(out, mark),
        Piece::Truncate(from) => codec::put_truncate(out, *from),
        Piece::Purge(through, mark) => codec::put_purge(out, *through, mark),
        Piece::Raw(bytes) => out.extend_from_slice(bytes),
    }
}

/// Frames in a segment, each with its checksum.
fn sealed(frames: &[(Vec<Piece>, u64)]) -> Vec<u8> {
    let salt = 7;
    let mut out = codec::encode_header(1, salt);
    for (number, (pieces, synced)) in (0..).zip(frames) {
        let at = codec::begin_frame(&mut out);
        pieces.iter().for_each(|piece| put(&mut out, piece));
        codec::end_frame(&mut out, at, salt, number, *synced);
    }
    out
}

async fn open_and_read(dir: &std::path::Path) {
    let Ok(wal) = Wal::open(Env::os(), WalOptions::new(dir)).await else { return };
    let state = wal.state();
    let Some((last, _)) = state.last else { return };
    // It goes on, unless its numbers are used up.
    if last + 1 == u64::MAX {
        return;
    }
    let (done, flushed) = tokio::sync::oneshot::channel();
    let entry = LogEntry { index: last + 1, term: 1, kind: 1, body: "next".into() };
    wal.append(vec![entry], Box::new(move |result| drop(done.send(result)))).await.unwrap();
    flushed.await.unwrap().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn sealed_nonsense_is_read_or_refused(
        frames in vec((vec(piece(), 0..6), prop_oneof![Just(0), Just(u64::MAX), 0..400_u64]), 0..5),
        bends in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = sealed(&frames);
        for (at, byte) in bends {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let env = Env::os();
        env.disk().write_atomically(&segment::path(dir.path(), 1), &bytes).unwrap();
        let _ = verify(&env, dir.path());
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(open_and_read(dir.path()));
    }
}
