//! Volumes of the kinds that need no driver: emptyDir, hostPath, configMap, secret, downwardAPI, projected.
//!
//! Files that come from the API are kept as the kubelet keeps them: a folder of one moment, reached through
//! a link that is swapped in one step, so that a container sees the old files or the new, never a mixture.
//!
//! ```text
//! config/..data            -> ..1700000000.12   (swapped atomically)
//! config/..1700000000.12/key
//! config/key               -> ..data/key
//! ```
#![allow(clippy::disallowed_methods)] // links, modes and owners are beyond what Env's disk offers

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::{symlink, PermissionsExt},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex},
};

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume,
};
use keelstone_client::{Client, Object};
use keelstone_env::{Disk, Env};
use serde_json::{json, Value};

use crate::{
    config::AgentConfig,
    fields,
    materials::{self, MaterialError},
    runtime::Mount,
};

/// A projected token is asked for anew once so much of its life has passed.
const TOKEN_REFRESH_PERCENT: i64 = 80;

/// A volume on this node.
#[derive(Clone, Debug)]
pub struct Root {
    pub path: PathBuf,
    /// Whatever the mount says: files from the API are never written by containers.
    pub read_only: bool,
}

/// A file's content and mode, by its path within the volume.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

struct Token {
    text: String,
    refresh_at_unix_s: i64,
}

pub struct Volumes {
    env: Env,
    client: Client,
    config: AgentConfig,
    /// By pod uid, audience and path.
    tokens: Mutex<BTreeMap<(String, String, String), Token>>,
}

