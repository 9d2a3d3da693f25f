//! A small TCP balancer for one machine: hands each connection to a master whose `/readyz` answers 200.
//! A master that refuses, or does not answer in time (frozen), is left out, and its connections are cut so
//! that clients come back through another one.

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
    let tls =
        env.tls().client(&ClientTls { ca: config.ca, identity: None, alpn: vec!["http/1.1".into()] })?;
    let listener = env.net().bind(&config.listen).await?;
    let mut alive = BTreeMap::new();
    for master in &config.masters {
        let (sender, receiver) = watch::channel(false);
        alive.insert(master.clone(), receiver);
        env.spawn(check_forever(env.clone(), tls.clone(), master.clone(), sender));
    }
    let alive = Arc::new(alive);
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
        env.spawn(forward(env.clone(), io, alive.clone(), turn));
    }
}

async fn check_forever(env: Env, tls: Arc<dyn TlsConnector>, master: String, alive: watch::Sender<bool>) {
    let mut failures = CHECK_FAILURES_MAX;
    loop {
        let check = probe::get(&env, &*tls, &master, "/readyz", Duration::from_millis(CHECK_TIMEOUT_MS));
        failures = if matches!(check.await, Ok((200, _))) { 0 } else { failures.saturating_add(1) };
        let now = failures < CHECK_FAILURES_MAX;
        alive.send_if_modified(|was| {
            let changed = *was != now;
            if changed {
                tracing::info!(%master, alive = now, "master changed");
            }
            *was = now;
            changed
        });
        tokio::time::sleep(Duration::from_millis(CHECK_EVERY_MS)).await;
    }
}

/// Tries the masters in turn: those alive first; all, if none is (they answer for themselves then).
async fn forward(env: Env, mut client: BoxedIo, alive: Arc<BTreeMap<String, watch::Receiver<bool>>>, turn: usize) {
    let mut order: Vec<(&String, watch::Receiver<bool>)> = alive.iter().map(|(m, a)| (m, a.clone())).collect();
    let count = order.len().max(1);
    order.rotate_left(turn % count);
    order.sort_by_key(|(_, alive)| !*alive.borrow());
    for (master, mut state) in order {
        let Ok((host, port)) = split(master) else { continue };
        let was_alive = *state.borrow();
        let connect = timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), env.net().connect(host, port)).await;
        let Ok(Ok(mut server)) = connect else { continue };
        let died = async move {
            // A master that was dead from the start is left to answer as long as it does.
            if !was_alive || state.wait_for(|alive| !alive).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            () = died => {}
        }
        return;
    }
}
