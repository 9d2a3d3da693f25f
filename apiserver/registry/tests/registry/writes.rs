//! Creations, updates and patches, with the texts that clients see.

use std::sync::Mutex;

use crate::common::{create, request, widget, world};
use async_trait::async_trait;
use keelstone_machinery::{
    meta,
    status::{ApiResult, ApiStatus},
};
use keelstone_registry::{ListParams, NoHook, Operation, PatchRequest, WriteHook, WriteRequest};
use serde_json::{json, Value};

#[tokio::test]
async fn a_new_object_gets_its_system_fields_and_defaults() {
    let w = world().await;
    let mut object = widget("a");
    object["status"] = json!({"phase": "Forged"});
    object["metadata"]["uid"] = "forged".into();
    object["metadata"]["generation"] = 7.into();
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let made = create(&w.widgets, object).await;
    let made = made.value();
    assert_eq!(made["metadata"]["namespace"], "d");
    assert_eq!(meta::uid(made).len(), 36);
    assert!(!meta::creation_timestamp(made).is_empty() && meta::deletion_timestamp(made).is_none());
    assert_eq!((meta::generation(made), &made["spec"]["size"]), (1, &json!(1)));
    assert_eq!(made["status"]["phase"], "New");
    assert_eq!(w.widgets.get("d", "a", "").await.unwrap().value(), made);
}

#[tokio::test]
async fn wrong_objects_are_refused_and_change_nothing() {
    let w = world().await;
    create(&w.widgets, widget("taken")).await;
    let before = w.kv.revision();
    let mut cases: Vec<(Value, u16, &str)> = vec![
        (widget("taken"), 409, "widgets.test.io \"taken\" already exists"),
        (json!([]), 400, "the object provided is not a map"),
    ];
    let mut with = |path: &str, value: Value, code: u16, message: &'static str| {
        let mut object = widget("a");
        let (parent, field) = path.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[field] = value;
        cases.push((object, code, message));
    };
    with("/kind", "Gadget".into(), 400, "the API version in the data (test.io/v1, Kind=Gadget) does not match the expected API version (test.io/v1, Kind=Widget)");
    with(
        "/metadata/namespace",
        "other".into(),
        400,
        "the namespace of the provided object does not match the namespace sent on the request",
    );
    with("/metadata/resourceVersion", "5".into(), 400, "resourceVersion should not be set on objects to be created");
    with(
        "/metadata/name",
        "".into(),
        422,
        "Widget.test.io \"\" is invalid: metadata.name: Required value: name or generateName is required",
    );
    with(
        "/spec/size",
        (-1).into(),
        422,
        "Widget.test.io \"a\" is invalid: spec.size: Invalid value: -1: must be greater than or equal to 0",
    );
    for (object, code, message) in cases {
        let error = w.widgets.create(&request(), "d", object, &NoHook).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (code, message));
    }
    let error = w.widgets.create(&request(), "d", widget("A_b"), &NoHook).await.unwrap_err();
    assert!(error.message.starts_with("Widget.test.io \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": "));
    assert_eq!(w.kv.revision(), before);
}

#[tokio::test]
async fn names_are_generated() {
    let w = world().await;
    let mut object = widget("");
    object["metadata"]["generateName"] = "web-".into();
    let one = create(&w.widgets, object.clone()).await;
    let two = create(&w.widgets, object).await;
    assert!(meta::name(one.value()).starts_with("web-") && meta::name(one.value()).len() == 9);
    assert_ne!(meta::name(one.value()), meta::name(two.value()));
}

#[tokio::test]
async fn updates_keep_what_is_the_servers_and_count_generations() {
    let w = world().await;
    let made = create(&w.widgets, widget("a")).await;
    let mut change = widget("a");
    change["spec"]["size"] = 5.into();
    change["status"] = json!({"phase": "Forged"});
    let updated = w.widgets.update(&request(), "d", "a", change.clone(), &NoHook).await.unwrap();
    assert!(!updated.created);
    let object = updated.object.value();
    assert_eq!((meta::generation(object), &object["status"]["phase"]), (2, &json!("New")));
    assert_eq!(meta::uid(object), meta::uid(made.value()));
    assert_eq!(meta::creation_timestamp(object), meta::creation_timestamp(made.value()));
    // The same again is no write.
    let again = w.widgets.update(&request(), "d", "a", change.clone(), &NoHook).await.unwrap();
    assert_eq!(again.object.revision(), updated.object.revision());
    // The status is changed by its subresource, which changes nothing else.
    change["spec"]["size"] = 9.into();
    change["status"] = json!({"phase": "Ready"});
    let status = WriteRequest { subresource: "status".into(), ..request() };
    let object = w.widgets.update(&status, "d", "a", change, &NoHook).await.unwrap().object;
    let object = object.value();
    assert_eq!((&object["spec"]["size"], &object["status"]["phase"]), (&json!(5), &json!("Ready")));
    assert_eq!(meta::generation(object), 2);
}

#[tokio::test]
async fn updates_are_refused_with_the_texts_that_clients_know() {
    let w = world().await;
    let old = create(&w.widgets, widget("a")).await.into_value();
    let mut newer = old.clone();
    newer["spec"]["size"] = 2.into();
    w.widgets.update(&request(), "d", "a", newer, &NoHook).await.unwrap();
    let before = w.kv.revision();
    let with = |path: &str, value: Value| {
        let mut object = widget("a");
        let (parent, field) = path.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[field] = value;
        object
    };
    let cases = [
        (old.clone(), 409, "Conflict", "Operation cannot be fulfilled on widgets.test.io \"a\": the object has been modified; please apply your changes to the latest version and try again".to_owned()),
        (with("/metadata/uid", "u".into()), 409, "Conflict", format!("Operation cannot be fulfilled on widgets.test.io \"a\": Precondition failed: UID in precondition: u, UID in object meta: {}", meta::uid(&old))),
        (with("/metadata/name", "b".into()), 400, "BadRequest", "the name of the object (b) does not match the name on the URL (a)".to_owned()),
        (with("/metadata/resourceVersion", "x".into()), 422, "Invalid", "Widget.test.io \"a\" is invalid: metadata.resourceVersion: Invalid value: \"x\": must be an unsigned integer".to_owned()),
        (with("/metadata/creationTimestamp", "2020-01-01T00:00:00Z".into()), 422, "Invalid", "Widget.test.io \"a\" is invalid: metadata.creationTimestamp: Invalid value: \"2020-01-01T00:00:00Z\": field is immutable".to_owned()),
    ];
    for (object, code, reason, message) in cases {
        let error = w.widgets.update(&request(), "d", "a", object, &NoHook).await.unwrap_err();
        assert_eq!((error.code, error.reason.as_str(), error.message.as_str()), (code, reason, message.as_str()));
    }
    let error = w.widgets.update(&request(), "d", "none", widget("none"), &NoHook).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (404, "widgets.test.io \"none\" not found"));
    let error = w.widgets.get("d", "a/b", "").await.unwrap_err();
    assert_eq!(error.code, 400);
    assert_eq!(w.kv.revision(), before);
}