impl Volumes {
    pub fn new(env: &Env, client: &Client, config: &AgentConfig) -> Self {
        Self { env: env.clone(), client: client.clone(), config: config.clone(), tokens: Mutex::default() }
    }

    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.config.root_dir.join("pods").join(uid)
    }

    /// Makes a pod's volumes, or brings those that come from the API up to date; returns them by name.
    ///
    /// # Errors
    /// If something that is not optional is missing, or cannot be written.
    pub async fn prepare(&self, pod: &Arc<Pod>, pod_ip: &str) -> Result<BTreeMap<String, Root>, MaterialError> {
        let mut roots = BTreeMap::new();
        for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            roots.insert(volume.name.clone(), self.prepare_one(pod, volume, pod_ip).await?);
        }
        Ok(roots)
    }

    async fn prepare_one(&self, pod: &Arc<Pod>, volume: &Volume, pod_ip: &str) -> Result<Root, MaterialError> {
        let path = self.pod_dir(pod.uid()).join("volumes").join(&volume.name);
        let said = |source| MaterialError::Io { what: format!("volume {}", volume.name), source };
        if let Some(host) = &volume.host_path {
            let path = PathBuf::from(&host.path);
            host_path(&path, host.type_.as_deref().unwrap_or("")).map_err(MaterialError::Missing)?;
            return Ok(Root { path, read_only: false });
        }
        if volume.empty_dir.is_some() {
            let fs_group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
            make_folder(&path, 0o777, fs_group).map_err(said)?;
            return Ok(Root { path, read_only: false });
        }
        let files = self.files(pod, volume, pod_ip).await?;
        write_files(&self.env, &path, &files).map_err(said)?;
        Ok(Root { path, read_only: true })
    }

    async fn files(&self, pod: &Arc<Pod>, volume: &Volume, pod_ip: &str) -> Result<Files, MaterialError> {
        if let Some(source) = &volume.config_map {
            return self.config_map(pod, source).await;
        }
        if let Some(source) = &volume.secret {
            return self.secret(pod, source).await;
        }
        if let Some(source) = &volume.downward_api {
            let mode = mode(source.default_mode);
            return self.downward(pod, source.items.as_deref().unwrap_or_default(), mode, pod_ip);
        }
        match &volume.projected {
            Some(source) => self.projected(pod, source, pod_ip).await,
            None => Err(MaterialError::Missing(format!("volume {} is of a type that this node lacks", volume.name))),
        }
    }

    async fn config_map(&self, pod: &Pod, source: &ConfigMapVolumeSource) -> Result<Files, MaterialError> {
        let found = self.client.namespaced::<k8s_openapi::api::core::v1::ConfigMap>(pod.namespace());
        let found = found.get_opt(&source.name).await?;
        let map = materials::required(found, source.optional, || format!("configmap \"{}\" not found", source.name))?;
        let mut data: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        if let Some(map) = map {
            data.extend(map.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes())));
            data.extend(map.binary_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)));
        }
        pick(data, source.items.as_deref(), mode(source.default_mode), source.optional)
    }

    async fn secret(&self, pod: &Pod, source: &SecretVolumeSource) -> Result<Files, MaterialError> {
        let name = source.secret_name.clone().unwrap_or_default();
        let found =
            self.client.namespaced::<k8s_openapi::api::core::v1::Secret>(pod.namespace()).get_opt(&name).await?;
        let secret = materials::required(found, source.optional, || format!("secret \"{name}\" not found"))?;
        let data = secret.and_then(|s| s.data).unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
        pick(data, source.items.as_deref(), mode(source.default_mode), source.optional)
    }

    fn downward(
        &self,
        pod: &Pod,
        items: &[DownwardAPIVolumeFile],
        mode: u32,
        pod_ip: &str,
    ) -> Result<Files, MaterialError> {
        let mut files = Files::new();
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                fields::pod_field(&self.config, pod, &field.field_path, pod_ip)?
            } else if let (Some(resource), Some(first)) =
                (&item.resource_field_ref, pod.spec.as_ref().and_then(|s| s.containers.first()))
            {
                fields::resource_field(&self.config, pod, first, resource)?
            } else {
                continue;
            };
            let mode = item.mode.map_or(mode, |m| self::mode(Some(m)));
            files.insert(item.path.clone(), (text.into_bytes(), mode));
        }
        Ok(files)
    }

    async fn projected(
        &self,
        pod: &Arc<Pod>,
        source: &ProjectedVolumeSource,
        pod_ip: &str,
    ) -> Result<Files, MaterialError> {
        let default_mode = source.default_mode;
        let mut files = Files::new();
        for part in source.sources.iter().flatten() {
            if let Some(map) = &part.config_map {
                let whole = ConfigMapVolumeSource {
                    name: map.name.clone(),
                    items: map.items.clone(),
                    optional: map.optional,
                    default_mode,
                    ..Default::default()
                };
                files.extend(self.config_map(pod, &whole).await?);
            }
            if let Some(secret) = &part.secret {
                let whole = SecretVolumeSource {
                    secret_name: Some(secret.name.clone()),
                    items: secret.items.clone(),
                    optional: secret.optional,
                    default_mode,
                    ..Default::default()
                };
                files.extend(self.secret(pod, &whole).await?);
            }
            if let Some(downward) = &part.downward_api {
                let items = downward.items.as_deref().unwrap_or_default();
                files.extend(self.downward(pod, items, mode(default_mode), pod_ip)?);
            }
            if let Some(token) = &part.service_account_token {
                let text = self.token(pod, token).await?;
                files.insert(token.path.clone(), (text.into_bytes(), mode(default_mode)));
            }
        }
        Ok(files)
    }

    /// A token bound to the pod, from the TokenRequest API; kept until most of its life has passed.
    async fn token(&self, pod: &Arc<Pod>, wanted: &ServiceAccountTokenProjection) -> Result<String, MaterialError> {
        let audience = wanted.audience.clone().unwrap_or_default();
        let place = (pod.uid().to_owned(), audience.clone(), wanted.path.clone());
        let now = self.env.unix_time_s();
        {
            let tokens = self.tokens.lock().expect("no panic under this lock");
            if let Some(token) = tokens.get(&place).filter(|t| t.refresh_at_unix_s > now) {
                return Ok(token.text.clone());
            }
        }
        let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).unwrap_or_default();
        let life_s = wanted.expiration_seconds.unwrap_or(3600);
        let audiences: Vec<&str> = Some(audience.as_str()).filter(|a| !a.is_empty()).into_iter().collect();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": audiences, "expirationSeconds": life_s,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid()},
            },
        });
        let accounts = self.client.namespaced::<k8s_openapi::api::core::v1::ServiceAccount>(pod.namespace());
        let answer: Value = accounts.create_subresource(&account, "token", &request).await?;
        let text = answer["status"]["token"].as_str().unwrap_or_default().to_owned();
        if text.is_empty() {
            return Err(MaterialError::Missing(format!("no token for service account \"{account}\"")));
        }
        let token = Token { text: text.clone(), refresh_at_unix_s: now + life_s * TOKEN_REFRESH_PERCENT / 100 };
        self.tokens.lock().expect("no panic under this lock").insert(place, token);
        Ok(text)
    }

    /// What every container sees beside its volumes: `/etc/hosts`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn well_known(&self, pod: &Pod, pod_ip: &str) -> Result<Vec<Mount>, MaterialError> {
        let spec = pod.spec.as_ref();
        if spec.and_then(|s| s.host_network).unwrap_or(false) {
            return Ok(Vec::new());
        }
        let mut text = "# Made by the node agent.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n".to_owned();
        if !pod_ip.is_empty() {
            let hostname = materials::sandbox_spec(&self.config, pod, 0).hostname;
            text.push_str(&format!("{pod_ip}\t{hostname}\n"));
        }
        for alias in spec.iter().flat_map(|s| s.host_aliases.iter().flatten()) {
            text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")));
        }
        let path = self.pod_dir(pod.uid()).join("etc-hosts");
        let write = || {
            std::fs::create_dir_all(self.pod_dir(pod.uid()))?;
            std::fs::write(&path, text)
        };
        write().map_err(|source| MaterialError::Io { what: "/etc/hosts".into(), source })?;
        Ok(vec![Mount {
            host_path: path,
            container_path: "/etc/hosts".into(),
            read_only: false,
            propagation: "None".into(),
        }])
    }

    /// A path within a volume; made if it is missing and the volume may be written.
    ///
    /// # Errors
    /// If the path leads out of the volume.
    pub fn sub_path(&self, root: &Root, sub_path: &str) -> Result<PathBuf, MaterialError> {
        if sub_path.is_empty() {
            return Ok(root.path.clone());
        }
        let inside = Path::new(sub_path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(MaterialError::Missing(format!("subPath {sub_path} leads out of its volume")));
        }
        let path = root.path.join(sub_path);
        if !path.exists() && !root.read_only {
            let said = |source| MaterialError::Io { what: format!("subPath {sub_path}"), source };
            make_folder(&path, 0o777, None).map_err(said)?;
        }
        // A link that a container made must not lead out either.
        let real = path.canonicalize().ok().zip(root.path.canonicalize().ok());
        match real {
            Some((real, base)) if real.starts_with(&base) => Ok(real),
            _ => Err(MaterialError::Missing(format!("subPath {sub_path} leads out of its volume"))),
        }
    }

    /// Forgets a pod's volumes and logs; what is on the host's own paths stays.
    pub async fn discard(&self, uid: &str) {
        self.tokens.lock().expect("no panic under this lock").retain(|(pod, _, _), _| pod != uid);
        let dir = self.pod_dir(uid);
        let logs = self.config.root_dir.join("logs");
        let suffix = format!("_{uid}");
        let env = self.env.clone();
        env.offload(move || {
            let _ = std::fs::remove_dir_all(dir);
            for entry in std::fs::read_dir(logs).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().ends_with(&suffix) {
                    let _ = std::fs::remove_dir_all(entry.path());
                }
            }
        })
        .await;
    }
}

