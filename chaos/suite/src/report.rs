//! Tells what is done and what is seen.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use crate::{
    constants::POLL,
    failure::{Failure, Outcome},
    kubectl::Said,
};

/// Lines of one command's output that are shown.
const LINES_MAX: usize = 14;

pub struct Report {
    begun: Instant,
    chapter: usize,
}

impl Report {
    pub fn new() -> Self {
        Self { begun: Instant::now(), chapter: 0 }
    }

    pub fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        println!("\n== {}. {title}  [{:.0} s]", self.chapter, self.begun.elapsed().as_secs_f64());
    }

    pub fn command(&self, words: &[&str]) {
        println!("  $ kubectl {}", words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" "));
    }

    pub fn output(&self, said: &Said) {
        let all = said.all();
        let lines: Vec<&str> = all.lines().collect();
        for line in lines.iter().take(LINES_MAX) {
            let line: String = line.chars().take(180).collect();
            println!("    {line}");
        }
        if lines.len() > LINES_MAX {
            println!("    ... {} more lines", lines.len() - LINES_MAX);
        }
    }

    pub fn does(&self, text: impl AsRef<str>) {
        println!("  > {}", text.as_ref());
    }

    pub fn sees(&self, text: impl AsRef<str>) {
        println!("  ok: {}", text.as_ref());
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{word}'")
    }
}

/// Looks again and again until `look` gives a value; its last complaint is the failure.
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> Outcome<(T, Duration)> {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(value) => return Ok((value, begun.elapsed())),
            Err(complaint) if begun.elapsed() >= limit => {
                return Err(Failure::broken(format!("{what}: not within {limit:?}: {complaint}")));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
