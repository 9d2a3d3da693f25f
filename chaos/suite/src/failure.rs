pub use keelstone_chaos_bed::{Failure, Outcome};
