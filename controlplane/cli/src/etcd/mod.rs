//! `keelstone store`, which a link named `etcd` runs too: a member of the store in etcd's place.

mod notify;
mod run;
mod zap;

pub use run::run;
