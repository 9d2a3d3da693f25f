use std::ops::Bound;

use bytes::Bytes;

/// A request's `key` and `range_end`: no end means the key alone, a single zero byte means to the last key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeBounds {
    Key(Bytes),
    /// `start <= key < end`; empty if the end is not after the start.
    Range(Bytes, Bytes),
    From(Bytes),
}

impl RangeBounds {
    pub fn new(key: &Bytes, range_end: &Bytes) -> Self {
        match &range_end[..] {
            [] => Self::Key(key.clone()),
            [0] => Self::From(key.clone()),
            _ => Self::Range(key.clone(), range_end.clone()),
        }
    }

    /// What of a range lies at or after `start`.
    pub fn after(&self, start: Bytes) -> Option<Self> {
        match self {
            Self::Key(_) => None,
            Self::Range(_, end) => Some(Self::Range(start, end.clone())),
            Self::From(_) => Some(Self::From(start)),
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(only) => only == key,
            Self::Range(start, end) => &start[..] <= key && key < &end[..],
            Self::From(start) => &start[..] <= key,
        }
    }

    /// The bounds for an ordered map, or `None` if nothing can be inside.
    pub fn as_map_bounds(&self) -> Option<(Bound<Bytes>, Bound<Bytes>)> {
        match self {
            Self::Key(only) => Some((Bound::Included(only.clone()), Bound::Included(only.clone()))),
            Self::Range(start, end) if start < end => {
                Some((Bound::Included(start.clone()), Bound::Excluded(end.clone())))
            }
            Self::Range(..) => None,
            Self::From(start) => Some((Bound::Included(start.clone()), Bound::Unbounded)),
        }
    }
}
