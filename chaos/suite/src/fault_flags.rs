use std::path::PathBuf;

use clap::Args;
use keelstone_chaos_bed::BedOptions;
use keelstone_chaos_store::schedule::Schedule;

use crate::failure::Outcome;

/// What a run on the bed does to its hosts; the same for a store and for a whole cluster.
#[derive(Args)]
pub struct FaultArguments {
    /// Which clients; all if it is not given.
    #[arg(long, value_delimiter = ',')]
    pub workloads: Vec<String>,
    /// Which faults; all that can work here if it is not given.
    #[arg(long, value_delimiter = ',')]
    pub nemeses: Vec<String>,
    /// Faults overlap.
    #[arg(long)]
    pub overlap: bool,
    /// Every member or master has a filesystem of its own: for full disks and losses of power.
    #[arg(long)]
    own_disks: bool,
    /// Every frame goes through a cable that can be slow.
    #[arg(long)]
    slow_links: bool,
    /// Every file of a member or master goes through a filesystem that can be slow to sync, or fail to.
    #[arg(long)]
    faulty_disks: bool,
    /// Plays this schedule instead of one that the seed makes.
    #[arg(long)]
    schedule: Option<PathBuf>,
}

impl FaultArguments {
    /// # Errors
    /// A schedule that cannot be read.
    pub fn schedule(&self) -> Outcome<Option<Schedule>> {
        self.schedule.as_deref().map(Schedule::load).transpose()
    }

    pub fn bed(&self) -> BedOptions {
        BedOptions {
            own_disks: self.own_disks,
            slow_links: self.slow_links,
            faulty_disks: self.faulty_disks,
            clocks: true,
        }
    }
}
