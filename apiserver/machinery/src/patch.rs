//! The three patches that carry no ownership: JSON patch, merge patch, strategic merge patch.

mod json;
mod merge;
mod strategic;

pub use json::json_patch;
pub use merge::merge_patch;
pub use strategic::strategic_merge_patch;

use crate::status::{ApiStatus, Cause, Details};

/// Media types of the patches that PATCH takes.
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const MERGE_PATCH: &str = "application/merge-patch+json";
pub const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";
pub const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// 422 for a patch that does not fit the document.
fn does_not_apply(message: String) -> ApiStatus {
    let cause = Cause { reason: "UnexpectedServerResponse".into(), message, field: "patch".into() };
    ApiStatus::unprocessable("the server rejected our request due to an error in our request")
        .with_details(Details { causes: vec![cause], ..Details::default() })
}
