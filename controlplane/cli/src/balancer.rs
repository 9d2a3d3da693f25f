//! A small TCP balancer for one machine: hands each connection to a master whose `/readyz` answers 200; if
//! there is none (quorum is lost), to one that answers at all and so can serve from memory. A master that
//! refuses, or does not answer in time (frozen), counts as dead. Connections to a dead master, or to one that
//! is not ready while another is, are cut, so that clients come back through a better one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use keelstone_env::{BoxedIo, ClientTls, Env, TlsConnector};
use tokio::{sync::watch, time::timeout};

use crate::probe::{self, split};

const CHECK_EVERY_MS: u64 = 200;
const CHECK_TIMEOUT_MS: u64 = 600;
/// So many failed checks in a row make a master dead; one good check makes it alive.
const CHECK_FAILURES_MAX: u32 = 2;
const CONNECT_TIMEOUT_MS: u64 = 500;

/// What the balancer needs to know.
pub struct BalancerConfig {
    pub listen: String,
    /// `host:port` of each master's API server.
    pub masters: Vec<String>,
    /// The certificate authority, in PEM.
    pub ca: String,
}

/// Runs until the process ends.
///
/// # Errors
/// If the address cannot be listened on, or the authority cannot be read.
pub async fn run(env: Env, config: BalancerConfig) -> std::io::Result<()> {
    let tls = env.tls().client(&ClientTls { ca: config.ca, identity: None, alpn: vec!["http/1.1".into()] })?;
    let listener = env.net().bind(&config.listen).await?;
    let mut all = BTreeMap::new();
    for master in &config.masters {
        let (sender, receiver) = watch::channel(Health::Dead);
        all.insert(master.clone(), receiver);
        env.spawn(check_forever(env.clone(), tls.clone(), master.clone(), sender));
    }
    let all = Arc::new(all);
    let mut turn = 0_usize;
    loop {
        let (io, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::info!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        turn = turn.wrapping_add(1);
        env.spawn(forward(env.clone(), io, all.clone(), turn));
    }
}

/// What a master's last checks said; better is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Dead,
    /// It answers, but not that it is ready.
    Unready,
    Ready,
}

type Healths = BTreeMap<String, watch::Receiver<Health>>;

async fn check_forever(env: Env, tls: Arc<dyn TlsConnector>, master: String, health: watch::Sender<Health>) {
    let mut failures = CHECK_FAILURES_MAX;
    loop {
        let check = probe::get(&env, &*tls, &master, "/readyz", Duration::from_millis(CHECK_TIMEOUT_MS)).await;
        failures = if matches!(check, Ok((200, _))) { 0 } else { failures.saturating_add(1) };
        let now = match (failures < CHECK_FAILURES_MAX, check) {
            (true, _) => Health::Ready,
            (false, Ok(_)) => Health::Unready,
            (false, Err(_)) => Health::Dead,
        };
        health.send_if_modified(|was| {
            let changed = *was != now;
            if changed {
                tracing::info!(%master, health = ?now, "master changed");
            }
            *was = now;
            changed
        });
        tokio::time::sleep(Duration::from_millis(CHECK_EVERY_MS)).await;
    }
}

/// The masters in the order in which they are tried: the healthiest first, equals in turn.
fn order(all: &Healths, turn: usize) -> Vec<String> {
    let mut order: Vec<(&String, Health)> = all.iter().map(|(master, health)| (master, *health.borrow())).collect();
    let count = order.len().max(1);
    order.rotate_left(turn % count);
    order.sort_by_key(|(_, health)| std::cmp::Reverse(*health));
    order.into_iter().map(|(master, _)| master.clone()).collect()
}

/// Resolves once a connection to `master` is better cut.
async fn outlived(all: &Healths, master: &str) {
    loop {
        tokio::time::sleep(Duration::from_millis(CHECK_EVERY_MS)).await;
        let own = all.get(master).map_or(Health::Dead, |h| *h.borrow());
        let best = all.values().map(|h| *h.borrow()).max().unwrap_or(Health::Dead);
        // While all are dead there is nowhere better to go.
        if own < best {
            return;
        }
    }
}

async fn forward(env: Env, mut client: BoxedIo, all: Arc<Healths>, turn: usize) {
    for master in order(&all, turn) {
        let Ok((host, port)) = split(&master) else { continue };
        let connect = timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), env.net().connect(host, port)).await;
        let Ok(Ok(mut server)) = connect else { continue };
        tokio::select! {
            biased;
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            () = outlived(&all, &master) => {}
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_healthiest_come_first_and_equals_take_turns() {
        let senders: Vec<_> =
            [Health::Unready, Health::Ready, Health::Dead, Health::Ready].into_iter().map(watch::channel).collect();
        let names = ["a", "b", "c", "d"];
        let all: Healths = names.iter().zip(&senders).map(|(name, (_, r))| ((*name).to_owned(), r.clone())).collect();
        assert_eq!(order(&all, 0), ["b", "d", "a", "c"]);
        assert_eq!(order(&all, 2), ["d", "b", "a", "c"]);
    }
}
