//! What pods and pod templates share: defaults, validation, images, quality of service.

pub mod defaults;
pub mod image;
pub mod qos;
pub mod validate;
