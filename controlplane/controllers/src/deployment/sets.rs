use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use keelstone_client::Object;
use sha2::{Digest, Sha256};

use super::names::{DESIRED_REPLICAS, HASH_LABEL, MAX_REPLICAS, REVISION};

/// What a Deployment asks for, with the API's defaults filled in.
pub fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1).max(0)
}

pub fn is_rolling(deployment: &Deployment) -> bool {
    let kind = deployment.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    kind != Some("Recreate")
}

/// How many pods there may be above `spec.replicas`; 0 with Recreate.
pub fn max_surge(deployment: &Deployment) -> i32 {
    bounds(deployment).0
}

/// How many of `spec.replicas` may be missing at a time.
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    let (_, unavailable) = bounds(deployment);
    if wanted(deployment) == 0 {
        0
    } else {
        unavailable.min(wanted(deployment))
    }
}

/// Surge rounds up, unavailability down; if both come out as 0, one pod may be unavailable.
fn bounds(deployment: &Deployment) -> (i32, i32) {
    if !is_rolling(deployment) {
        return (0, 0);
    }
    let rolling = deployment.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let of = |value: Option<&IntOrString>, up: bool| match value {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(percent)) => share(percent, wanted(deployment), up),
        None => share("25%", wanted(deployment), up),
    };
    let surge = of(rolling.and_then(|r| r.max_surge.as_ref()), true).max(0);
    let unavailable = of(rolling.and_then(|r| r.max_unavailable.as_ref()), false).max(0);
    if surge == 0 && unavailable == 0 {
        (0, 1)
    } else {
        (surge, unavailable)
    }
}

fn share(percent: &str, of: i32, up: bool) -> i32 {
    let percent = percent.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()).unwrap_or(0);
    let product = percent.saturating_mul(i64::from(of));
    let share = if up { product.saturating_add(99).div_euclid(100) } else { product.div_euclid(100) };
    i32::try_from(share).unwrap_or(i32::MAX)
}

pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The number of pods that the sets ask for together.
pub fn replicas_of<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().map(replicas).fold(0, i32::saturating_add)
}

/// The number of pods that the sets have together.
pub fn actual_of<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().filter_map(|set| Some(set.status.as_ref()?.replicas)).fold(0, i32::saturating_add)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub fn available_of<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().map(available).fold(0, i32::saturating_add)
}

pub fn ready_of<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    let ready = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    sets.into_iter().map(ready).fold(0, i32::saturating_add)
}

/// A set's revision; 0 if it has none.
pub fn revision(set: &ReplicaSet) -> i64 {
    set.annotation(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

/// Oldest first.
pub fn by_age(a: &ReplicaSet, b: &ReplicaSet) -> std::cmp::Ordering {
    let age = |set: &ReplicaSet| (set.metadata.creation_timestamp.clone(), set.name().to_owned());
    age(a).cmp(&age(b))
}

/// A template without the label that tells ReplicaSets apart.
fn bare(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut metadata.labels {
        labels.remove(HASH_LABEL);
    }
    metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
    metadata.annotations = metadata.annotations.take().filter(|annotations| !annotations.is_empty());
    metadata.creation_timestamp = None;
    template
}

/// Whether two templates make the same pods.
pub fn same_template(a: Option<&PodTemplateSpec>, b: Option<&PodTemplateSpec>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => bare(a) == bare(b),
        _ => false,
    }
}

/// The value of [`HASH_LABEL`]: ten letters and digits that no word can be made of. `collisions` is the
/// Deployment's count of hashes that turned out to be taken.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = serde_json::to_vec(&bare(template)).unwrap_or_default();
    let mut hasher = Sha256::new();
    hasher.update(&text);
    if let Some(collisions) = collisions {
        hasher.update(collisions.to_le_bytes());
    }
    let digest = hasher.finalize();
    digest.iter().take(10).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

/// The set whose pods are those of the Deployment's template now: the oldest if there are several.
pub fn find_new<'a>(deployment: &Deployment, sets: &'a [ReplicaSet]) -> Option<&'a ReplicaSet> {
    let same = |set: &&ReplicaSet| same_template(set.spec.template.as_ref(), Some(&deployment.spec.template));
    sets.iter().filter(same).min_by(|a, b| by_age(a, b))
}

pub fn desired_annotation(set: &ReplicaSet) -> Option<i32> {
    set.annotation(DESIRED_REPLICAS)?.parse().ok()
}

pub fn max_annotation(set: &ReplicaSet) -> Option<i32> {
    set.annotation(MAX_REPLICAS)?.parse().ok()
}

/// Sets an annotation; true if it had another value.
pub fn annotate(set: &mut ReplicaSet, key: &str, value: &str) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(key.to_owned(), value.to_owned()).as_deref() != Some(value)
}

/// Writes down what the Deployment asks for, for proportional scaling; true if that changed the set.
pub fn annotate_replicas(set: &mut ReplicaSet, deployment: &Deployment) -> bool {
    let desired = wanted(deployment);
    let max = desired.saturating_add(max_surge(deployment));
    let changed = annotate(set, DESIRED_REPLICAS, &desired.to_string());
    annotate(set, MAX_REPLICAS, &max.to_string()) || changed
}
