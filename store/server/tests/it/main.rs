//! The running store: against etcdctl, against a real etcd, with members lost, with TLS. One binary, because
//! linking the store takes longer than these tests.

mod auth;
mod auth_differential;
mod availability;
mod certificates;
mod common;
mod contract;
mod coordination;
mod differential;
mod direct_calls;
#[path = "../../../client/tests/common/mod.rs"]
pub mod etcd;
mod etcdctl;
mod etcdctl_differential;
mod gateway;
mod history;
mod http_and_tls;
mod login;
mod members;
mod requests;
mod snapshots;
mod watches;
mod web;
