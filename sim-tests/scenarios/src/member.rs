//! Members of the store as every scenario configures and sees them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use keelstone_checkers::{state_hash::StateHashes, Violation};
use keelstone_env::{ClientTls, Random, ServerTls};
use keelstone_mvcc::Mvcc;
use keelstone_raft::{Limits, RaftStatus};
use keelstone_store_server::{InitialMember, PeerTls, RunningStore, StoreConfig};
use keelstone_world::{simulated_certificate, SeededRandom};
use tokio::sync::watch;

use crate::{
    constants::{STORE_CLIENT_PORT, STORE_PEER_PORT},
    simulation::Shared,
};

/// Settings that a seed draws, the same on all members.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    limits: Limits,
    pub self_flush_one_in: u64,
    /// Clients compact now and then.
    pub compacts: bool,
}

impl Knobs {
    pub fn draw(random: &SeededRandom) -> Self {
        let limits = Limits {
            flush_bytes: 2_000 << random.below(8),
            flush_interval: Duration::from_millis(500 + random.below(10_000)),
            kept_entries: [1, 10, 50, 400][random.below(4) as usize],
            segment_bytes_max: 4_096 << random.below(8),
        };
        let self_flush_one_in = [0, 3, 30][random.below(3) as usize];
        Self { limits, self_flush_one_in, compacts: random.chance(50) }
    }
}

/// What is seen of the members from outside.
#[derive(Clone, Default)]
pub struct Members(Arc<Mutex<BTreeMap<String, Member>>>);

#[derive(Clone)]
pub struct Member {
    pub mvcc: Arc<Mvcc>,
    pub status: watch::Receiver<RaftStatus>,
}

impl Members {
    /// The members that have started; the last life of one that is down.
    pub fn all(&self) -> BTreeMap<String, Member> {
        self.0.lock().expect("no panic while locked").clone()
    }

    /// Shows this member from now on, until it fails, which is the error.
    pub async fn follow(&self, name: &str, store: &RunningStore, shared: &Shared) -> turmoil::Result {
        let mut status = store.raft().status_watch();
        let member = Member { mvcc: Arc::clone(store.mvcc()), status: status.clone() };
        self.0.lock().expect("no panic while locked").insert(name.to_owned(), member);
        shared.saw("member_starts");
        let mut led = false;
        loop {
            let now = status.borrow_and_update().clone();
            if let Some(failed) = now.failed {
                return Err(failed.into());
            }
            let leads = now.leader == Some(now.id);
            if leads && !led {
                shared.saw("leaderships");
            }
            led = leads;
            status.changed().await?;
        }
    }

    /// Compares the state hashes of members that have applied the same index.
    pub fn observe(&self, hashes: &mut StateHashes) -> Result<(), Violation> {
        self.all().iter().try_for_each(|(name, member)| {
            let (index, hash) = member.mvcc.state_hash();
            hashes.observe(name, index, hash)
        })
    }
}

/// A member's configuration: peers over TLS with certificates, clients in plaintext.
pub fn config(name: &str, names: &[String], knobs: Knobs) -> StoreConfig {
    let initial = names
        .iter()
        .map(|name| InitialMember { name: name.clone(), peer_url: format!("https://{name}:{STORE_PEER_PORT}") })
        .collect();
    let mut config = StoreConfig::new(name, initial, "/data/store");
    let certificate = simulated_certificate(name, &[]);
    config.listen_client = format!("{name}:{STORE_CLIENT_PORT}");
    config.peer_tls = Some(PeerTls {
        server: ServerTls {
            certificate: certificate.clone(),
            client_ca: Some("the peers' authority".into()),
            client_certificate_required: true,
            ..ServerTls::default()
        },
        client: ClientTls { identity: Some((certificate, String::new())), ..ClientTls::default() },
    });
    config.limits = knobs.limits;
    config
}