#[tokio::test]
async fn some_kinds_want_a_version_or_create_on_update() {
    let w = world().await;
    let node = json!({"metadata": {"name": "n"}, "spec": {}});
    let made = w.nodes.update(&request(), "", "n", node.clone(), &NoHook).await.unwrap();
    assert!(made.created);
    let error = w.nodes.update(&request(), "", "n", node.clone(), &NoHook).await.unwrap_err();
    assert_eq!(
        error.message,
        "Node.test.io \"n\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    );
    let mut named = node;
    named["metadata"]["resourceVersion"] = made.object.revision().to_string().into();
    named["spec"]["x"] = 1.into();
    assert!(!w.nodes.update(&request(), "", "n", named, &NoHook).await.unwrap().created);
}

#[tokio::test]
async fn writes_note_who_owns_which_fields() {
    let w = world().await;
    let made = create(&w.widgets, widget("a")).await;
    let managers = |object: &Value| -> Vec<String> {
        let entries = meta::managed_fields(object).iter();
        entries
            .map(|e| format!("{} {}", e["manager"].as_str().unwrap(), e["subresource"].as_str().unwrap_or("-")))
            .collect()
    };
    assert_eq!(managers(made.value()), ["tests -"]);
    let owned = &meta::managed_fields(made.value())[0]["fieldsV1"];
    assert!(owned["f:spec"]["f:size"].is_object() && owned["f:status"].is_null(), "{owned}");
    let mut change = widget("a");
    change["spec"]["size"] = 7.into();
    let other = WriteRequest { manager: "other".into(), ..request() };
    let updated = w.widgets.update(&other, "d", "a", change, &NoHook).await.unwrap();
    assert!(managers(updated.object.value()).contains(&"other -".to_owned()));
    let mut status = updated.object.into_value();
    status["status"] = json!({"phase": "Ready"});
    let request = WriteRequest { subresource: "status".into(), ..other };
    let written = w.widgets.update(&request, "d", "a", status, &NoHook).await.unwrap();
    assert!(managers(written.object.value()).contains(&"other status".to_owned()));
}

#[tokio::test]
async fn patches_are_made_again_on_newer_states() {
    let w = world().await;
    create(&w.widgets, widget("a")).await;
    let add = |current: Option<&Value>| {
        let mut object = current.cloned().unwrap_or(Value::Null);
        object["spec"]["size"] = (object["spec"]["size"].as_i64().unwrap_or(0) + 1).into();
        Ok(object)
    };
    let patch = PatchRequest { make: &add, apply: false };
    let all = (0..10).map(|_| w.widgets.patch(&REQUEST, "d", "a", &patch, &NoHook));
    for written in futures::future::join_all(all).await {
        written.unwrap();
    }
    assert_eq!(w.widgets.get("d", "a", "").await.unwrap().value()["spec"]["size"], 11);
    let error = w.widgets.patch(&request(), "d", "none", &patch, &NoHook).await.unwrap_err();
    assert_eq!(error.code, 404);
    let versioned = |current: Option<&Value>| {
        let mut object = current.cloned().unwrap_or(Value::Null);
        object["metadata"]["resourceVersion"] = "1".into();
        Ok(object)
    };
    let patch = PatchRequest { make: &versioned, apply: false };
    let error = w.widgets.patch(&request(), "d", "a", &patch, &NoHook).await.unwrap_err();
    assert!(error.is_conflict());
    let make = |_: Option<&Value>| Ok(widget("applied"));
    let patch = PatchRequest { make: &make, apply: true };
    assert!(w.widgets.patch(&request(), "d", "applied", &patch, &NoHook).await.unwrap().created);
}

/// A request that outlives the futures that borrow it.
static REQUEST: WriteRequest =
    WriteRequest { user: String::new(), manager: String::new(), dry_run: false, subresource: String::new() };

#[tokio::test]
async fn a_dry_run_answers_as_if_and_writes_nothing() {
    let w = world().await;
    let dry = WriteRequest { dry_run: true, ..request() };
    let made = w.widgets.create(&dry, "d", widget("a"), &NoHook).await.unwrap();
    assert_eq!(made.value()["spec"]["size"], 1);
    assert_eq!(w.widgets.get("d", "a", "").await.unwrap_err().code, 404);
    create(&w.widgets, widget("a")).await;
    let before = w.kv.revision();
    let mut change = widget("a");
    change["spec"]["size"] = 3.into();
    let updated = w.widgets.update(&dry, "d", "a", change, &NoHook).await.unwrap();
    assert_eq!(updated.object.value()["spec"]["size"], 3);
    assert!(w.widgets.delete(&dry, "d", "a", &Default::default(), &NoHook).await.unwrap().gone);
    assert_eq!(w.kv.revision(), before);
}

/// Adds a label, refuses objects called `no`, and notes what it is told.
#[derive(Default)]
struct Admission {
    told: Mutex<Vec<String>>,
}

impl Admission {
    fn tell(&self, what: &str, operation: Operation) {
        self.told.lock().unwrap().push(format!("{what} {operation:?}"));
    }
}

#[async_trait]
impl WriteHook for Admission {
    async fn mutate(&self, operation: Operation, object: &mut Value, old: Option<&Value>) -> ApiResult<()> {
        assert_eq!(old.is_some(), operation == Operation::Update);
        self.tell("mutate", operation);
        meta::set_label(object, "admitted", Some("yes"));
        Ok(())
    }

    async fn validate(&self, operation: Operation, object: Option<&Value>, old: Option<&Value>) -> ApiResult<()> {
        self.tell("validate", operation);
        let either = object.or(old).unwrap();
        if meta::name(either) == "no" {
            return Err(ApiStatus::new(403, "Forbidden", "not this one"));
        }
        Ok(())
    }

    async fn written(&self, operation: Operation, object: Option<&Value>, old: Option<&Value>) {
        assert!(object.is_some() || old.is_some());
        self.tell("written", operation);
    }
}

#[tokio::test]
async fn admission_changes_and_refuses() {
    let w = world().await;
    let hook = Admission::default();
    let made = w.widgets.create(&request(), "d", widget("a"), &hook).await.unwrap();
    assert_eq!(meta::label(made.value(), "admitted"), Some("yes"));
    assert_eq!(w.widgets.create(&request(), "d", widget("no"), &hook).await.unwrap_err().code, 403);
    let mut change = made.into_value();
    change["spec"]["size"] = 4.into();
    w.widgets.update(&request(), "d", "a", change, &hook).await.unwrap();
    w.widgets.delete(&request(), "d", "a", &Default::default(), &hook).await.unwrap();
    let told = hook.told.into_inner().unwrap();
    for wanted in
        ["mutate Create", "written Create", "mutate Update", "written Update", "validate Delete", "written Delete"]
    {
        assert!(told.iter().any(|t| t == wanted), "{wanted}: {told:?}");
    }
    assert_eq!(told.iter().filter(|t| t.starts_with("written")).count(), 3);
}

#[tokio::test]
async fn scale_reads_and_writes_replicas() {
    let w = world().await;
    let mut object = widget("a");
    object["spec"] = json!({"replicas": 2, "selector": {"matchLabels": {"app": "x"}}});
    create(&w.widgets, object).await;
    let scale = w.widgets.get_scale("d", "a").await.unwrap();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    assert_eq!(scale["status"]["selector"], "app=x");
    let set = |replicas: i64| {
        move |scale: Option<&Value>| {
            let mut scale = scale.cloned().unwrap_or(Value::Null);
            scale["spec"]["replicas"] = replicas.into();
            Ok(scale)
        }
    };
    let (five, wrong) = (set(5), set(-1));
    let change = PatchRequest { make: &five, apply: false };
    let scale = w.widgets.update_scale(&request(), "d", "a", &change, &NoHook).await.unwrap();
    assert_eq!(scale["spec"]["replicas"], 5);
    assert_eq!(meta::generation(w.widgets.get("d", "a", "").await.unwrap().value()), 2);
    let change = PatchRequest { make: &wrong, apply: false };
    let error = w.widgets.update_scale(&request(), "d", "a", &change, &NoHook).await.unwrap_err();
    assert_eq!(
        error.message,
        "Scale.autoscaling \"a\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
}

#[tokio::test]
async fn lists_take_selectors() {
    let w = world().await;
    for (name, size) in [("a", 1), ("b", 2), ("c", 2)] {
        let mut object = widget(name);
        object["spec"]["size"] = size.into();
        object["metadata"]["labels"] = json!({"name": name});
        create(&w.widgets, object).await;
    }
    let list = |namespace: &'static str, label: &str, field: &str| {
        let params = ListParams { label_selector: label.into(), field_selector: field.into(), ..ListParams::default() };
        let widgets = w.widgets.clone();
        async move {
            let page = widgets.list(namespace, &params).await?;
            Ok::<_, ApiStatus>(page.objects.iter().map(|o| meta::name(o.value()).to_owned()).collect::<String>())
        }
    };
    assert_eq!(list("", "", "").await.unwrap(), "abc");
    assert_eq!(list("other", "", "").await.unwrap(), "");
    assert_eq!(list("d", "name!=a", "").await.unwrap(), "bc");
    assert_eq!(list("d", "", "spec.size=2").await.unwrap(), "bc");
    assert_eq!(list("d", "", "metadata.name=b").await.unwrap(), "b");
    assert_eq!(list("", "", "metadata.name=b,metadata.namespace=d").await.unwrap(), "b");
    assert_eq!(list("d", "name=a", "metadata.name=b").await.unwrap(), "");
    assert_eq!(list("d", "", "metadata.name!=b").await.unwrap(), "ac");
    let error = list("d", "", "spec.color=red").await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (400, "field label not supported: spec.color"));
    assert_eq!(list("d", "a in", "").await.unwrap_err().code, 400);
}

