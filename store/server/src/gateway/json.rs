use bytes::Bytes;
use keelstone_etcd_api::DESCRIPTORS;
use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use tonic::{Code, Status};

/// A gRPC method as its descriptor has it.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub input: MessageDescriptor,
    pub output: MessageDescriptor,
    pub client_streaming: bool,
    pub server_streaming: bool,
}

/// The descriptors of every file of the contract.
///
/// # Errors
/// Never with the embedded ones, which a test reads.
pub(super) fn pool() -> Result<DescriptorPool, prost_reflect::DescriptorError> {
    DescriptorPool::decode(DESCRIPTORS)
}

/// The shape of `package.Service/Method`.
pub(super) fn shape(pool: &DescriptorPool, method: &str) -> Option<Shape> {
    let (service, method) = method.split_once('/')?;
    let service = pool.get_service_by_name(service)?;
    let method = service.methods().find(|found| found.name() == method)?;
    Some(Shape {
        input: method.input(),
        output: method.output(),
        client_streaming: method.is_client_streaming(),
        server_streaming: method.is_server_streaming(),
    })
}

/// Reads one JSON value as a message, in proto3's JSON mapping: both spellings of field names, numbers as
/// numbers or strings, unknown fields ignored.
///
/// # Errors
/// `InvalidArgument` with what is wrong and where. The texts are not those of Go's decoder.
pub(super) fn decode(shape: &MessageDescriptor, text: &[u8]) -> Result<Vec<u8>, Status> {
    let refused = |error: serde_json::Error| Status::invalid_argument(error.to_string());
    let mut value: Value = serde_json::from_slice(text).map_err(refused)?;
    prune(&mut value, shape);
    // What is unknown now is the name of an enumeration's value: an error, as with Go's decoder.
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(shape.clone(), value, &options).map_err(refused)?;
    Ok(message.encode_to_vec())
}

/// Removes the fields that a message does not have. As deep as JSON is read, which is bounded.
fn prune(value: &mut Value, shape: &MessageDescriptor) {
    let Value::Object(fields) = value else { return };
    let field = |name: &str| shape.get_field_by_name(name).or_else(|| shape.get_field_by_json_name(name));
    fields.retain(|name, _| field(name).is_some());
    for (name, value) in fields {
        let Some(Kind::Message(inner)) = field(name).map(|field| field.kind()) else { continue };
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| prune(item, &inner)),
            value => prune(value, &inner),
        }
    }
}

/// Writes a message as etcd's gateway does: names as in the contract, bytes in base64, 64-bit numbers as
/// strings, what has its default value left out.
///
/// # Errors
/// `Internal` if the bytes are no such message.
pub(super) fn encode(shape: &MessageDescriptor, message: Bytes) -> Result<Vec<u8>, Status> {
    let broken = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let message = DynamicMessage::decode(shape.clone(), message).map_err(|error| broken(&error))?;
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(true)
        .use_proto_field_name(true)
        .skip_default_fields(true)
        .use_enum_numbers(false);
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut text);
    message.serialize_with_options(&mut serializer, &options).map_err(|error| broken(&error))?;
    Ok(text)
}

/// The body of a failed call.
pub(super) fn error_body(status: &Status) -> String {
    let message = status.message();
    serde_json::json!({"error": message, "code": i32::from(status.code()), "message": message}).to_string()
}

/// A failure in the middle of a streamed answer, on a line of its own.
pub(super) fn error_line(status: &Status) -> String {
    let http = http_status(status.code());
    let error = serde_json::json!({"error": {
        "grpc_code": i32::from(status.code()),
        "http_code": http.as_u16(),
        "message": status.message(),
        "http_status": http.canonical_reason().unwrap_or_default(),
    }});
    format!("{error}\n")
}

/// The HTTP status of a gRPC code, as grpc-gateway maps them.
pub(super) fn http_status(code: Code) -> http::StatusCode {
    match code {
        Code::Ok => http::StatusCode::OK,
        Code::Cancelled => http::StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => http::StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => http::StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => http::StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => http::StatusCode::CONFLICT,
        Code::PermissionDenied => http::StatusCode::FORBIDDEN,
        Code::Unauthenticated => http::StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => http::StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => http::StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => http::StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => http::StatusCode::INTERNAL_SERVER_ERROR,
    }
}
