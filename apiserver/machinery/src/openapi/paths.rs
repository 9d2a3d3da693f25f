//! Operations of the served resources.

use serde_json::{json, Map, Value};

use crate::codec;
use crate::gvk::{api_version, GroupVersionKind};
use crate::patch;
use crate::resource_info::ResourceInfo;

use super::schemas::{Schemas, Version, PATCH};

const BODY_FORMS: [&str; 3] = [codec::JSON, codec::YAML, codec::PROTOBUF];
const PATCH_FORMS: [&str; 4] =
    [patch::APPLY_PATCH, patch::JSON_PATCH, patch::MERGE_PATCH, patch::STRATEGIC_MERGE_PATCH];

/// A query parameter: name, type, what it does.
type Query = (&'static str, &'static str, &'static str);

const PRETTY: Query = ("pretty", "string", "If 'true', the answer is indented.");
const DRY_RUN: Query = ("dryRun", "string", "With 'All', the request is checked and answered but nothing is stored.");
const FIELD_MANAGER: Query = ("fieldManager", "string", "The name under which the changes are noted in managedFields.");
const FIELD_VALIDATION: Query = (
    "fieldValidation",
    "string",
    "What to do about unknown and duplicate fields: Ignore, Warn (the default) or Strict.",
);
const FORCE: Query = ("force", "boolean", "For apply: take over fields that other managers own.");
const GRACE: Query = ("gracePeriodSeconds", "integer", "Seconds until the object is deleted; 0 deletes at once.");
const PROPAGATION: Query =
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground.");
const LIST: [Query; 10] = [
    ("allowWatchBookmarks", "boolean", "Whether a watch may send BOOKMARK events."),
    ("continue", "string", "The token of the page before."),
    ("fieldSelector", "string", "Only objects with these fields."),
    ("labelSelector", "string", "Only objects with these labels."),
    ("limit", "integer", "The most objects in one page."),
    ("resourceVersion", "string", "The state that is asked for."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: NotOlderThan or Exact."),
    ("sendInitialEvents", "boolean", "Whether a watch begins with the objects that are there."),
    ("timeoutSeconds", "integer", "Seconds after which the call ends."),
    ("watch", "boolean", "Watch for changes instead of listing."),
];

/// One way to call a path.
struct Operation<'a> {
    method: &'static str,
    /// The word that `x-kubernetes-action` and the operation's id have.
    action: &'static str,
    verb: &'static str,
    info: &'a ResourceInfo,
    gvk: GroupVersionKind,
    subresource: &'a str,
    namespaced: bool,
    /// The body's definition: a kind's or the patch's.
    body: Option<String>,
    answer: Option<String>,
    query: Vec<Query>,
}

/// Adds the paths of the resources to `out`, and the types they use to `schemas`.
pub(super) fn add(resources: &[&ResourceInfo], version: Version, schemas: &mut Schemas, out: &mut Map<String, Value>) {
    for info in resources {
        let root = if info.group.is_empty() { "/api" } else { "/apis" };
        let base = format!("{root}/{}", api_version(info.group, info.version));
        let plural = info.plural;
        let collection = if info.namespaced {
            format!("{base}/namespaces/{{namespace}}/{plural}")
        } else {
            format!("{base}/{plural}")
        };
        let item = format!("{collection}/{{name}}");
        let gvk = info.gvk();
        let kind = schemas.add_kind(&gvk);
        insert(out, version, &collection, collection_operations(info, info.namespaced, &kind, schemas));
        if info.namespaced {
            let all = collection_operations(info, false, &kind, schemas);
            let lists = all.into_iter().filter(|o| o.action == "list").collect();
            insert(out, version, &format!("{base}/{plural}"), lists);
        }
        insert(out, version, &item, item_operations(info, "", &gvk, info.verbs, &kind, schemas));
        for sub in info.subresources {
            let gvk = GroupVersionKind::new(sub.group, sub.version, sub.kind);
            let kind = schemas.add_kind(&gvk);
            let mut operations = item_operations(info, sub.name, &gvk, sub.verbs, &kind, schemas);
            if sub.verbs.contains(&"create") {
                operations.push(write(info, "post", "post", "create", sub.name, &gvk, &kind));
            }
            insert(out, version, &format!("{item}/{}", sub.name), operations);
        }
    }
}

fn write<'a>(
    info: &'a ResourceInfo,
    method: &'static str,
    action: &'static str,
    verb: &'static str,
    subresource: &'a str,
    gvk: &GroupVersionKind,
    kind: &Option<String>,
) -> Operation<'a> {
    let (body, answer) = (kind.clone(), kind.clone());
    let query = vec![PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
    Operation {
        method,
        action,
        verb,
        info,
        gvk: gvk.clone(),
        subresource,
        namespaced: info.namespaced,
        body,
        answer,
        query,
    }
}