#[tokio::test]
async fn list_parameters_are_checked() {
    let w = world().await;
    let with = |f: fn(&mut ListParams)| {
        let mut params = ListParams::default();
        f(&mut params);
        params
    };
    for (params, code, text) in [
        (
            with(|p| p.resource_version_match = "Exact".into()),
            422,
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            with(|p| {
                p.resource_version_match = "Exact".into();
                p.resource_version = "0".into()
            }),
            422,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            with(|p| {
                p.resource_version_match = "Odd".into();
                p.resource_version = "1".into()
            }),
            422,
            "Unsupported value: \"Odd\"",
        ),
        (with(|p| p.send_initial_events = Some(true)), 422, "sendInitialEvents is forbidden for list"),
        (with(|p| p.resource_version = "x".into()), 400, "resourceVersion"),
        (with(|p| p.limit = -1), 400, "limit"),
        (with(|p| p.continue_token = "x".into()), 400, "continue key is not valid"),
        (
            with(|p| {
                p.continue_token = "x".into();
                p.resource_version = "5".into()
            }),
            400,
            "specifying resource version is not allowed when using continue",
        ),
        (with(|p| p.resource_version = "99999".into()), 504, "Too large resource version"),
    ] {
        let error = w.widgets.list("d", &params).await.unwrap_err();
        assert_eq!(error.code, code, "{}", error.message);
        assert!(error.message.contains(text), "{}", error.message);
    }
    for (params, text) in [
        (
            with(|p| p.resource_version_match = "NotOlderThan".into()),
            "forbidden for watch unless sendInitialEvents is provided",
        ),
        (
            with(|p| p.send_initial_events = Some(true)),
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
    ] {
        let Err(error) = w.widgets.watch("d", &params).await else { panic!("accepted") };
        assert_eq!(error.code, 422);
        assert!(error.message.contains(text), "{}", error.message);
    }
    assert!(w.registry.unready().is_empty());
}
