//! A bed with members of a target on its hosts.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use keelstone_chaos_bed::{constants::client_address as client_source, Bed, Failure, Host, Outcome};
use keelstone_etcd_api::pb;

use crate::{
    constants::POLL,
    etcd_client::{get, EtcdClient},
    target::{self, Target},
};

/// The suite's own questions come from this client's address, which no fault touches.
const OBSERVER: u32 = 63;
const OBSERVER_CALL_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Cluster {
    pub bed: Bed,
    /// The build that members are started with; a rolling upgrade changes it.
    target: Mutex<Arc<dyn Target>>,
}

impl Cluster {
    pub fn new(bed: Bed, target: Arc<dyn Target>) -> Self {
        Self { bed, target: Mutex::new(target) }
    }

    pub fn target(&self) -> Arc<dyn Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_target(&self, target: Arc<dyn Target>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// The hosts that run members of the store; others are workers.
    pub fn members(&self) -> Vec<Arc<Host>> {
        self.bed.hosts.iter().filter(|h| self.target().is_member(h)).cloned().collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.members().iter().map(|h| h.name.clone()).collect()
    }

    /// The members' addresses, in the order of their names.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        self.members().iter().map(|h| h.address).collect()
    }

    /// # Errors
    /// There is no such host.
    pub fn host(&self, name: &str) -> Outcome<&Arc<Host>> {
        self.bed.host(name).ok_or_else(|| Failure::impossible(format!("no host {name}")))
    }

    /// Starts every host at once: its members form the cluster.
    ///
    /// # Errors
    /// A program cannot be started.
    pub fn form(&self) -> Outcome<()> {
        self.bed.hosts.iter().try_for_each(|host| host.start(&self.target().launch(host, &self.bed.hosts, true)))
    }

    /// Starts one member again, unless it runs.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&self, name: &str) -> Outcome<()> {
        let host = self.host(name)?;
        if host.pid().is_some() {
            return Ok(());
        }
        host.start(&self.target().launch(host, &self.bed.hosts, true))
    }

    /// A client of one member that comes from the address of client number `number`.
    ///
    /// # Errors
    /// There is no such host.
    pub fn client(&self, name: &str, number: u32) -> Outcome<EtcdClient> {
        let address = target::client_address(self.host(name)?);
        Ok(EtcdClient::new(&address, client_source(number), self.target().tls()))
    }

    fn observer(&self, host: &Host) -> EtcdClient {
        let mut client = EtcdClient::new(&target::client_address(host), client_source(OBSERVER), self.target().tls());
        client.call_time_max = OBSERVER_CALL_MAX;
        client
    }

    pub fn observer_of(&self, name: &str) -> Outcome<EtcdClient> {
        Ok(self.observer(self.host(name)?))
    }

    /// The address from which the suite watches.
    pub fn observer_source() -> Ipv4Addr {
        client_source(OBSERVER)
    }

    /// What a member says of itself.
    pub async fn status(&self, name: &str) -> Option<pb::StatusResponse> {
        self.observer(self.host(name).ok()?).status().await.ok()
    }

    /// The member that says that it leads, of the highest term if several do.
    pub async fn leader(&self) -> Option<String> {
        let mut best: Option<(u64, String)> = None;
        for host in self.members() {
            if host.pid().is_none() {
                continue;
            }
            let Some(status) = self.observer(&host).status().await.ok() else { continue };
            let own = status.header.as_ref().map_or(0, |h| h.member_id);
            let leads = status.leader == own && own != 0;
            if leads && best.as_ref().is_none_or(|(term, _)| status.raft_term > *term) {
                best = Some((status.raft_term, host.name.clone()));
            }
        }
        best.map(|(_, name)| name)
    }

    /// Waits until every member answers a linearizable read; how long it took.
    ///
    /// # Errors
    /// [`Failure::Broken`] with the member and its last answer.
    pub async fn wait_ready(&self, limit: Duration) -> Outcome<Duration> {
        let begun = Instant::now();
        for host in self.members() {
            let mut client = self.observer(&host);
            let mut last = String::new();
            loop {
                if begun.elapsed() > limit {
                    let state = host.ended().map_or("it runs".to_owned(), |status| format!("it ended with {status}"));
                    let story = format!("{} does not serve after {limit:?}: {last}; {state}", host.name);
                    return Err(Failure::broken(story));
                }
                let reply = client.range(get("ready")).await;
                match reply.error() {
                    None => break,
                    Some(error) => error.clone_into(&mut last),
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(begun.elapsed())
    }
}
