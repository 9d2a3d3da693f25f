use crate::append_list::Step;

/// What a client of lists does in its transactions: it reads some of the keys, and appends to half of what it reads.
/// Draws and remembers, and does nothing else. A list is a key's value: its elements, each after a comma.
#[derive(Debug)]
pub struct ListClient {
    id: u32,
    keys: Vec<String>,
    /// A transaction has each key with so many of 100.
    share_percent: u64,
    appended: u64,
}

impl ListClient {
    pub fn new(id: u32, keys: impl IntoIterator<Item = String>, share_percent: u64) -> Self {
        Self { id, keys: keys.into_iter().collect(), share_percent, appended: 0 }
    }

    /// The keys of the next transaction, perhaps none, and whether it appends to each. `below` draws a number below its
    /// argument.
    pub fn next_keys(&self, below: impl Fn(u64) -> u64) -> Vec<(String, bool)> {
        let keys: Vec<&String> = self.keys.iter().filter(|_| below(100) < self.share_percent).collect();
        keys.into_iter().map(|key| (key.clone(), below(100) < 50)).collect()
    }

    /// Notes that `key` was read as `value`, and the element that is appended; returns the value to be written.
    pub fn take(&mut self, key: &str, value: &str, appends: bool, steps: &mut Vec<Step>) -> Option<String> {
        let list = value.split(',').filter_map(|element| element.parse().ok()).collect();
        steps.push(Step::Read { key: key.to_owned(), list });
        appends.then(|| {
            self.appended += 1;
            let element = u64::from(self.id) * 1_000_000 + self.appended;
            steps.push(Step::Append { key: key.to_owned(), element });
            format!("{value},{element}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_reads_back_and_is_unique() {
        let mut client = ListClient::new(2, ["a".to_owned(), "b".to_owned()], 50);
        assert_eq!(client.next_keys(|_| 49), [("a".to_owned(), true), ("b".to_owned(), true)]);
        assert!(client.next_keys(|_| 50).is_empty());
        let mut steps = Vec::new();
        let first = client.take("a", "", true, &mut steps).expect("it appends");
        let second = client.take("a", &first, true, &mut steps).expect("it appends");
        assert_eq!(client.take("a", &second, false, &mut steps), None);
        let list = vec![2_000_001, 2_000_002];
        assert_eq!(steps.last(), Some(&Step::Read { key: "a".into(), list }));
    }
}
