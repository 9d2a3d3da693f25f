//! How many keys exist, by bucket.
//!
//! The key space is cut into buckets of neighbouring keys, each known by its first possible key (its fence) and
//! the number of keys that exist in it. The buckets are the leaves of a B-tree whose inner nodes hold sums, so that
//! the number of keys before a bucket is found on one way down. Nodes are shared between versions of the tree:
//! a clone is O(1) and a change copies one way down. With `BUCKET_KEYS_MAX` = 4:
//!
//! ```text
//! keys    a b c d | e f g | k l m n          buckets ""=4  "e"=3  "h"=4
//! keys before "l" = 4 + 3 + (keys in "h" .. "l", counted in the engine: 1) = 8
//! ```

use std::sync::Arc;

use bytes::Bytes;

use crate::constants::{BUCKET_KEYS_MAX, COUNT_NODE_SLOTS_MAX};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The first key that would belong here.
    pub fence: Bytes,
    pub keys: u32,
}

/// What a change did to the buckets; each is a row to write.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The bucket that was changed.
    pub fence: Bytes,
    pub keys: u32,
    /// The fence of a bucket that was merged into it.
    pub removed: Option<Bytes>,
}

#[derive(Clone)]
enum Node {
    Leaf(Vec<Bucket>),
    Inner(Vec<Child>),
}

#[derive(Clone)]
struct Child {
    fence: Bytes,
    keys: u64,
    node: Arc<Node>,
}

/// A tree of buckets. There is always one whose fence is the empty key.
#[derive(Clone)]
pub struct KeyCounts {
    root: Arc<Node>,
}

impl Default for KeyCounts {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(vec![Bucket { fence: Bytes::new(), keys: 0 }])) }
    }
}

impl KeyCounts {
    /// From buckets in order; the first has the empty fence.
    pub fn load(&mut self, bucket: Bucket) {
        self.edit(&bucket.fence.clone(), |buckets, at| {
            if buckets[at].fence == bucket.fence {
                buckets[at] = bucket;
            } else {
                buckets.insert(at + 1, bucket);
            }
        });
    }

    pub fn total(&self) -> u64 {
        self.root.keys()
    }

