//! The table of cases: shell snippets and what they must say.
//!
//! ```text
//! === title                 (=== setup: title  is run even if only some cases are asked for)
//! from 1.28                 only with this version and newer
//! within 30 s               tried again until it holds
//! $ kubectl get nodes       the snippet, up to the first expectation
//! exit 0                    the exit code; 0 if it is not said
//! out ~ text                standard output (err: standard error) contains text
//! out !~ text               ... does not
//! out = text                ... is exactly text, but for white space at its ends
//! ```

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Case {
    pub title: String,
    pub setup: bool,
    /// The oldest minor version that knows this command.
    pub from_minor: u32,
    pub within: Duration,
    pub script: String,
    pub exit: i32,
    pub expectations: Vec<Expectation>,
}

#[derive(Clone, Debug)]
pub struct Expectation {
    pub of_stderr: bool,
    pub how: How,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Contains,
    Lacks,
    Is,
}

impl Expectation {
    fn parse(line: &str) -> Option<Self> {
        let (stream, rest) = line.split_once(' ')?;
        let of_stderr = match stream {
            "out" => false,
            "err" => true,
            _ => return None,
        };
        let (sign, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let how = match sign {
            "~" => How::Contains,
            "!~" => How::Lacks,
            "=" => How::Is,
            _ => return None,
        };
        Some(Self { of_stderr, how, text: text.to_owned() })
    }

    /// What is wrong with `said`; `text` has its variables filled in by then.
    pub fn complaint(&self, said: &str, text: &str) -> Option<String> {
        let (holds, word) = match self.how {
            How::Contains => (said.contains(text), "contains"),
            How::Lacks => (!said.contains(text), "lacks"),
            How::Is => (said.trim() == text.trim(), "is"),
        };
        let stream = if self.of_stderr { "stderr" } else { "stdout" };
        (!holds).then(|| format!("{stream} {word} not: {text}"))
    }
}

/// Parses a table.
///
/// # Errors
/// The line that is not understood.
pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    let mut in_script = false;
    for (number, line) in text.lines().enumerate() {
        let wrong = || format!("line {} of the table is not understood: {line}", number + 1);
        if let Some(title) = line.strip_prefix("=== ") {
            cases.push(Case {
                title: title.to_owned(),
                setup: title.starts_with("setup: "),
                from_minor: 0,
                within: Duration::ZERO,
                script: String::new(),
                exit: 0,
                expectations: Vec::new(),
            });
            in_script = false;
            continue;
        }
        let Some(case) = cases.last_mut() else {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            return Err(wrong());
        };
        if let Some(minor) = line.strip_prefix("from 1.") {
            case.from_minor = minor.parse().map_err(|_| wrong())?;
        } else if let Some(seconds) = line.strip_prefix("within ").and_then(|r| r.strip_suffix(" s")) {
            case.within = Duration::from_secs(seconds.parse().map_err(|_| wrong())?);
        } else if let Some(script) = line.strip_prefix("$ ") {
            case.script.push_str(script);
            case.script.push('\n');
            in_script = true;
        } else if let Some(exit) = line.strip_prefix("exit ") {
            case.exit = exit.parse().map_err(|_| wrong())?;
            in_script = false;
        } else if let Some(expectation) = Expectation::parse(line) {
            case.expectations.push(expectation);
            in_script = false;
        } else if in_script {
            // A here-document.
            case.script.push_str(line);
            case.script.push('\n');
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            return Err(wrong());
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_understood() {
        let cases = parse(super::super::CASES).unwrap();
        assert!(cases.len() > 60);
        assert!(cases.iter().all(|c| !c.script.is_empty()), "every case does something");
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert!(parse("=== a\nwhat\n").unwrap_err().contains("line 2"));
    }
}
