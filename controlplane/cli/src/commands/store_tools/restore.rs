use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use keelstone_backup::{
    archive::{self, Folder, Plan, Target},
    constants::EPOCH_REVISIONS,
    etcd::{import, Epoch, EtcdFile, ImportPlace},
    BackupError,
};
use keelstone_env::Env;
use keelstone_mvcc::{Applied, Mvcc};
use keelstone_store_server::{flags::table, restore_member, InitialMember, StoreConfig};
use time::{format_description::well_known::Rfc3339, OffsetDateTime};

use crate::{commands::store::open_engine, Failure};

#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["file", "from"])))]
pub struct RestoreArguments {
    /// A snapshot file of this store or of etcd 3.4 or later.
    file: Option<PathBuf>,
    /// A backup's folder.
    #[arg(long)]
    from: Option<PathBuf>,
    /// The revision to go back to; the newest one of the backup if neither this nor --to-time is given.
    #[arg(long, requires = "from", conflicts_with = "to_time")]
    to_revision: Option<i64>,
    /// The time to go back to, as 2026-01-31T12:00:00Z.
    #[arg(long, requires = "from")]
    to_time: Option<String>,
    /// Where the member's data goes; must not exist.
    #[arg(long, default_value = "default.etcd")]
    data_dir: PathBuf,
    /// Lay the folder out for `keelstone server` (a whole master) instead of `keelstone store`.
    #[arg(long)]
    for_server: bool,
    /// This member's name; one of --initial-cluster.
    #[arg(long, default_value = "default")]
    name: String,
    /// All members of the new cluster: name=url,name=url,...
    #[arg(long, default_value = "default=http://localhost:2380")]
    initial_cluster: String,
    /// A token that the old cluster did not have gives the new one an id of its own; without it, the one that a start
    /// without the flag has.
    #[arg(long)]
    initial_cluster_token: Option<String>,
    /// Accepted for etcdctl's sake; must be this member's URL in --initial-cluster.
    #[arg(long)]
    initial_advertise_peer_urls: Option<String>,
    /// Accept a file without a checksum, as a copied database is.
    #[arg(long)]
    skip_hash_check: bool,
    /// Added to the restored revision, so that clients never see a revision again.
    #[arg(long)]
    bump_revision: Option<i64>,
    /// Count everything before the new revision as compacted, so that old watches end instead of missing changes.
    #[arg(long)]
    mark_compacted: bool,
    /// Neither raise the revision nor mark anything: for a store that no client has seen.
    #[arg(long, conflicts_with_all = ["bump_revision", "mark_compacted"])]
    keep_revisions: bool,
}

/// What happens to revisions if no flag says it.
#[derive(Clone, Copy)]
pub enum Revisions {
    NewEpoch,
    Kept,
}

/// What is restored.
enum Source {
    File { path: PathBuf, skip_hash_check: bool },
    Moment { folder: Folder, plan: Plan },
}

impl RestoreArguments {
    fn epoch(&self, revisions: Revisions) -> Epoch {
        match (revisions, self.bump_revision, self.mark_compacted) {
            _ if self.keep_revisions => Epoch::default(),
            (Revisions::NewEpoch, None, _) => Epoch { bump_revisions: EPOCH_REVISIONS, mark_compacted: true },
            (_, bump, mark_compacted) => Epoch { bump_revisions: bump.unwrap_or(0), mark_compacted },
        }
    }

    fn target(&self) -> Result<Target, Failure> {
        if let Some(revision) = self.to_revision {
            return Ok(Target::Revision(revision));
        }
        let Some(text) = &self.to_time else { return Ok(Target::Latest) };
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|e| Failure::Usage(format!("--to-time: {e}")))?;
        let unix_ms = time.unix_timestamp_nanos() / 1_000_000;
        u64::try_from(unix_ms).map(Target::Time).map_err(|_| Failure::Usage("--to-time: before 1970".into()))
    }

    fn config(&self, store_dir: &Path) -> Result<StoreConfig, Failure> {
        let members = InitialMember::parse_list(&self.initial_cluster).map_err(|e| Failure::Usage(e.to_string()))?;
        let own = members.iter().find(|member| member.name == self.name);
        let Some(own) = own else {
            return Err(Failure::Usage(format!("--initial-cluster does not name {}", self.name)));
        };
        if self.initial_advertise_peer_urls.as_ref().is_some_and(|url| *url != own.peer_url) {
            let url = &own.peer_url;
            return Err(Failure::Usage(format!(
                "--initial-advertise-peer-urls is not {url}, as --initial-cluster says"
            )));
        }
        let mut config = StoreConfig::new(&self.name, members, store_dir);
        match (&self.initial_cluster_token, self.for_server) {
            (Some(token), _) => config.cluster_token.clone_from(token),
            (None, true) => {}
            (None, false) => config.cluster_token = default_of("initial-cluster-token").to_owned(),
        }
        Ok(config)
    }
}

/// What `keelstone store` takes if the flag is not given.
fn default_of(flag: &str) -> &'static str {
    table::find(flag).map_or("", |flag| flag.default)
}

/// Makes the folder beside its place and gives it its name once it is whole.
pub async fn run(arguments: RestoreArguments, revisions: Revisions) -> Result<(), Failure> {
    let env = Env::os();
    if env.disk().exists(&arguments.data_dir) {
        return Err(Failure::Usage(format!("{} is there already", arguments.data_dir.display())));
    }
    let (target, epoch) = (arguments.target()?, arguments.epoch(revisions));
    let mut part = arguments.data_dir.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let store_dir = if arguments.for_server { part.join("store") } else { part.clone() };
    let config = arguments.config(&store_dir)?;
    let source = source(&env, &arguments, target).await?;
    if env.disk().exists(&part) {
        env.disk().remove_dir_all(&part)?;
    }
    let engine = open_engine(&part)?;
    let fill = move |mvcc: &Mvcc, applied: Applied| source.fill(mvcc, ImportPlace { applied, epoch });
    let restored = restore_member(&env, &config, engine, fill).await;
    let revision = match restored {
        Ok(revision) => revision,
        Err(error) => {
            env.disk().remove_dir_all(&part)?;
            return Err(error.into());
        }
    };
    env.disk().rename(&part, &arguments.data_dir)?;
    if let Some(parent) = arguments.data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        env.disk().sync_dir(parent)?;
    }
    println!("restored at revision {revision} in {}", arguments.data_dir.display());
    Ok(())
}

async fn source(env: &Env, arguments: &RestoreArguments, target: Target) -> Result<Source, Failure> {
    if let Some(path) = arguments.file.clone() {
        return Ok(Source::File { path, skip_hash_check: arguments.skip_hash_check });
    }
    let folder = Folder::new(env, arguments.from.clone().unwrap_or_default());
    let planned = folder.clone();
    let plan = env.offload(move || archive::plan(&planned, target)).await?;
    println!("from the full backup of revision {} and {} log segments", plan.full.revision, plan.segments.len());
    Ok(Source::Moment { folder, plan })
}

impl Source {
    fn fill(&self, mvcc: &Mvcc, place: ImportPlace) -> Result<i64, BackupError> {
        match self {
            Self::File { path, skip_hash_check } => {
                let file = EtcdFile::open(&**Env::os().disk(), path, *skip_hash_check)?;
                import(&file, mvcc, place)
            }
            Self::Moment { folder, plan } => archive::restore(folder, plan, mvcc, place),
        }
    }
}
