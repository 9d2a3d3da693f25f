//! The addresses behind the `kubernetes` Service: an Endpoints object and EndpointSlices.

use keelstone_machinery::{meta, status::ApiResult};
use serde_json::{json, Value};

use super::{identity::MasterAddress, ApiCaller};

const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const NAME: &str = "kubernetes";
/// Names of slices beyond the first start with this: one for each further port that masters listen on.
const MORE_PREFIX: &str = "kubernetes-";

/// Makes the objects show exactly these masters.
///
/// # Errors
/// The API's; that another master wrote first is none.
pub async fn publish(caller: &ApiCaller, masters: &[MasterAddress]) -> ApiResult<()> {
    if masters.is_empty() {
        return Ok(());
    }
    put(caller, ENDPOINTS, &endpoints(masters), &["subsets"]).await?;
    let slices = slices(masters);
    for slice in &slices {
        put(caller, SLICES, slice, &["endpoints", "ports"]).await?;
    }
    let selector = format!("{SLICES}?labelSelector=kubernetes.io%2Fservice-name%3D{NAME}");
    let list = caller.read(&selector).await?.unwrap_or(Value::Null);
    for stale in list["items"].as_array().into_iter().flatten() {
        let name = meta::name(stale);
        let ours = name.strip_prefix(MORE_PREFIX).is_some_and(|port| port.parse::<u16>().is_ok());
        if ours && !slices.iter().any(|slice| meta::name(slice) == name) {
            caller.delete(&format!("{SLICES}/{name}")).await?;
        }
    }
    Ok(())
}

async fn put(caller: &ApiCaller, collection: &str, wanted: &Value, keys: &[&str]) -> ApiResult<()> {
    let path = format!("{collection}/{}", meta::name(wanted));
    let outcome = match caller.read(&path).await? {
        None => caller.create(collection, wanted).await,
        Some(stored) if keys.iter().all(|key| stored.get(*key) == wanted.get(*key)) => return Ok(()),
        Some(mut stored) => {
            for key in keys {
                stored[*key] = wanted[*key].clone();
            }
            caller.update(&path, &stored).await
        }
    };
    match outcome {
        Err(error) if !error.is_conflict() && !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

fn by_port(masters: &[MasterAddress]) -> Vec<(u16, Vec<String>)> {
    let mut ports: Vec<(u16, Vec<String>)> = Vec::new();
    for master in masters {
        match ports.last_mut().filter(|(port, _)| *port == master.port) {
            Some((_, addresses)) => addresses.push(master.ip.to_string()),
            None => ports.push((master.port, vec![master.ip.to_string()])),
        }
    }
    ports
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": "default"})
}

fn endpoints(masters: &[MasterAddress]) -> Value {
    let subset = |(port, addresses): (u16, Vec<String>)| {
        json!({
            "addresses": addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        })
    };
    let mut metadata = metadata(NAME);
    metadata["labels"] = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
        "subsets": by_port(masters).into_iter().map(subset).collect::<Vec<_>>(),
    })
}

fn slices(masters: &[MasterAddress]) -> Vec<Value> {
    let slice = |(i, (port, addresses)): (usize, (u16, Vec<String>))| {
        let name = if i == 0 { NAME.to_owned() } else { format!("{MORE_PREFIX}{port}") };
        let mut metadata = metadata(&name);
        metadata["labels"] = json!({"kubernetes.io/service-name": NAME});
        let endpoint = |ip: &String| json!({"addresses": [ip], "conditions": {"ready": true}});
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        })
    };
    by_port(masters).into_iter().enumerate().map(slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_grouped_by_their_ports() {
        let master = |ip: &str, port| MasterAddress { ip: ip.parse().unwrap(), port };
        let masters = [master("10.0.0.1", 6443), master("10.0.0.2", 6443), master("10.0.0.1", 6444)];
        let endpoints = endpoints(&masters);
        assert_eq!(endpoints["subsets"][0]["addresses"], json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]));
        assert_eq!(endpoints["subsets"][1]["ports"][0]["port"], 6444);
        let slices = slices(&masters);
        assert_eq!(meta::name(&slices[0]), "kubernetes");
        assert_eq!(meta::name(&slices[1]), "kubernetes-6444");
    }
}