fn collection_operations<'a>(
    info: &'a ResourceInfo,
    namespaced: bool,
    kind: &Option<String>,
    schemas: &mut Schemas,
) -> Vec<Operation<'a>> {
    let mut out = Vec::new();
    let gvk = info.gvk();
    if info.verbs.contains(&"list") {
        let list = GroupVersionKind { kind: format!("{}List", gvk.kind), ..gvk.clone() };
        let mut query = vec![PRETTY];
        query.extend(LIST);
        let answer = schemas.add_kind(&list);
        let read = write(info, "get", "list", "list", "", &gvk, kind);
        out.push(Operation { namespaced, body: None, answer, query, ..read });
    }
    if info.verbs.contains(&"create") {
        out.push(write(info, "post", "post", "create", "", &gvk, kind));
    }
    if info.verbs.contains(&"deletecollection") {
        let mut query = vec![PRETTY, DRY_RUN, GRACE, PROPAGATION];
        query.extend(LIST.into_iter().filter(|(name, ..)| !["watch", "allowWatchBookmarks"].contains(name)));
        let (body, answer) = delete_bodies(schemas);
        let delete = write(info, "delete", "deletecollection", "deleteCollection", "", &gvk, kind);
        out.push(Operation { body, answer, query, ..delete });
    }
    out
}

fn delete_bodies(schemas: &mut Schemas) -> (Option<String>, Option<String>) {
    let kind = |kind: &str| GroupVersionKind::new("", "v1", kind);
    (schemas.add_kind(&kind("DeleteOptions")), schemas.add_kind(&kind("Status")))
}

fn item_operations<'a>(
    info: &'a ResourceInfo,
    subresource: &'a str,
    gvk: &GroupVersionKind,
    verbs: &[&str],
    kind: &Option<String>,
    schemas: &mut Schemas,
) -> Vec<Operation<'a>> {
    let mut out = Vec::new();
    if verbs.contains(&"get") {
        let read = write(info, "get", "get", "read", subresource, gvk, kind);
        out.push(Operation { body: None, query: vec![PRETTY], ..read });
    }
    if verbs.contains(&"update") {
        out.push(write(info, "put", "put", "replace", subresource, gvk, kind));
    }
    if verbs.contains(&"patch") {
        schemas.add_patch();
        let mut patch = write(info, "patch", "patch", "patch", subresource, gvk, kind);
        patch.body = Some(PATCH.to_owned());
        patch.query.push(FORCE);
        out.push(patch);
    }
    if verbs.contains(&"delete") && subresource.is_empty() {
        let (body, answer) = delete_bodies(schemas);
        let delete = write(info, "delete", "delete", "delete", subresource, gvk, kind);
        out.push(Operation { body, answer, query: vec![PRETTY, DRY_RUN, GRACE, PROPAGATION], ..delete });
    }
    out
}

fn insert(out: &mut Map<String, Value>, version: Version, path: &str, operations: Vec<Operation>) {
    if operations.is_empty() {
        return;
    }
    let mut item = Map::new();
    for operation in &operations {
        item.insert(operation.method.to_owned(), operation.render(version));
    }
    let mut parameters = Vec::new();
    for (name, text) in [("name", "The object's name."), ("namespace", "The object's namespace.")] {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(match version {
                Version::V2 => json!({"name": name, "in": "path", "required": true, "type": "string", "description": text}),
                Version::V3 => json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}, "description": text}),
            });
        }
    }
    if !parameters.is_empty() {
        item.insert("parameters".into(), Value::Array(parameters));
    }
    out.insert(path.to_owned(), Value::Object(item));
}

