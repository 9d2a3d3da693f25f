use bytes::Bytes;
use http::{header, HeaderValue, Response, StatusCode};
use keelstone_machinery::{
    meta,
    status::{ApiResult, ApiStatus},
};
use serde_json::Value;

use super::Call;
use crate::{
    body::{self, Body},
    node_client,
    query::Query,
    respond,
};

/// The parameters that are passed on to the node's agent.
const PASSED_ON: [&str; 8] =
    ["follow", "limitBytes", "previous", "sinceSeconds", "sinceTime", "stream", "tailLines", "timestamps"];

impl Call<'_> {
    /// A container's log, fetched from its node's agent.
    pub(super) async fn log(&self) -> ApiResult<Response<Body>> {
        let pod = self.store.get(self.namespace(), self.name(), "").await?;
        let pod = pod.value();
        let container = container_of(pod, self.context.query.get("container"))?;
        let Some(node_name) = pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|n| !n.is_empty()) else {
            // Nothing runs yet, so nothing was said.
            return Ok(respond::text(StatusCode::OK, String::new()));
        };
        let nodes = self.state.registry.get("", "v1", "nodes").ok_or_else(ApiStatus::no_such_path)?;
        let node = nodes.get("", node_name, "").await?;
        let path = format!("/containerLogs/{}/{}/{container}", self.namespace(), self.name());
        let query = passed_on(&self.context.query);
        let path = if query.is_empty() { path } else { format!("{path}?{query}") };
        let answer = node_client::get(self.state, node.value(), &path).await?;
        agent_answer(answer).await
    }
}

/// The agent's answer as the client sees it: a stream of text, or a Status.
async fn agent_answer(answer: Response<Body>) -> ApiResult<Response<Body>> {
    let code = answer.status();
    if code.is_success() {
        let mut response = answer;
        response.headers_mut().clear();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        return Ok(response);
    }
    let text: Bytes = body::read(answer.into_body()).await?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    Err(match code {
        StatusCode::NOT_FOUND => ApiStatus::new(404, "NotFound", text),
        StatusCode::BAD_REQUEST => ApiStatus::bad_request(text),
        _ => ApiStatus::internal(format!("the node's agent answered {code}: {text}")),
    })
}

fn passed_on(query: &Query) -> String {
    let mut parts = Vec::new();
    for key in PASSED_ON {
        if let Some(value) = query.find(key) {
            let safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let encoded: String =
                value
                    .chars()
                    .map(|c| {
                        if safe(c) {
                            c.to_string()
                        } else {
                            c.to_string().bytes().map(|b| format!("%{b:02X}")).collect()
                        }
                    })
                    .collect();
            parts.push(format!("{key}={encoded}"));
        }
    }
    parts.join("&")
}

/// The container that is meant: the named one, or the only one.
fn container_of(pod: &Value, asked: &str) -> ApiResult<String> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    };
    let (main, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let name = meta::name(pod);
    if asked.is_empty() {
        if let ([only], true, true) = (main.as_slice(), init.is_empty(), ephemeral.is_empty()) {
            return Ok(only.clone());
        }
        let mut text =
            format!("a container name must be specified for pod {name}, choose one of: [{}]", main.join(" "));
        if !init.is_empty() {
            text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
        }
        if !ephemeral.is_empty() {
            text.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
        }
        return Err(ApiStatus::bad_request(text));
    }
    if main.iter().chain(&init).chain(&ephemeral).any(|c| c == asked) {
        return Ok(asked.to_owned());
    }
    Err(ApiStatus::bad_request(format!("container {asked} is not valid for pod {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_is_named_or_the_only_one() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(container_of(&one, "").unwrap(), "a");
        assert_eq!(container_of(&one, "b").unwrap_err().message, "container b is not valid for pod p");
        let two = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}],
        }});
        assert_eq!(container_of(&two, "i").unwrap(), "i");
        let refused = container_of(&two, "").unwrap_err();
        assert_eq!(
            refused.message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }

    #[test]
    fn only_known_parameters_reach_the_agent() {
        let query = Query::parse("follow=true&container=x&sinceTime=2026-01-01T00:00:00%2B01:00&evil=1");
        assert_eq!(passed_on(&query), "follow=true&sinceTime=2026-01-01T00%3A00%3A00%2B01%3A00");
    }
}
