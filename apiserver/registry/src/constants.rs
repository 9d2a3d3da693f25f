//! Bounds of the registry.

/// How long an Event lives, in seconds.
pub const EVENT_TTL_S: i64 = 3_600;

/// How many names are tried for a generateName.
pub const GENERATE_NAME_TRIES_MAX: usize = 8;

/// How many random characters follow the prefix of a generated name.
pub const GENERATED_SUFFIX_CHARS: usize = 5;

/// The longest prefix of a generated name, in characters; what is longer is cut.
pub const GENERATED_PREFIX_CHARS_MAX: usize = 63 - GENERATED_SUFFIX_CHARS;

/// How many objects one page of a deletecollection reads.
pub const DELETE_COLLECTION_PAGE_OBJECTS_MAX: usize = 500;

/// How often the filling of the caches is looked at.
pub const READY_POLL: std::time::Duration = std::time::Duration::from_millis(20);
