//! The v2 document's protobuf form: the messages of package `openapi.v2` that clients read, and their making
//! from the JSON form.

use prost::Message;
use serde_json::Value;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Document {
    #[prost(string, tag = "1")]
    pub swagger: String,
    #[prost(message, optional, tag = "2")]
    pub info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    pub paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    pub definitions: Option<NamedSchemas>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub title: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Paths {
    #[prost(message, repeated, tag = "2")]
    pub path: Vec<NamedPathItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedPathItem {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<PathItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PathItem {
    #[prost(message, optional, tag = "2")]
    pub get: Option<Operation>,
    #[prost(message, optional, tag = "3")]
    pub put: Option<Operation>,
    #[prost(message, optional, tag = "4")]
    pub post: Option<Operation>,
    #[prost(message, optional, tag = "5")]
    pub delete: Option<Operation>,
    #[prost(message, optional, tag = "8")]
    pub patch: Option<Operation>,
    #[prost(message, repeated, tag = "9")]
    pub parameters: Vec<ParametersItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Operation {
    #[prost(string, repeated, tag = "1")]
    pub tags: Vec<String>,
    #[prost(string, tag = "3")]
    pub description: String,
    #[prost(string, tag = "5")]
    pub operation_id: String,
    #[prost(string, repeated, tag = "6")]
    pub produces: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    pub consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    pub parameters: Vec<ParametersItem>,
    #[prost(message, optional, tag = "9")]
    pub responses: Option<Responses>,
    #[prost(string, repeated, tag = "10")]
    pub schemes: Vec<String>,
    #[prost(message, repeated, tag = "13")]
    pub vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    pub parameter: Option<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Parameter {
    #[prost(message, optional, tag = "1")]
    pub body_parameter: Option<BodyParameter>,
    #[prost(message, optional, tag = "2")]
    pub non_body_parameter: Option<NonBodyParameter>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BodyParameter {
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub r#in: String,
    #[prost(bool, tag = "4")]
    pub required: bool,
    #[prost(message, optional, tag = "5")]
    pub schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NonBodyParameter {
    #[prost(message, optional, tag = "3")]
    pub query: Option<QueryParameter>,
    #[prost(message, optional, tag = "4")]
    pub path: Option<PathParameter>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryParameter {
    #[prost(bool, tag = "1")]
    pub required: bool,
    #[prost(string, tag = "2")]
    pub r#in: String,
    #[prost(string, tag = "3")]
    pub description: String,
    #[prost(string, tag = "4")]
    pub name: String,
    #[prost(string, tag = "6")]
    pub r#type: String,
    #[prost(bool, tag = "20")]
    pub unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PathParameter {
    #[prost(bool, tag = "1")]
    pub required: bool,
    #[prost(string, tag = "2")]
    pub r#in: String,
    #[prost(string, tag = "3")]
    pub description: String,
    #[prost(string, tag = "4")]
    pub name: String,
    #[prost(string, tag = "5")]
    pub r#type: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Responses {
    #[prost(message, repeated, tag = "1")]
    pub response_code: Vec<NamedResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedResponseValue {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<ResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseValue {
    #[prost(message, optional, tag = "1")]
    pub response: Option<Response>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(string, tag = "1")]
    pub description: String,
    #[prost(message, optional, tag = "2")]
    pub schema: Option<SchemaItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SchemaItem {
    #[prost(message, optional, tag = "1")]
    pub schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedSchemas {
    #[prost(message, repeated, tag = "1")]
    pub additional_properties: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedSchema {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Schema {
    #[prost(string, tag = "1")]
    pub reference: String,
    #[prost(string, tag = "2")]
    pub format: String,
    #[prost(string, tag = "4")]
    pub description: String,
    #[prost(message, optional, tag = "5")]
    pub default: Option<Any>,
    #[prost(string, repeated, tag = "19")]
    pub required: Vec<String>,
    #[prost(message, repeated, tag = "20")]
    pub r#enum: Vec<Any>,
    #[prost(message, optional, boxed, tag = "21")]
    pub additional_properties: Option<Box<AdditionalPropertiesItem>>,
    #[prost(message, optional, tag = "22")]
    pub r#type: Option<TypeItem>,
    #[prost(message, optional, tag = "23")]
    pub items: Option<ItemsItem>,
    #[prost(message, optional, tag = "25")]
    pub properties: Option<NamedSchemas>,
    #[prost(message, repeated, tag = "31")]
    pub vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AdditionalPropertiesItem {
    #[prost(message, optional, boxed, tag = "1")]
    pub schema: Option<Box<Schema>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeItem {
    #[prost(string, repeated, tag = "1")]
    pub value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ItemsItem {
    #[prost(message, repeated, tag = "1")]
    pub schema: Vec<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedAny {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Any>,
}

/// A value as YAML, of which JSON is a part.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "2")]
    pub yaml: String,
}

/// Turns the JSON form into messages.
pub(super) fn document(json: &Value) -> Document {
    Document {
        swagger: text(json, "swagger"),
        info: json.get("info").map(|info| Info { title: text(info, "title"), version: text(info, "version") }),
        paths: Some(Paths {
            path: entries(json, "paths")
                .map(|(name, item)| NamedPathItem { name: name.clone(), value: Some(path_item(item)) })
                .collect(),
        }),
        definitions: Some(named_schemas(json, "definitions")),
    }
}

fn text(json: &Value, key: &str) -> String {
    json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(json: &Value, key: &str) -> bool {
    json.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn texts(json: &Value, key: &str) -> Vec<String> {
    items(json, key).filter_map(Value::as_str).map(str::to_owned).collect()
}

fn items<'a>(json: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    json.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn entries<'a>(json: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    json.get(key).and_then(Value::as_object).into_iter().flatten()
}

fn any(value: &Value) -> Any {
    Any { yaml: format!("{value}\n") }
}

fn extensions(json: &Value) -> Vec<NamedAny> {
    let all = json.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"));
    all.map(|(name, value)| NamedAny { name: name.clone(), value: Some(any(value)) }).collect()
}

fn named_schemas(json: &Value, key: &str) -> NamedSchemas {
    let all = entries(json, key).map(|(name, value)| NamedSchema { name: name.clone(), value: Some(schema(value)) });
    NamedSchemas { additional_properties: all.collect() }
}

fn schema(json: &Value) -> Schema {
    Schema {
        reference: text(json, "$ref"),
        format: text(json, "format"),
        description: text(json, "description"),
        default: json.get("default").map(any),
        required: texts(json, "required"),
        r#enum: items(json, "enum").map(any).collect(),
        additional_properties: json
            .get("additionalProperties")
            .map(|value| Box::new(AdditionalPropertiesItem { schema: Some(Box::new(schema(value))) })),
        r#type: json.get("type").and_then(Value::as_str).map(|name| TypeItem { value: vec![name.to_owned()] }),
        items: json.get("items").map(|value| ItemsItem { schema: vec![schema(value)] }),
        properties: json.get("properties").map(|_| named_schemas(json, "properties")),
        vendor_extension: extensions(json),
    }
}

fn path_item(json: &Value) -> PathItem {
    let method = |name: &str| json.get(name).map(operation);
    PathItem {
        get: method("get"),
        put: method("put"),
        post: method("post"),
        delete: method("delete"),
        patch: method("patch"),
        parameters: items(json, "parameters").map(parameter).collect(),
    }
}

fn operation(json: &Value) -> Operation {
    Operation {
        tags: texts(json, "tags"),
        description: text(json, "description"),
        operation_id: text(json, "operationId"),
        produces: texts(json, "produces"),
        consumes: texts(json, "consumes"),
        parameters: items(json, "parameters").map(parameter).collect(),
        responses: Some(Responses {
            response_code: entries(json, "responses")
                .map(|(name, value)| NamedResponseValue { name: name.clone(), value: Some(response(value)) })
                .collect(),
        }),
        schemes: texts(json, "schemes"),
        vendor_extension: extensions(json),
    }
}

fn response(json: &Value) -> ResponseValue {
    let schema = json.get("schema").map(|value| SchemaItem { schema: Some(schema(value)) });
    ResponseValue { response: Some(Response { description: text(json, "description"), schema }) }
}

fn parameter(json: &Value) -> ParametersItem {
    let (name, place, required) = (text(json, "name"), text(json, "in"), flag(json, "required"));
    let (kind, description) = (text(json, "type"), text(json, "description"));
    let parameter = match place.as_str() {
        "body" => Parameter {
            body_parameter: Some(BodyParameter { name, r#in: place, required, schema: json.get("schema").map(schema) }),
            non_body_parameter: None,
        },
        "path" => Parameter {
            body_parameter: None,
            non_body_parameter: Some(NonBodyParameter {
                query: None,
                path: Some(PathParameter { required, r#in: place, description, name, r#type: kind }),
            }),
        },
        _ => {
            let unique_items = flag(json, "uniqueItems");
            let query = QueryParameter { required, r#in: place, description, name, r#type: kind, unique_items };
            Parameter {
                body_parameter: None,
                non_body_parameter: Some(NonBodyParameter { query: Some(query), path: None }),
            }
        }
    };
    ParametersItem { parameter: Some(parameter) }
}
