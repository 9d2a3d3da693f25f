use keelstone_machinery::status::{ApiResult, ApiStatus};

/// How an answer's bytes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// Which view of the objects is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Table,
    /// PartialObjectMetadata, or a list of them.
    Partial,
}

/// The media types that objects can be sent as.
pub const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    pub encoding: Encoding,
    pub form: Form,
}

/// One clause of an Accept header.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause<'a> {
    pub media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    pub fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(k, _)| *k == name).map_or("", |(_, v)| *v)
    }
}

/// The clauses of an Accept header, most wanted first; those with quality 0 are left out.
pub fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept
        .split(',')
        .filter_map(|text| {
            let mut parts = text.split(';').map(str::trim);
            let media_type = parts.next().filter(|m| !m.is_empty())?;
            let parameters: Vec<_> =
                parts.filter_map(|p| p.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect();
            let quality = parameters.iter().find(|(k, _)| *k == "q").map_or(1.0, |(_, v)| v.parse().unwrap_or(0.0));
            (quality > 0.0).then_some(Clause { media_type, parameters, quality })
        })
        .collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

/// Picks the form of an answer. Without an Accept header it is JSON. JSON is preferred to protobuf even where
/// the client names protobuf first, because objects are kept as JSON.
///
/// # Errors
/// 406 if nothing that the client accepts can be made.
pub fn negotiate(accept: &str, table: bool) -> ApiResult<Negotiated> {
    if accept.trim().is_empty() {
        return Ok(Negotiated { encoding: Encoding::Json, form: Form::Object });
    }
    let offered: Vec<Negotiated> = clauses(accept).iter().filter_map(|c| offer(c, table)).collect();
    let first = offered.first().copied();
    match first {
        Some(Negotiated { encoding: Encoding::Protobuf, form }) => {
            let json = offered.iter().find(|o| o.encoding == Encoding::Json && o.form == form);
            Ok(json.copied().or(first).unwrap_or(Negotiated { encoding: Encoding::Json, form }))
        }
        Some(other) => Ok(other),
        None => Err(ApiStatus::not_acceptable(&ACCEPTED)),
    }
}

fn offer(clause: &Clause<'_>, table: bool) -> Option<Negotiated> {
    let encoding = match clause.media_type {
        "application/json" | "*/*" | "application/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
        _ => return None,
    };
    let form = match (clause.parameter("as"), clause.parameter("g"), clause.parameter("v")) {
        ("", _, _) => Form::Object,
        ("Table", "meta.k8s.io", "v1" | "v1beta1") if table => Form::Table,
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") if table => {
            Form::Partial
        }
        _ => return None,
    };
    // Tables and partial objects have no protobuf form here.
    (encoding != Encoding::Protobuf || form == Form::Object).then_some(Negotiated { encoding, form })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(accept: &str) -> Option<(Encoding, Form)> {
        negotiate(accept, true).ok().map(|n| (n.encoding, n.form))
    }

    #[test]
    fn what_clients_send_is_understood() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(pick(table), Some((Encoding::Json, Form::Table)));
        assert_eq!(pick(""), Some((Encoding::Json, Form::Object)));
        assert_eq!(pick("*/*"), Some((Encoding::Json, Form::Object)));
        assert_eq!(pick("application/yaml"), Some((Encoding::Yaml, Form::Object)));
        assert_eq!(pick("application/vnd.kubernetes.protobuf,application/json"), Some((Encoding::Json, Form::Object)));
        assert_eq!(pick("application/vnd.kubernetes.protobuf"), Some((Encoding::Protobuf, Form::Object)));
        let partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(pick(partial), Some((Encoding::Json, Form::Partial)));
        assert_eq!(pick("application/json;q=0.1, application/yaml"), Some((Encoding::Yaml, Form::Object)));
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        assert_eq!(negotiate("text/html", true).unwrap_err().code, 406);
        assert_eq!(negotiate("application/json;as=Table;g=example.com;v=v1", true).unwrap_err().code, 406);
        assert_eq!(negotiate("application/json;q=0", true).unwrap_err().code, 406);
    }
}
