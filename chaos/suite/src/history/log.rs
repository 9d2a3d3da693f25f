use std::{fmt::Write, path::Path};

use keelstone_checkers::History;

use crate::failure::{Failure, Outcome};

/// Writes a history as JSON lines, one operation a line.
pub fn write(path: &Path, history: &History) -> Outcome<()> {
    let mut text = String::new();
    for operation in &history.operations {
        let line = serde_json::to_string(operation).map_err(|e| Failure::impossible(e.to_string()))?;
        let _ = writeln!(text, "{line}");
    }
    std::fs::write(path, text).map_err(|e| Failure::impossible(format!("{}: {e}", path.display())))
}
