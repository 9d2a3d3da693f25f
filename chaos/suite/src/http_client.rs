pub use keelstone_chaos_cluster::http_client::*;
