use keelstone_machinery::meta;
use serde_json::{json, Value};

/// Which service holds an allocation, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub namespace: String,
    pub name: String,
    /// Seconds since 1970.
    pub since_unix_s: i64,
}

impl Owner {
    pub fn of(service: &Value, now_unix_s: i64) -> Self {
        Self {
            namespace: meta::namespace(service).to_owned(),
            name: meta::name(service).to_owned(),
            since_unix_s: now_unix_s,
        }
    }

    pub fn encode(&self) -> Value {
        json!({"owner": {"namespace": self.namespace, "name": self.name, "since": self.since_unix_s}})
    }

    /// `None` for what is no owner; such an allocation belongs to nobody and is repaired.
    pub fn decode(object: &Value) -> Option<Self> {
        let value = object.get("owner")?;
        Some(Self {
            namespace: value["namespace"].as_str()?.to_owned(),
            name: value["name"].as_str()?.to_owned(),
            since_unix_s: value["since"].as_i64()?,
        })
    }

    pub fn is(&self, service: &Value) -> bool {
        self.namespace == meta::namespace(service) && self.name == meta::name(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_survive_the_store_and_anything_else_is_nobody() {
        let owner = Owner { namespace: "a".into(), name: "b".into(), since_unix_s: 7 };
        assert_eq!(Owner::decode(&owner.encode()), Some(owner));
        assert_eq!(Owner::decode(&json!({})), None);
        assert_eq!(Owner::decode(&json!({"owner": {"name": 1}})), None);
    }
}