/// `rbac.authorization.k8s.io` as operation ids name it: `RbacAuthorization`.
fn camel_group(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
    group.split('.').map(capital).collect()
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

impl Operation<'_> {
    fn id(&self) -> String {
        let scope = match (self.namespaced, self.info.namespaced) {
            (true, _) => "Namespaced",
            _ => "",
        };
        let tail =
            if self.action == "list" && self.info.namespaced && !self.namespaced { "ForAllNamespaces" } else { "" };
        format!(
            "{}{}{}{scope}{}{}{tail}",
            self.verb,
            camel_group(self.info.group),
            capital(self.info.version),
            self.info.kind,
            capital(self.subresource)
        )
    }

    fn tag(&self) -> String {
        let group = if self.info.group.is_empty() {
            "core"
        } else {
            self.info.group.strip_suffix(".k8s.io").unwrap_or(self.info.group)
        };
        format!("{}_{}", group.replace('.', "_"), self.info.version)
    }

    fn forms(&self) -> &'static [&'static str] {
        if self.body.as_deref() == Some(PATCH) {
            &PATCH_FORMS
        } else {
            &BODY_FORMS
        }
    }

    fn render(&self, version: Version) -> Value {
        let mut out = json!({
            "operationId": self.id(),
            "tags": [self.tag()],
            "description": format!("{} {}", self.verb, self.info.kind),
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": {
                "group": self.gvk.group, "version": self.gvk.version, "kind": self.gvk.kind,
            },
        });
        match version {
            Version::V2 => self.render_v2(&mut out),
            Version::V3 => self.render_v3(&mut out),
        }
        out
    }

    fn codes(&self) -> &'static [&'static str] {
        match self.method {
            "post" | "put" | "patch" => &["200", "201"],
            _ => &["200"],
        }
    }

    fn render_v2(&self, out: &mut Value) {
        let mut parameters: Vec<Value> = Vec::new();
        if let Some(body) = &self.body {
            let required = self.method != "delete";
            parameters.push(
                json!({"name": "body", "in": "body", "required": required, "schema": Version::V2.reference(body)}),
            );
        }
        for (name, kind, text) in &self.query {
            parameters
                .push(json!({"name": name, "in": "query", "type": kind, "description": text, "uniqueItems": true}));
        }
        out["parameters"] = Value::Array(parameters);
        out["consumes"] = self.forms().iter().copied().collect();
        out["produces"] = BODY_FORMS.into_iter().collect();
        out["schemes"] = json!(["https"]);
        let mut responses = Map::new();
        for code in self.codes() {
            let mut response = json!({"description": if *code == "201" { "Created" } else { "OK" }});
            if let Some(answer) = &self.answer {
                response["schema"] = Version::V2.reference(answer);
            }
            responses.insert((*code).to_owned(), response);
        }
        out["responses"] = Value::Object(responses);
    }

    fn render_v3(&self, out: &mut Value) {
        let content = |forms: &[&str], name: &str| -> Value {
            let schema = Version::V3.reference(name);
            Value::Object(forms.iter().map(|form| ((*form).to_owned(), json!({ "schema": schema }))).collect())
        };
        let parameters = self.query.iter().map(|(name, kind, text)| {
            json!({"name": name, "in": "query", "description": text, "schema": {"type": kind, "uniqueItems": true}})
        });
        out["parameters"] = parameters.collect();
        if let Some(body) = &self.body {
            let forms = if self.body.as_deref() == Some(PATCH) { self.forms() } else { &["*/*"] };
            out["requestBody"] = json!({ "content": content(forms, body) });
            if self.method != "delete" {
                out["requestBody"]["required"] = Value::from(true);
            }
        }
        let mut responses = Map::new();
        for code in self.codes() {
            let mut response = json!({"description": if *code == "201" { "Created" } else { "OK" }});
            if let Some(answer) = &self.answer {
                response["content"] = content(&BODY_FORMS, answer);
            }
            responses.insert((*code).to_owned(), response);
        }
        out["responses"] = Value::Object(responses);
    }
}
