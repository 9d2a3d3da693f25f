//! See docs/architecture.md for what this crate is.
