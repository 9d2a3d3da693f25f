//! The pure core: plans and statuses of pods, by tables and by random histories on a model of a machine.

mod machine;
mod plans;
mod random;
mod statuses;
