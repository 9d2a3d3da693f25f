use std::sync::Arc;

use keelstone_mvcc::Mvcc;
use keelstone_raft::{RaftNode, RaftStatus};
use keelstone_store_client::EtcdKv;
use tokio::task::JoinHandle;

use crate::{constants::SHUTDOWN_TRANSFER_TIME_MAX, local_kv::LocalKv, member::Member};

/// A running member. Dropping it without [`RunningStore::shutdown`] stops it without the courtesies.
pub struct RunningStore {
    pub(crate) member: Arc<Member>,
    pub(crate) client_address: String,
    pub(crate) peer_address: String,
    /// The client and metrics listeners.
    pub(crate) serving: Vec<JoinHandle<()>>,
    pub(crate) peer_server: JoinHandle<()>,
    pub(crate) background: Vec<JoinHandle<()>>,
}

impl RunningStore {
    /// The store for callers in this process.
    pub fn kv(&self) -> Arc<dyn EtcdKv> {
        Arc::new(LocalKv::new(Arc::clone(&self.member)))
    }

    pub fn raft(&self) -> &RaftNode {
        &self.member.raft
    }

    pub fn mvcc(&self) -> &Arc<Mvcc> {
        &self.member.mvcc
    }

    pub fn status(&self) -> RaftStatus {
        self.member.status()
    }

    pub fn member_id(&self) -> u64 {
        self.member.member_id
    }

    pub fn cluster_id(&self) -> u64 {
        self.member.cluster_id
    }

    /// `ip:port` of the client listener.
    pub fn client_address(&self) -> &str {
        &self.client_address
    }

    /// `ip:port` of the peer listener.
    pub fn peer_address(&self) -> &str {
        &self.peer_address
    }

    /// Waits until this member knows a leader.
    pub async fn wait_for_leader(&self) {
        // An error means that Raft has stopped; every call says so.
        let _ = self.member.status_watch().wait_for(|status| status.leader.is_some()).await;
    }

    /// Waits until this member ended by itself, or the others removed it; says why.
    pub async fn ended(&self) -> String {
        let mut status = self.member.status_watch();
        let failed = status.wait_for(|status| status.failed.is_some()).await;
        failed.ok().and_then(|status| status.failed.clone()).unwrap_or_else(|| "the member has stopped".to_owned())
    }

    /// Hands leadership over, ends streams with `server stopped`, lets calls in flight finish for a short
    /// while, stops Raft and makes the state durable.
    pub async fn shutdown(mut self) {
        self.give_up_leadership().await;
        self.member.stopping.cancel();
        for listener in self.serving.drain(..).chain(self.background.drain(..)) {
            // A panic in a task was logged where it happened.
            let _ = listener.await;
        }
        // The others' calls end before Raft does: none is left to fail inside of it.
        self.member.peers_stopping.cancel();
        let _ = (&mut self.peer_server).await;
        self.member.raft.shutdown().await;
        let mvcc = Arc::clone(&self.member.mvcc);
        if let Err(error) = self.member.env.offload(move || mvcc.flush()).await {
            tracing::error!(%error, "the state could not be made durable; the log holds it");
        }
        tracing::info!(member = format!("{:x}", self.member.member_id), "store member stopped");
    }

    async fn give_up_leadership(&self) {
        let status = self.member.raft.status();
        if !status.is_leader() {
            return;
        }
        for target in status.voters.iter().filter(|id| **id != self.member.member_id) {
            if self.member.hand_over(*target, SHUTDOWN_TRANSFER_TIME_MAX).await {
                return;
            }
        }
    }
}

impl Drop for RunningStore {
    fn drop(&mut self) {
        self.member.stopping.cancel();
        self.member.peers_stopping.cancel();
    }
}
