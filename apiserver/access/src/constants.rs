//! The bounds of authentication and admission.

/// Tokens that are longer are not looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// A service account token's lifetime in seconds when the request names none.
pub const TOKEN_S_DEFAULT: i64 = 3600;
/// The shortest lifetime in seconds that may be asked for.
pub const TOKEN_S_MIN: i64 = 600;
/// The longest lifetime in seconds that may be asked for.
pub const TOKEN_S_MAX: i64 = 1 << 32;
/// How far, in seconds, the clocks of two masters may differ before a fresh token is refused.
pub const CLOCK_LEEWAY_S: i64 = 60;
/// The lifetime in seconds of the token that is projected into pods: an hour and a little more.
pub const POD_TOKEN_S: i64 = 3607;
/// How long a pod stays on a node that is not ready or not reachable, in seconds, unless it says otherwise.
pub const TOLERATION_S_DEFAULT: i64 = 300;
/// How often, 100 ms apart, admission looks for the service account `default` of a new namespace.
pub const DEFAULT_ACCOUNT_TRIES_MAX: u32 = 10;
pub const DEFAULT_ACCOUNT_WAIT_MS: u64 = 100;
/// Rules in one answer to a SelfSubjectRulesReview.
pub const REVIEW_RULES_MAX: usize = 10_000;
