//! The bounds of the API machinery; reaching one is an answer to the client, never memory without end.

/// Longest name of a DNS label, and of a label's value.
pub const DNS_LABEL_BYTES_MAX: usize = 63;
/// Longest DNS subdomain name.
pub const DNS_SUBDOMAIN_BYTES_MAX: usize = 253;
/// Longest name part of a qualified name (label keys, annotation keys).
pub const QUALIFIED_NAME_BYTES_MAX: usize = 63;
/// All annotations of one object, keys and values.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Longest name of a service port.
pub const PORT_NAME_BYTES_MAX: usize = 15;
/// Longest field manager name.
pub const FIELD_MANAGER_BYTES_MAX: usize = 128;
/// Operations in one JSON patch.
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;
/// Bytes by which the `copy` operations of one JSON patch may grow the document.
pub const JSON_PATCH_COPY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Nesting of a request body.
pub const BODY_DEPTH_MAX: usize = 120;
/// Bytes of a request body.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Unknown and duplicate fields named in one strict decoding error or warning.
pub const STRICT_ERRORS_MAX: usize = 100;
/// Entries of managedFields by Update managers; older ones are merged beyond it.
pub const UPDATE_MANAGERS_MAX: usize = 10;
/// Characters of a parsed quantity.
pub const QUANTITY_BYTES_MAX: usize = 256;
