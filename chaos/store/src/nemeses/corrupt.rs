//! Damaged files of one stopped member. It may notice and refuse to start, which is right; or start and be repaired by
//! the others; it must never serve what it should not. At the end it gets back the one file, if it has not written to it
//! since; all others stay as they are, also if it refused to go on. It may have started and told the others what it has
//! in its log before it found the damage: with its whole disk as it was before, it would break that word.
//!
//! A log that lacks its tail looks like a crash during a write, so a member cannot tell. That is harmless only while all
//! the others have what was cut off: this acts alone, after a moment of rest.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use keelstone_chaos_bed::{shell, Failure, Outcome};
use rand::Rng;

use super::{dice, resolve, Damaged, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault, target::Part};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit.
    Flip,
    /// The end of the file is missing.
    Truncate,
}

#[derive(Debug)]
pub struct Corrupt {
    pub damage: Damage,
    pub part: Part,
}

/// How long a member has to notice.
const NOTICE: Duration = Duration::from_secs(3);

fn kept(data: &Path) -> PathBuf {
    data.with_extension("kept")
}

#[async_trait]
impl Nemesis for Corrupt {
    fn name(&self) -> &'static str {
        match (self.damage, self.part) {
            (Damage::Flip, Part::Log) => "flip-log",
            (Damage::Flip, Part::State) => "flip-state",
            (Damage::Flip, Part::Snapshot) => "flip-snapshot",
            (Damage::Truncate, Part::Log) => "truncate-log",
            (Damage::Truncate, Part::State) => "truncate-state",
            (Damage::Truncate, Part::Snapshot) => "truncate-snapshot",
        }
    }

    fn alone(&self) -> bool {
        true
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let hosts = resolve(cluster, fault.victim).await;
        let name = &hosts[0];
        let host = cluster.host(name)?;
        host.stop().await?;
        shell(&["cp", "-a", &host.data.to_string_lossy(), &kept(&host.data).to_string_lossy()])?;
        let files = cluster.target().files(host, self.part);
        let files: Vec<_> = files.into_iter().filter(|f| f.metadata().is_ok_and(|m| m.len() > 0)).collect();
        let mut rng = dice(fault);
        let file = files.get(rng.random_range(0..files.len().max(1)));
        let told = match file {
            Some(file) => self.harm(file, &mut rng)?,
            None => "no file to damage yet".into(),
        };
        let modified = file.map(|file| fs::metadata(file)?.modified()).transpose()?;
        cluster.start(name)?;
        tokio::time::sleep(NOTICE).await;
        let refused = host.ended().is_some();
        let noticed = if refused { "it refused to start" } else { "it started" };
        let mut harm = Harm::new(hosts.clone(), format!("{name}: {told}; {noticed}"));
        harm.damaged = file.zip(modified).map(|(file, modified)| Damaged { file: file.clone(), modified });
        Ok(harm)
    }

    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        for name in &harm.hosts {
            let host = cluster.host(name)?;
            let kept = kept(&host.data);
            if let Some(damaged) = &harm.damaged {
                undo(damaged, &host.data, &kept)?;
                // Or the next loss of power takes it again.
                if let Some(disk) = &host.disk {
                    disk.sync()?;
                }
            }
            if kept.exists() {
                fs::remove_dir_all(&kept)?;
            }
            cluster.start(name)?;
        }
        Ok(())
    }
}

/// Writes what was in the file, in its place, if the file is as it was left.
fn undo(damaged: &Damaged, data: &Path, kept: &Path) -> Outcome<()> {
    let file = match fs::File::options().write(true).open(&damaged.file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let within = damaged.file.strip_prefix(data).map_err(|e| Failure::impossible(e.to_string()))?;
    if file.metadata()?.modified()? == damaged.modified {
        file.write_all_at(&fs::read(kept.join(within))?, 0)?;
    }
    Ok(())
}

impl Corrupt {
    fn harm(&self, path: &Path, rng: &mut impl Rng) -> Outcome<String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = fs::File::options().read(true).write(true).open(path)?;
        let length = written(&file)?;
        if self.damage == Damage::Truncate {
            let cut = rng.random_range(1..=length.clamp(1, 4_096));
            file.set_len(length - cut.min(length))?;
            return Ok(format!("{cut} bytes cut from the end of {name}"));
        }
        let at = rng.random_range(0..length.max(1));
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        byte[0] ^= 1 << rng.random_range(0..8);
        file.write_all_at(&byte, at)?;
        Ok(format!("a bit at byte {at} of {length} of {name} flipped"))
    }
}

/// The file's length without the zeros that were allocated in advance.
fn written(file: &fs::File) -> Outcome<u64> {
    let length = file.metadata()?.len();
    let mut block = vec![0; 64 << 10];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(part, start)?;
        if let Some(last) = part.iter().rposition(|b| *b != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_as_before_unless_somebody_wrote_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let (data, kept) = (folder.path().join("data"), folder.path().join("data.kept"));
        for path in [&data, &kept] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("a"), b"whole").unwrap();
        }
        let file = data.join("a");
        fs::write(&file, b"whale").unwrap();
        let damaged =
            |file: &Path| Damaged { file: file.into(), modified: fs::metadata(file).unwrap().modified().unwrap() };
        let seen = damaged(&file);
        undo(&seen, &data, &kept).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"whole");
        // What else was written meanwhile stays.
        fs::write(data.join("log"), b"promised").unwrap();
        fs::write(&file, b"whale, and more").unwrap();
        undo(&seen, &data, &kept).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"whale, and more");
        let seen = damaged(&file);
        fs::remove_file(&file).unwrap();
        undo(&seen, &data, &kept).unwrap();
        assert!(!file.exists());
        assert_eq!(fs::read(data.join("log")).unwrap(), b"promised");
    }

    #[test]
    fn zeros_at_the_end_are_no_content() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"abc", 70_000).unwrap();
        file.set_len(1 << 20).unwrap();
        assert_eq!(written(&file).unwrap(), 70_003);
    }
}
