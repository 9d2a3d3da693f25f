use keelstone_machinery::{field::Causes, ResourceInfo};
use serde_json::Value;

/// A column of the `Table` form (API document "Receiving resources as Tables").
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`.
    pub kind: &'static str,
    /// `name` for the Name column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown; 1 only with `-o wide`.
    pub priority: i32,
}

/// What a strategy may know of the request.
#[derive(Clone, Debug, Default)]
pub struct WriteContext {
    /// The wall clock at the request, seconds since 1970.
    pub now_unix_s: i64,
    /// The user's name.
    pub user: String,
    /// `status`, `scale` ... or empty for the main resource.
    pub subresource: String,
}

/// What makes a kind different from the generic create, read, update and delete. One implementation a kind,
/// in `apiserver/resources`. All functions are pure.
pub trait Resource: Send + Sync + 'static {
    fn info(&self) -> &'static ResourceInfo;

    /// Fills defaults, on write and when an older stored object is read.
    fn default(&self, _object: &mut Value) {}

    /// Clears what clients may not set on creation (status), sets what the server sets.
    fn prepare_for_create(&self, _context: &WriteContext, _object: &mut Value) {}

    /// Errors of a new object, beyond metadata's, which the generic code checks.
    fn validate(&self, _object: &Value, _causes: &mut Causes) {}

    /// Resets on `new` what this update may not change: the status for the main resource, all but the
    /// status for `status`.
    fn prepare_for_update(&self, _context: &WriteContext, _new: &mut Value, _old: &Value) {}

    /// Errors of an update; `validate` has run on `new` already.
    fn validate_update(&self, _new: &Value, _old: &Value, _causes: &mut Causes) {}

    /// As `validate_update`, for kinds of which a subresource may change more than an update may: a binding
    /// sets a pod's node.
    fn validate_update_of(&self, _context: &WriteContext, new: &Value, old: &Value, causes: &mut Causes) {
        self.validate_update(new, old, causes);
    }

    /// True if a change from `old` to `new` raises metadata.generation, for kinds that have one.
    fn generation_changes(&self, new: &Value, old: &Value) -> bool {
        new.get("spec") != old.get("spec")
    }

    /// The grace period in seconds with which a deletion of this object is carried out; `None`: at once.
    /// `requested` is DeleteOptions.gracePeriodSeconds.
    fn grace_period_s(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// True if a deletion has to wait although metadata.finalizers is empty: a namespace with spec.finalizers.
    fn deletion_blocked(&self, _object: &Value) -> bool {
        false
    }

    /// Changes an object whose deletion is recorded (deletionTimestamp set) but waits: a namespace's phase.
    fn prepare_for_deletion(&self, _object: &mut Value) {}

    /// True if objects of this kind have metadata.generation: 1 on creation, then as `generation_changes` says.
    fn has_generation(&self) -> bool {
        false
    }

    /// The `conditions` of this object's row in the Table form: a pod that is over is `Completed`.
    fn row_conditions(&self, _object: &Value) -> Vec<Value> {
        Vec::new()
    }

    /// The value of a supported field selector beside metadata.name and metadata.namespace; `None` if the
    /// field is not supported.
    fn field(&self, _object: &Value, _path: &str) -> Option<String> {
        None
    }

    /// The supported field selectors beside metadata.name and metadata.namespace.
    fn fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// For how long an object is kept after its last write, in seconds; `None`: for ever.
    fn ttl_s(&self, _object: &Value) -> Option<i64> {
        (self.info().plural == "events").then_some(crate::constants::EVENT_TTL_S)
    }

    /// True if an update without a resourceVersion replaces whatever is there.
    fn allows_unconditional_update(&self) -> bool {
        true
    }

    /// True if an update of an object that does not exist creates it.
    fn allows_create_on_update(&self) -> bool {
        false
    }

    /// How names are checked: the Kubernetes message if `name` is wrong.
    fn validate_name(&self, name: &str) -> Vec<String> {
        keelstone_machinery::validation::dns1123_subdomain(name)
    }

    /// Columns of the Table form.
    fn columns(&self) -> &'static [Column];

    /// The cells of one row, as many as `columns`.
    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value>;
}
