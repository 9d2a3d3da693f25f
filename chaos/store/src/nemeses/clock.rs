//! Wall clocks that lie.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use keelstone_chaos_bed::{clock, Failure, Outcome};
use rand::Rng;

use super::{dice, Count, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Minutes off, ahead or behind.
    Jump,
    /// Faster or slower than it should.
    Drift,
    /// Here and there, every other second.
    Strobe,
}

#[derive(Debug)]
pub struct Clock {
    pub lie: Lie,
    pub count: Count,
}

/// The library looks at the file once a second.
const STROBE: Duration = Duration::from_millis(1_100);

fn file<'a>(cluster: &'a Cluster, host: &str) -> Outcome<&'a Path> {
    let clock = cluster.host(host)?.clock.as_ref();
    clock.map(|(_, file)| file.as_path()).ok_or_else(|| Failure::impossible("no clock that lies"))
}

#[async_trait]
impl Nemesis for Clock {
    fn name(&self) -> &'static str {
        match self.lie {
            Lie::Jump if self.count == Count::All => "clock-jump-all",
            Lie::Jump => "clock-jump",
            Lie::Drift => "clock-drift",
            Lie::Strobe => "clock-strobe",
        }
    }

    fn possible(&self, cluster: &Cluster) -> Result<(), String> {
        cluster.target().clock_is_faked()?;
        match cluster.members().iter().all(|h| h.clock.is_some()) {
            true => Ok(()),
            false => {
                Err("libfaketime is not installed (Debian: faketime), or this build does not start beneath it".into())
            }
        }
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let hosts = self.count.of(cluster, fault.victim).await;
        let mut rng = dice(fault);
        let offset_s: f64 = rng.random_range(1.0..600.0) * if rng.random_bool(0.5) { 1.0 } else { -1.0 };
        let rate: f64 = rng.random_range(0.5..2.0);
        let turns = if self.lie == Lie::Strobe { fault.length_ms / 2_200 } else { 1 };
        for turn in 0..turns.max(1) {
            for host in &hosts {
                let file = file(cluster, host)?;
                match self.lie {
                    // Of several, each goes its own way.
                    Lie::Jump if self.count == Count::All => clock::set(file, rng.random_range(-600.0..600.0))?,
                    Lie::Jump => clock::set(file, offset_s)?,
                    Lie::Drift => clock::drift(file, rate)?,
                    Lie::Strobe => clock::set(file, if turn % 2 == 0 { offset_s } else { -offset_s })?,
                }
            }
            if self.lie == Lie::Strobe {
                tokio::time::sleep(STROBE).await;
            }
        }
        let told = match self.lie {
            Lie::Drift => format!("runs {rate:.2} times as fast"),
            Lie::Jump if self.count == Count::All => "is off, each by another time".to_owned(),
            Lie::Jump => format!("is off by {offset_s:.0} s"),
            Lie::Strobe => format!("jumps between {offset_s:.0} s and {:.0} s", -offset_s),
        };
        Ok(Harm::new(hosts.clone(), format!("the wall clock of {} {told}", hosts.join(", "))))
    }

    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        harm.hosts.iter().try_for_each(|host| clock::set(file(cluster, host)?, 0.0))
    }
}
