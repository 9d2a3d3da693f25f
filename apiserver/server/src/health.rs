//! `/healthz`, `/livez` and `/readyz`.
//!
//! A master is ready if it can answer from memory and its store member sees a leader. Without a quorum no
//! master is ready, but all are alive and still answer reads from memory: a balancer that finds none ready
//! should go on with those that are alive.

use http::{Response, StatusCode};
use tokio::time::timeout;

use crate::{body::Body, constants::READY_CHECK_TIMEOUT, query::Query, respond, state::State};

/// The name of a check and what is wrong, if something is.
type Outcome = (&'static str, Result<(), String>);

const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

/// The answer to a GET of a health path; `None` if it is none.
pub async fn answer(state: &State, path: &str, query: &Query) -> Option<Response<Body>> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let endpoint = parts.next().filter(|e| ENDPOINTS.contains(e))?;
    let single = parts.next();
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut outcomes = checks(state, endpoint).await;
    if let Some(name) = single {
        outcomes.retain(|(check, _)| *check == name);
        if outcomes.is_empty() {
            return None;
        }
    }
    let verbose = query.find("verbose").is_some();
    Some(render(endpoint, &outcomes, &excluded, verbose))
}

/// True if all checks of `/readyz` pass.
pub async fn is_ready(state: &State) -> bool {
    checks(state, "readyz").await.iter().all(|(_, outcome)| outcome.is_ok())
}

async fn checks(state: &State, endpoint: &str) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = vec![("ping", Ok(()))];
    if endpoint == "readyz" {
        outcomes.push(("etcd", store(state).await));
        outcomes.push(("informer-sync", caches(state)));
        outcomes.push(("poststarthook/bootstrap", bootstrap(state)));
        let stopping = if state.is_stopping() { Err("the server is stopping".into()) } else { Ok(()) };
        outcomes.push(("shutdown", stopping));
    }
    outcomes
}

/// The store member answers and knows a leader.
async fn store(state: &State) -> Result<(), String> {
    match timeout(READY_CHECK_TIMEOUT, state.kv.status()).await {
        Ok(Ok(status)) if status.leader != 0 => Ok(()),
        Ok(Ok(_)) => Err("the store has no leader".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the store does not answer".into()),
    }
}

fn caches(state: &State) -> Result<(), String> {
    let unfilled = state.cacher.unfilled();
    if unfilled.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = unfilled.iter().map(ToString::to_string).collect();
    Err(format!("{} informers not started yet: {}", names.len(), names.join(", ")))
}

fn bootstrap(state: &State) -> Result<(), String> {
    if state.is_bootstrapped() {
        Ok(())
    } else {
        Err("not finished".into())
    }
}

fn render(endpoint: &str, outcomes: &[Outcome], excluded: &[&str], verbose: bool) -> Response<Body> {
    let mut text = String::new();
    let mut failed = false;
    for (name, outcome) in outcomes {
        let line = if excluded.contains(name) {
            format!("[+]{name} excluded: ok\n")
        } else {
            match outcome {
                Ok(()) => format!("[+]{name} ok\n"),
                Err(why) => {
                    failed = true;
                    format!("[-]{name} failed: {why}\n")
                }
            }
        };
        text.push_str(&line);
    }
    for name in excluded.iter().filter(|e| !outcomes.iter().any(|(name, _)| name == *e)) {
        text.push_str(&format!("warn: some health checks cannot be excluded: no matches for {name:?}\n"));
    }
    if failed {
        text.push_str(&format!("{endpoint} check failed\n"));
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, text);
    }
    if !verbose {
        return respond::text(StatusCode::OK, "ok".into());
    }
    text.push_str(&format!("{endpoint} check passed\n"));
    respond::text(StatusCode::OK, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    async fn rendered(outcomes: &[Outcome], excluded: &[&str], verbose: bool) -> (u16, String) {
        let response = render("readyz", outcomes, excluded, verbose);
        let code = response.status().as_u16();
        let text = body::read(response.into_body()).await.unwrap();
        (code, String::from_utf8(text.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn one_failed_check_fails_the_endpoint_unless_excluded() {
        let outcomes: Vec<Outcome> = vec![("ping", Ok(())), ("etcd", Err("no leader".into()))];
        let failed = "[+]ping ok\n[-]etcd failed: no leader\nreadyz check failed\n";
        assert_eq!(rendered(&outcomes, &[], false).await, (500, failed.into()));
        assert_eq!(rendered(&outcomes, &["etcd"], false).await, (200, "ok".into()));
        let verbose = "[+]ping ok\n[+]etcd excluded: ok\nreadyz check passed\n";
        assert_eq!(rendered(&outcomes, &["etcd"], true).await, (200, verbose.into()));
    }
}
