use http::header;
use keelstone_machinery::{
    codec,
    gvk::GroupVersionKind,
    meta, schema,
    schema::FieldValidation,
    status::{ApiResult, ApiStatus},
};
use serde_json::Value;

use crate::context::Context;

/// The parameter `fieldValidation`.
///
/// # Errors
/// 422 for an unknown value.
pub(super) fn field_validation(context: &Context) -> ApiResult<FieldValidation> {
    let text = context.query.get("fieldValidation");
    FieldValidation::parse(text).ok_or_else(|| {
        ApiStatus::unprocessable(format!(
            "fieldValidation: Unsupported value: {text:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
        ))
    })
}

/// Reads the body of a create or update: the object and what there is to warn of.
///
/// # Errors
/// 400, 413, 415; 400 for unknown fields where the request is strict.
pub(super) fn object(context: &Context, body: &[u8], gvk: &GroupVersionKind) -> ApiResult<(Value, Vec<String>)> {
    let content_type = context.header(header::CONTENT_TYPE);
    let validation = field_validation(context)?;
    let decoded = codec::decode(content_type, body, Some(gvk))?;
    let mut object = decoded.object;
    // A body of another kind is refused by the registry, in its own words.
    let same = meta::kind(&object) == gvk.kind && meta::api_version(&object) == gvk.api_version();
    let warnings =
        if same { schema::check_fields(gvk, &mut object, &decoded.duplicates, validation)? } else { Vec::new() };
    Ok((object, warnings))
}

/// Reads a body whose kind must be the given one: reviews, bindings, scales.
///
/// # Errors
/// As [`object`], and 400 for another kind.
pub(super) fn exactly(context: &Context, body: &[u8], gvk: &GroupVersionKind) -> ApiResult<(Value, Vec<String>)> {
    let (object, warnings) = object(context, body, gvk)?;
    if meta::kind(&object) != gvk.kind {
        return Err(ApiStatus::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): got {}",
            gvk.kind,
            meta::kind(&object)
        )));
    }
    Ok((object, warnings))
}
