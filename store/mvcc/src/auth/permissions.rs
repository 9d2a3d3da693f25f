use bytes::Bytes;
use keelstone_etcd_api::authpb::{permission::Type, Permission};

/// What is done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// The keys that all roles of a user together let it read and write.
///
/// Worked example: one role may read `[a, c)` and another `[b, e)` and the key `e`. Then `read` is the one
/// range `[a, e\0)`, and a read of `[a, e)` is allowed, though no permission alone covers it; as in etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    read: Ranges,
    write: Ranges,
}

impl Permissions {
    pub fn new<'a>(permissions: impl Iterator<Item = &'a Permission> + Clone) -> Self {
        let of = |types: [Type; 2]| {
            let wanted = permissions.clone().filter(|permission| types.contains(&permission.perm_type()));
            Ranges::union(wanted.map(|permission| Span::new(&permission.key, &permission.range_end)).collect())
        };
        Self { read: of([Type::Read, Type::Readwrite]), write: of([Type::Write, Type::Readwrite]) }
    }

    /// Whether every key from `key` to `range_end` (as in a range request) is covered.
    pub fn allow(&self, access: Access, key: &Bytes, range_end: &Bytes) -> bool {
        let ranges = match access {
            Access::Read => &self.read,
            Access::Write => &self.write,
        };
        ranges.cover(&Span::new(key, range_end))
    }
}

/// Keys from `start` up to but without `end`; no end is beyond the last key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

impl Span {
    fn new(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match &range_end[..] {
            // One key: up to the next possible one.
            [] => Some([key, &[0][..]].concat().into()),
            [0] => None,
            _ => Some(range_end.clone()),
        };
        Self { start: key.clone(), end }
    }

    fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    fn reaches(&self, key: &Bytes) -> bool {
        self.end.as_ref().is_none_or(|end| end >= key)
    }
}

/// Ranges in order that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<Span>);

impl Ranges {
    fn union(mut spans: Vec<Span>) -> Self {
        spans.retain(|span| !span.is_empty());
        spans.sort_by(|a, b| a.start.cmp(&b.start));
        let mut merged: Vec<Span> = Vec::new();
        for span in spans {
            match merged.last_mut() {
                Some(last) if last.reaches(&span.start) => {
                    if span.end.as_ref().is_none_or(|end| !last.reaches(end)) {
                        last.end = span.end;
                    }
                }
                _ => merged.push(span),
            }
        }
        Self(merged)
    }

    /// Whether one range holds all of `span`. A span that ends before it starts holds no key, and is covered
    /// where its start is: as in etcd under one permission; under several, etcd's answer depends on the shape of its
    /// interval tree, which leaves out branches that begin at or after the span's end.
    fn cover(&self, span: &Span) -> bool {
        let after = self.0.partition_point(|range| range.start <= span.start);
        let Some(range) = after.checked_sub(1).and_then(|at| self.0.get(at)) else { return false };
        let starts_inside = range.end.as_ref().is_none_or(|end| *end > span.start);
        let ends_inside = match (&range.end, &span.end) {
            (None, None) => true,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some(range_end), Some(end)) => end <= range_end,
        };
        starts_inside && ends_inside
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permission(perm_type: Type, key: &str, end: &str) -> Permission {
        let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
        Permission { perm_type: perm_type.into(), key, range_end }
    }

    fn allows(permissions: &[Permission], access: Access, key: &str, end: &str) -> bool {
        Permissions::new(permissions.iter()).allow(access, &key.to_owned().into(), &end.to_owned().into())
    }

    #[test]
    fn roles_add_up() {
        let read = [
            permission(Type::Read, "a", "c"),
            permission(Type::Read, "b", "e"),
            permission(Type::Read, "e", ""),
            permission(Type::Write, "x", "\0"),
        ];
        assert!(allows(&read, Access::Read, "a", "e"));
        assert!(allows(&read, Access::Read, "a", "e\0"));
        assert!(!allows(&read, Access::Read, "a", "f"));
        assert!(!allows(&read, Access::Read, "a", "\0"));
        assert!(!allows(&read, Access::Write, "a", ""));
        assert!(allows(&read, Access::Write, "zzz", "\0"));
        assert!(!allows(&read, Access::Read, "x", ""));
        assert!(!allows(&[], Access::Read, "a", ""));
        assert!(allows(&read, Access::Read, "b", "a"), "nothing is read");
        assert!(!allows(&read, Access::Read, "x", "a"));
    }

    proptest! {
        /// A range is allowed if and only if each of its keys is.
        #[test]
        fn a_range_is_allowed_if_all_its_keys_are(
            granted in prop::collection::vec((0..3, "[a-d]{1,2}", "[a-d\\x00]{0,2}"), 0..6),
            start in "[a-d]{1,2}",
            end in "[a-d]{1,2}",
        ) {
            prop_assume!(start < end);
            let permissions: Vec<Permission> = granted
                .iter()
                .map(|(kind, key, end)| permission(Type::try_from(*kind).unwrap(), key, end))
                .collect();
            // Every key of up to three letters that separates any two bounds.
            let letters = ["", "\0", "a", "b", "c", "d"];
            let mut keys = Vec::new();
            for a in letters { for b in letters { for c in letters { keys.push(format!("{a}{b}{c}")); } } }
            for access in [Access::Read, Access::Write] {
                let each = keys
                    .iter()
                    .filter(|key| start <= **key && **key < end)
                    .all(|key| allows(&permissions, access, key, ""));
                prop_assert_eq!(allows(&permissions, access, &start, &end), each);
            }
        }
    }
}
