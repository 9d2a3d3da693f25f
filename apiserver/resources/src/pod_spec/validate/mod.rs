//! Validation of pods and pod templates.

use keelstone_machinery::field::Causes;
use serde_json::Value;

/// The errors of a pod, beyond its metadata's.
pub fn pod(_pod: &Value, _causes: &mut Causes) {}

/// The errors of a pod template at `path`.
pub fn template(_template: &Value, _path: &str, _causes: &mut Causes) {}