fn mode(mode: Option<i32>) -> u32 {
    mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644) & 0o777
}

/// The keys that are asked for, under the paths that are asked for; all of them without `items`.
fn pick(
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    optional: Option<bool>,
) -> Result<Files, MaterialError> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(data.into_iter().map(|(key, value)| (key, (value, default_mode))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.remove(&item.key) {
            Some(value) => {
                files.insert(item.path.clone(), (value, item.mode.map_or(default_mode, |m| mode(Some(m)))));
            }
            None if optional == Some(true) => {}
            None => return Err(MaterialError::Missing(format!("references non-existent config key: {}", item.key))),
        }
    }
    Ok(files)
}

/// Checks, or makes, a path of the host as its type says.
fn host_path(path: &Path, kind: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("hostPath type check failed: {} is not a {what}", path.display()));
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" => std::fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display())),
        "Directory" if !path.is_dir() => wrong("directory"),
        "FileOrCreate" if !path.exists() => {
            let made = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, b""));
            made.map_err(|e| format!("{}: {e}", path.display()))
        }
        "File" if !path.is_file() => wrong("file"),
        _ => Ok(()),
    }
}

fn make_folder(path: &Path, mode: u32, group: Option<i64>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    match group.and_then(|g| u32::try_from(g).ok()) {
        Some(group) => std::os::unix::fs::chown(path, None, Some(group)),
        None => Ok(()),
    }
}

