//! What Deployments and ReplicaSets share: a selector, a pod template, and their rows' cells.

use keelstone_machinery::field::Causes;
use keelstone_machinery::selector::LabelSelector;
use serde_json::Value;

use crate::check;
use crate::columns;
use crate::json::{at, has, int, is_empty, text};
use crate::pod_spec::validate;

/// Rules of replicas, selector and template.
pub fn check_spec(object: &Value, causes: &mut Causes) {
    for field in ["replicas", "minReadySeconds"] {
        check::not_negative(causes, &format!("spec.{field}"), int(object, &format!("spec.{field}")));
    }
    let selector = at(object, "spec.selector");
    if !has(object, "spec.selector") {
        check::required(causes, "spec.selector", "");
    } else {
        check::label_selector(causes, "spec.selector", selector);
        if is_empty(selector, "matchLabels") && is_empty(selector, "matchExpressions") {
            check::invalid(causes, "spec.selector", selector, "empty selector is invalid for deployment");
        }
    }
    match LabelSelector::from_value(selector) {
        Ok(parsed) => check_template(object, &parsed, causes),
        Err(_) => check::invalid(causes, "spec.selector", selector, "invalid label selector"),
    }
}

fn check_template(object: &Value, selector: &LabelSelector, causes: &mut Causes) {
    if !has(object, "spec.template") {
        check::required(causes, "spec.template", "");
        return;
    }
    let template = at(object, "spec.template");
    if !selector.is_everything() && !selector.matches_object(template) {
        let detail = "`selector` does not match template `labels`";
        check::invalid(causes, "spec.template.metadata.labels", at(template, "metadata.labels"), detail);
    }
    validate::template(template, "spec.template", causes);
    let restart_policy = text(template, "spec.restartPolicy");
    check::one_of(causes, "spec.template.spec.restartPolicy", restart_policy, &["Always"]);
    if has(template, "spec.activeDeadlineSeconds") {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        check::forbidden(causes, "spec.template.spec.activeDeadlineSeconds", detail);
    }
}

/// Rules of the counts in a status: none negative, the parts no more than the whole.
pub fn check_status(object: &Value, parts: &[&str], causes: &mut Causes) {
    let total = int(object, "status.replicas").unwrap_or(0);
    check::not_negative(causes, "status.replicas", int(object, "status.replicas"));
    check::not_negative(causes, "status.observedGeneration", int(object, "status.observedGeneration"));
    for part in parts {
        let path = format!("status.{part}");
        let count = int(object, &path);
        check::not_negative(causes, &path, count);
        if count.is_some_and(|count| count > total) {
            check::invalid(causes, &path, at(object, &path), "cannot be greater than status.replicas");
        }
    }
}

/// The cells that `-o wide` adds: containers, images, selector.
pub fn wide_cells(object: &Value) -> [Value; 3] {
    let (names, images) = columns::containers(object, "spec.template.spec.containers");
    [names.into(), images.into(), columns::selector(at(object, "spec.selector")).into()]
}
