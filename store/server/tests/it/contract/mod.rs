//! Every row of the contract, with a raw client, on one member and on three. A row that the store does not serve yet
//! is listed as missing; a row that is served wrongly fails the test.

mod auth;
mod client;
mod cluster;
mod errors;
mod http;
mod kv;
mod lease;
mod maintenance;
mod watch;

use futures::future::BoxFuture;

use self::client::Client;
use crate::common::Cluster;

/// What a row says: nothing if it holds, else what was found.
type Checked = Result<(), String>;

/// One row: what must hold, and how that is seen.
pub struct Row {
    name: &'static str,
    check: fn(Client) -> BoxFuture<'static, Checked>,
}

/// Begins the text of a row that the store does not serve.
const MISSING: &str = "missing: ";

/// Declares rows: `rows! { "what holds" => |client| { body that ends in a Checked } ... }`.
macro_rules! rows {
    ($($name:literal => |$client:ident| $body:block)*) => {
        pub fn rows() -> Vec<$crate::contract::Row> {
            vec![$($crate::contract::Row {
                name: $name,
                check: |$client: $crate::contract::client::Client| Box::pin(async move { $body }),
            }),*]
        }
    };
}
pub(crate) use rows;

/// Fails a row unless two values are equal.
macro_rules! same {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) if left == right => {}
            (left, right) => return Err(format!("{}: {left:?}, not {right:?}", stringify!($left))),
        }
    };
}
pub(crate) use same;

/// Fails a row unless a condition holds.
macro_rules! holds {
    ($condition:expr, $($shown:expr),*) => {
        if !$condition {
            return Err(format!("{} does not hold: {:?}", stringify!($condition), ($(&$shown),*)));
        }
    };
}
pub(crate) use holds;

fn all() -> Vec<(&'static str, Vec<Row>)> {
    vec![
        ("KV", kv::rows()),
        ("Watch", watch::rows()),
        ("Lease", lease::rows()),
        ("Cluster", cluster::rows()),
        ("Maintenance", maintenance::rows()),
        ("Auth, lock, election", auth::rows()),
        ("Errors", errors::rows()),
        ("HTTP, health, reflection", http::rows()),
    ]
}

async fn walk(members: usize) {
    let cluster = Cluster::start(members).await;
    let (mut kept, mut missing, mut broken) = (0, Vec::new(), Vec::new());
    for (service, rows) in all() {
        for row in rows {
            let client = Client::new(&cluster).await;
            let time = std::time::Duration::from_secs(30);
            let checked = tokio::time::timeout(time, (row.check)(client)).await;
            match checked.unwrap_or_else(|_| Err("no answer in time".into())) {
                Ok(()) => kept += 1,
                Err(said) if said.starts_with(MISSING) => missing.push(format!("{service}: {}", row.name)),
                Err(said) => broken.push(format!("{service}: {}: {said}", row.name)),
            }
        }
    }
    cluster.stop_all().await;
    println!("contract on {members} member(s): {kept} rows hold, {} are missing", missing.len());
    for row in &missing {
        println!("  missing: {row}");
    }
    assert!(broken.is_empty(), "{} rows are broken on {members} member(s):\n{}", broken.len(), broken.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member() {
    walk(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members() {
    walk(3).await;
}
