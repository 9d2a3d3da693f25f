use crate::{
    framework::{Judge, Plugin},
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// Refuses pods that ask for what this scheduler does not look at, rather than placing them wrongly.
pub struct Unsupported;

impl Plugin for Unsupported {
    fn name(&self) -> &'static str {
        "Unsupported"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String> {
        let spec = pod.spec();
        for volume in spec.volumes.iter().flatten() {
            let kind = match volume {
                v if v.persistent_volume_claim.is_some() => "persistentVolumeClaim",
                v if v.ephemeral.is_some() => "ephemeral",
                v if v.csi.is_some() => "csi",
                _ => continue,
            };
            return Err(format!("volume {:?} of type {kind} is not supported by this scheduler", volume.name));
        }
        if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
            return Err("resource claims are not supported by this scheduler".into());
        }
        if spec.scheduling_group.is_some() {
            return Err("scheduling groups are not supported by this scheduler".into());
        }
        Ok(None)
    }
}
