use std::collections::BTreeMap;

use crate::{Call, Outcome};

/// What a client of registers asks for next: four of ten calls read, three write, two compare and set what the client
/// knows, one deletes. Draws and remembers, and does nothing else.
#[derive(Debug)]
pub struct RegisterClient {
    id: u32,
    keys: Vec<String>,
    writes: u64,
    /// What was last learned of each key's modification revision.
    known: BTreeMap<String, i64>,
}

impl RegisterClient {
    pub fn new(id: u32, keys: impl IntoIterator<Item = String>) -> Self {
        Self { id, keys: keys.into_iter().collect(), writes: 0, known: BTreeMap::new() }
    }

    /// `below` draws a number below its argument. Every value is written once: it names the client and its write.
    pub fn next_call(&mut self, below: impl Fn(u64) -> u64) -> Call {
        let key = self.keys[below(self.keys.len() as u64) as usize].clone();
        let kind = below(10);
        if kind <= 3 {
            return Call::Read { key };
        }
        self.writes += 1;
        let value = format!("{}-{}", self.id, self.writes);
        match kind {
            4..=6 => Call::Write { key, value },
            7 | 8 => Call::CompareAndSet { expected: self.known.get(&key).copied().unwrap_or(0), key, value },
            _ => Call::Delete { key },
        }
    }

    pub fn learn(&mut self, call: &Call, outcome: &Outcome) {
        let revision = match (call, outcome) {
            (_, Outcome::Read { mod_revision, .. }) => *mod_revision,
            (Call::Delete { .. }, Outcome::Written { .. }) => 0,
            (_, Outcome::Written { revision }) => *revision,
            (_, _) => return,
        };
        self.known.insert(call.key().to_owned(), revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compare_expects_what_was_learned_last_and_values_are_unique() {
        let mut client = RegisterClient::new(3, ["a".to_owned()]);
        let draw = |kind: u64| move |bound: u64| if bound == 10 { kind } else { 0 };
        let expected = |client: &mut RegisterClient| match client.next_call(draw(7)) {
            Call::CompareAndSet { expected, .. } => expected,
            other => panic!("{other:?}"),
        };
        assert_eq!(expected(&mut client), 0);
        let write = client.next_call(draw(5));
        assert_eq!(write, Call::Write { key: "a".into(), value: "3-2".into() });
        client.learn(&write, &Outcome::Unknown { error: String::new() });
        assert_eq!(expected(&mut client), 0, "nothing was learned");
        client.learn(&write, &Outcome::Written { revision: 7 });
        assert_eq!(expected(&mut client), 7);
        let read = client.next_call(draw(0));
        client.learn(&read, &Outcome::Read { value: None, mod_revision: 9, revision: 11 });
        assert_eq!(expected(&mut client), 9);
        client.learn(&Call::Delete { key: "a".into() }, &Outcome::Written { revision: 12 });
        assert_eq!(
            client.next_call(draw(8)),
            Call::CompareAndSet { key: "a".into(), expected: 0, value: "3-6".into() }
        );
    }
}
