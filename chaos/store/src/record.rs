//! What everybody did, as lines of JSON in the order in which it ended.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use keelstone_chaos_bed::Outcome;
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use serde_json::Value;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Ok,
    /// Certainly without effect.
    Failed,
    /// Perhaps carried out, perhaps later.
    Unknown,
    /// Not an operation of a client: a fault, or a remark.
    Info,
}

/// One operation of a client, or one fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The workload, or `nemesis`.
    pub source: String,
    pub client: u32,
    /// The member that was asked, or that was harmed.
    pub host: String,
    pub start_us: u64,
    pub end_us: u64,
    /// Such as `read` or `transfer`; a nemesis' name.
    pub kind: String,
    pub class: Class,
    /// It changes the store if it is acknowledged.
    pub writes: bool,
    /// What the source's checker reads.
    pub what: Value,
}

pub const NEMESIS: &str = "nemesis";

impl Line {
    /// # Errors
    /// The line is of another kind.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        T::deserialize(&self.what).map_err(|e| format!("{} of {}: {e}", self.kind, self.source))
    }
}

/// The history as it grows: in memory, and in a file.
#[derive(Debug)]
pub struct Recorder {
    clock: Instant,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    lines: Vec<Line>,
    file: BufWriter<File>,
}

impl Recorder {
    /// Time zero of the history is now.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(file: &Path) -> Outcome<Self> {
        let file = BufWriter::new(File::create(file)?);
        Ok(Self { clock: Instant::now(), kept: Mutex::new(Kept { lines: Vec::new(), file }) })
    }

    pub fn now_us(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a line. That the file cannot be written is told by [`Recorder::lines`].
    pub fn add(&self, line: Line) {
        let mut kept = self.kept();
        let text = serde_json::to_string(&line).unwrap_or_default();
        let _ = writeln!(kept.file, "{text}");
        kept.lines.push(line);
    }

    /// All lines up to now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn lines(&self) -> Outcome<Vec<Line>> {
        let mut kept = self.kept();
        kept.file.flush()?;
        Ok(kept.lines.clone())
    }

    /// Acknowledged, failed, unknown operations up to now, for the progress on the terminal.
    pub fn counts(&self) -> [usize; 3] {
        let kept = self.kept();
        let of = |class| kept.lines.iter().filter(|l| l.class == class).count();
        [of(Class::Ok), of(Class::Failed), of(Class::Unknown)]
    }
}

/// Reads a kept history.
///
/// # Errors
/// The file cannot be read, or a line of it says nothing.
pub fn read(file: &Path) -> Outcome<Vec<Line>> {
    let text = std::fs::read_to_string(file)?;
    let lines: Result<Vec<Line>, _> = text.lines().map(serde_json::from_str).collect();
    lines.map_err(|e| keelstone_chaos_bed::Failure::impossible(format!("{}: {e}", file.display())))
}

/// For tests: what was acknowledged, or a fault.
#[cfg(test)]
pub(crate) fn line(source: &str, kind: &str, start_us: u64, end_us: u64) -> Line {
    Line {
        source: source.into(),
        client: 0,
        host: String::new(),
        start_us,
        end_us,
        kind: kind.into(),
        class: if source == NEMESIS { Class::Info } else { Class::Ok },
        writes: source != NEMESIS,
        what: serde_json::json!({"told": "m1"}),
    }
}
