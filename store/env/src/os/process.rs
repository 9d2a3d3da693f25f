use std::fs;

/// What the kernel says about this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessStats {
    pub cpu_s: f64,
    /// Since 1970.
    pub start_time_s: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_files: u64,
    pub open_files_max: u64,
}

/// The kernel's clock ticks in a second, the same on every Linux that user space sees.
const TICKS_PER_S: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

/// Reads `/proc/self`; `None` where there is no such thing.
pub fn process_stats() -> Option<ProcessStats> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name before the last bracket may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    let (user, system, started) = (number(11)?, number(12)?, number(19)?);
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot_s: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(ProcessStats {
        cpu_s: (user + system) as f64 / TICKS_PER_S,
        start_time_s: boot_s as f64 + started as f64 / TICKS_PER_S,
        resident_bytes: number(21)? * PAGE_BYTES,
        virtual_bytes: number(20)?,
        open_files: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        open_files_max: open_files.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_this_process() {
        let stats = process_stats().unwrap();
        assert!(stats.resident_bytes > 0 && stats.virtual_bytes >= stats.resident_bytes, "{stats:?}");
        assert!(stats.open_files > 0 && stats.open_files <= stats.open_files_max, "{stats:?}");
        assert!(stats.start_time_s > 1e9 && stats.cpu_s >= 0.0, "{stats:?}");
    }
}
