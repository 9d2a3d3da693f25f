//! THE binary: every part of a Keelstone cluster is a subcommand of it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // the outermost leaf

mod balancer;
mod kubeconfig;
mod pki;

fn main() {}
