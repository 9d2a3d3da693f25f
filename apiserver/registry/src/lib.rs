//! See docs/architecture.md for what this crate is.
mod resource;
pub use resource::{Column, Resource, WriteContext};