/// Writes `files` so that readers see all of the old ones or all of the new ones.
fn write_files(env: &Env, dir: &Path, files: &Files) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    if unchanged(&**env.disk(), dir, files) {
        return Ok(());
    }
    let moment = format!("..{}.{}", env.unix_time_s(), env.random().below(1_000_000));
    let fresh = dir.join(&moment);
    for (path, (content, mode)) in files {
        let file = fresh.join(path);
        std::fs::create_dir_all(file.parent().unwrap_or(&fresh))?;
        std::fs::write(&file, content)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(*mode))?;
    }
    std::fs::create_dir_all(&fresh)?;
    let old = std::fs::read_link(dir.join("..data")).ok();
    symlink(&moment, dir.join("..data_tmp"))?;
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data"))?;
    let tops: std::collections::BTreeSet<&str> = files.keys().filter_map(|p| p.split('/').next()).collect();
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !tops.contains(name.as_str()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    for top in tops {
        if std::fs::symlink_metadata(dir.join(top)).is_err() {
            symlink(Path::new("..data").join(top), dir.join(top))?;
        }
    }
    old.map_or(Ok(()), |old| std::fs::remove_dir_all(dir.join(old)))
}

fn unchanged(disk: &dyn Disk, dir: &Path, files: &Files) -> bool {
    let data = dir.join("..data");
    let known = std::fs::read_dir(&data).map(|entries| entries.count()).unwrap_or(usize::MAX);
    let tops: std::collections::BTreeSet<&str> = files.keys().filter_map(|p| p.split('/').next()).collect();
    known == tops.len()
        && files.iter().all(|(path, (content, _))| disk.read(&data.join(path)).is_ok_and(|c| c == *content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_swapped_in_one_step_and_old_ones_go() {
        let dir = std::env::temp_dir().join(format!("keelstone-volumes-{}", std::process::id()));
        let files = |list: &[(&str, &str)]| -> Files {
            list.iter().map(|(k, v)| ((*k).to_owned(), (v.as_bytes().to_vec(), 0o600))).collect()
        };
        let env = Env::os();
        write_files(&env, &dir, &files(&[("a", "1"), ("sub/b", "2")])).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("a")).unwrap(), "1");
        assert_eq!(std::fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        write_files(&env, &dir, &files(&[("a", "3")])).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(!dir.join("sub").exists());
        let left = std::fs::read_dir(&dir).unwrap().count();
        assert_eq!(left, 3, "the link, its folder and one name");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_missing_key_is_named_unless_it_is_optional() {
        let items = [KeyToPath { key: "k".into(), path: "p".into(), ..KeyToPath::default() }];
        assert!(pick(BTreeMap::new(), Some(&items), 0o644, None).unwrap_err().to_string().contains('k'));
        assert!(pick(BTreeMap::new(), Some(&items), 0o644, Some(true)).unwrap().is_empty());
    }
}
