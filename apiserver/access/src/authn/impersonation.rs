use keelstone_machinery::status::{ApiResult, ApiStatus};

use crate::{
    user::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, SERVICE_ACCOUNTS},
    Attributes, User,
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Reads the `Impersonate-*` headers (names in lower case). `None` if there are none.
///
/// # Errors
/// 400 if groups, uid or extra come without a user.
pub fn impersonated_user<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> ApiResult<Option<User>> {
    let mut user = User::default();
    let mut any = false;
    for (name, value) in headers {
        match name {
            USER => user.name = value.to_owned(),
            UID => user.uid = value.to_owned(),
            GROUP => user.groups.push(value.to_owned()),
            name => match name.strip_prefix(EXTRA) {
                Some(key) => user.extra.entry(percent_decode(key)).or_default().push(value.to_owned()),
                None => continue,
            },
        }
        any = true;
    }
    if !any {
        return Ok(None);
    }
    if user.name.is_empty() {
        let asked = format!("requested {user:?} without impersonating a user name");
        return Err(ApiStatus::internal(asked));
    }
    Ok(Some(user))
}

/// What the real user must be allowed before acting as `wanted`.
pub fn impersonation_checks(real: &User, wanted: &User) -> Vec<Attributes> {
    let mut checks = Vec::new();
    let check = |group: &str, resource: &str, namespace: &str, name: &str| {
        Attributes::resource(real, "impersonate", group, resource, namespace, name)
    };
    match wanted.service_account_name() {
        Some((namespace, name)) => checks.push(check("", "serviceaccounts", namespace, name)),
        None => checks.push(check("", "users", "", &wanted.name)),
    }
    checks.extend(wanted.groups.iter().map(|group| check("", "groups", "", group)));
    if !wanted.uid.is_empty() {
        checks.push(check("authentication.k8s.io", "uids", "", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        for value in values {
            let mut one = check("authentication.k8s.io", "userextras", "", value);
            one.subresource = key.clone();
            checks.push(one);
        }
    }
    checks
}

impl User {
    /// Adds the groups that a user has without naming them.
    pub fn with_implied_groups(mut self) -> Self {
        if self.groups.is_empty() {
            if let Some((namespace, _)) = self.service_account_name() {
                self.groups = vec![SERVICE_ACCOUNTS.into(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
            }
        }
        let implied = if self.name == ANONYMOUS { ALL_UNAUTHENTICATED } else { ALL_AUTHENTICATED };
        self.add_group(implied);
        self
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