    /// The bucket that `key` belongs to, and the number of keys in those before it.
    pub fn locate(&self, key: &[u8]) -> (&Bucket, u64) {
        let mut before = 0;
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(buckets) => {
                    let at = position(buckets, key, |bucket| &bucket.fence);
                    before += buckets[..at].iter().map(|bucket| u64::from(bucket.keys)).sum::<u64>();
                    return (&buckets[at], before);
                }
                Node::Inner(children) => {
                    let at = position(children, key, |child| &child.fence);
                    before += children[..at].iter().map(|child| child.keys).sum::<u64>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// A key has begun to exist. If its bucket then holds more than [`BUCKET_KEYS_MAX`], it should be split.
    pub fn born(&mut self, key: &[u8]) -> Changed {
        self.edit(key, |buckets, at| {
            buckets[at].keys = buckets[at].keys.saturating_add(1);
            Changed { fence: buckets[at].fence.clone(), keys: buckets[at].keys, removed: None }
        })
    }

    /// A key has ceased to exist. Its bucket may take in the next one.
    pub fn gone(&mut self, key: &[u8]) -> Changed {
        self.edit(key, |buckets, at| {
            buckets[at].keys = buckets[at].keys.saturating_sub(1);
            let next = buckets.get(at + 1).map_or(u32::MAX, |next| next.keys);
            let both = buckets[at].keys.saturating_add(next);
            let removed = (both as usize <= BUCKET_KEYS_MAX / 2).then(|| buckets.remove(at + 1).fence);
            if removed.is_some() {
                buckets[at].keys = both;
            }
            Changed { fence: buckets[at].fence.clone(), keys: buckets[at].keys, removed }
        })
    }

    /// Cuts the bucket that `fence` lies in: the keys from `fence` on, so many, become the next one.
    pub fn split(&mut self, fence: &Bytes, keys: u32) -> Changed {
        self.edit(fence, |buckets, at| {
            buckets[at].keys = buckets[at].keys.saturating_sub(keys);
            buckets.insert(at + 1, Bucket { fence: fence.clone(), keys });
            Changed { fence: buckets[at].fence.clone(), keys: buckets[at].keys, removed: None }
        })
    }

    fn edit<T>(&mut self, key: &[u8], edit: impl FnOnce(&mut Vec<Bucket>, usize) -> T) -> T {
        let (result, right) = change(&mut self.root, key, edit);
        if let Some(right) = right {
            let left = Child { fence: Bytes::new(), keys: self.root.keys(), node: Arc::clone(&self.root) };
            self.root = Arc::new(Node::Inner(vec![left, right]));
        }
        result
    }
}

/// The last one whose fence is not after `key`. The first one's never is.
fn position<T>(slots: &[T], key: &[u8], fence: impl Fn(&T) -> &Bytes) -> usize {
    slots.partition_point(|slot| fence(slot)[..] <= *key).saturating_sub(1)
}

/// Edits the leaf of `key` below `node`; returns the right half if the node had to be cut in two.
fn change<T>(node: &mut Arc<Node>, key: &[u8], edit: impl FnOnce(&mut Vec<Bucket>, usize) -> T) -> (T, Option<Child>) {
    match Arc::make_mut(node) {
        Node::Leaf(buckets) => {
            let at = position(buckets, key, |bucket| &bucket.fence);
            let result = edit(buckets, at);
            let right = cut(buckets).map(|right| Child {
                fence: right[0].fence.clone(),
                keys: right.iter().map(|bucket| u64::from(bucket.keys)).sum(),
                node: Arc::new(Node::Leaf(right)),
            });
            (result, right)
        }
        Node::Inner(children) => {
            let at = position(children, key, |child| &child.fence);
            let (result, right) = change(&mut children[at].node, key, edit);
            children[at].keys = children[at].node.keys();
            if let Some(right) = right {
                children.insert(at + 1, right);
            }
            let right = cut(children).map(|right| Child {
                fence: right[0].fence.clone(),
                keys: right.iter().map(|child| child.keys).sum(),
                node: Arc::new(Node::Inner(right)),
            });
            (result, right)
        }
    }
}

fn cut<T>(slots: &mut Vec<T>) -> Option<Vec<T>> {
    (slots.len() > COUNT_NODE_SLOTS_MAX).then(|| slots.split_off(slots.len() / 2))
}

impl Node {
    fn keys(&self) -> u64 {
        match self {
            Self::Leaf(buckets) => buckets.iter().map(|bucket| u64::from(bucket.keys)).sum(),
            Self::Inner(children) => children.iter().map(|child| child.keys).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u32) -> Bytes {
        format!("{number:08}").into()
    }

    /// A tree beside the keys that it counts.
    #[derive(Clone, Default)]
    struct Counted {
        counts: KeyCounts,
        keys: BTreeSet<Bytes>,
    }

    impl Counted {
        fn insert(&mut self, new: Bytes) {
            if !self.keys.insert(new.clone()) {
                return;
            }
            let changed = self.counts.born(&new);
            if changed.keys as usize > BUCKET_KEYS_MAX {
                let half = changed.keys / 2;
                let fence = self.keys.range(changed.fence..).nth(half as usize).unwrap().clone();
                self.counts.split(&fence, changed.keys - half);
            }
        }

        fn remove(&mut self, old: &Bytes) {
            if self.keys.remove(old) {
                self.counts.gone(old);
            }
        }

        fn check(&self, key: &Bytes) {
            let (bucket, before) = self.counts.locate(key);
            assert!(bucket.fence <= *key && bucket.keys as usize <= BUCKET_KEYS_MAX);
            let inside = self.keys.range(bucket.fence.clone()..key.clone()).count();
            assert_eq!(before as usize + inside, self.keys.range(..key.clone()).count());
            assert_eq!(self.counts.total() as usize, self.keys.len());
        }
    }

    #[test]
    fn many_keys_in_order_and_away_again() {
        let mut counted = Counted::default();
        (0..100_000).for_each(|i| counted.insert(key(i)));
        let clone = counted.clone();
        [0, 1, 77_777, 99_999, 100_000].into_iter().for_each(|i| counted.check(&key(i)));
        (0..100_000).rev().for_each(|i| counted.remove(&key(i)));
        assert_eq!((counted.counts.total(), clone.counts.total()), (0, 100_000));
        counted.check(&key(5));
        clone.check(&key(50_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn counts_are_those_of_a_set(steps in proptest::collection::vec((0..4000u32, 0..600u32, any::<bool>()), 1..40)) {
            let mut counted = Counted::default();
            for (from, many, insert) in steps {
                for i in from..from + many {
                    if insert { counted.insert(key(i)) } else { counted.remove(&key(i)) }
                }
                counted.check(&key(from));
                counted.check(&key(from + many / 2));
            }
        }
    }
}
