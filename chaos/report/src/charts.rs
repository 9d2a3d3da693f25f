//! Plots over time, with the faults as bands.

use std::fmt::Write;

use keelstone_chaos_store::{
    figures::FaultFigures,
    record::{Class, Line},
};

use crate::scale::{drawing, legend, mark, Time, TOP};

const HEIGHT: f64 = 170.0;
const BOTTOM: f64 = TOP + HEIGHT;
/// Columns of a plot at most: of a long run each stands for more than a second.
const COLUMNS_MAX: u64 = 600;

fn operations(lines: &[Line]) -> impl Iterator<Item = &Line> {
    lines.iter().filter(|l| l.class != Class::Info)
}

/// Column of a moment, and microseconds of a column.
fn columns(time: Time) -> (impl Fn(u64) -> usize, u64) {
    let wide_us = ((time.to_us - time.from_us) / COLUMNS_MAX).max(1_000_000).div_ceil(1_000_000) * 1_000_000;
    (move |at_us: u64| usize::try_from((at_us - time.from_us) / wide_us).unwrap_or(0), wide_us)
}

/// Operations by the moment of their end and by outcome, stacked.
pub fn rates(lines: &[Line], faults: &[FaultFigures]) -> String {
    let time = Time::of(lines);
    let (column, wide_us) = columns(time);
    let mut counts = vec![[0_u64; 3]; column(time.to_us) + 1];
    for line in operations(lines) {
        let class = match line.class {
            Class::Ok | Class::Info => 0,
            Class::Failed => 1,
            Class::Unknown => 2,
        };
        counts[column(line.end_us)][class] += 1;
    }
    let seconds = wide_us as f64 / 1e6;
    let highest = counts.iter().map(|c| c.iter().sum::<u64>()).max().unwrap_or(0).max(1) as f64 / seconds;
    let mut body = mark(TOP, &format!("{highest:.0}")) + &mark(BOTTOM - HEIGHT / 2.0, "");
    for (i, count) in counts.iter().enumerate() {
        let start_us = time.from_us + i as u64 * wide_us;
        let (x, end) = (time.x(start_us), time.x(start_us + wide_us));
        let mut y = BOTTOM;
        for (number, class) in count.iter().zip(["ok", "failed", "unknown"]) {
            let height = HEIGHT * *number as f64 / seconds / highest;
            y -= height;
            if *number > 0 {
                let width = (end - x - 0.4).max(0.4);
                let _ = write!(
                    body,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
                );
            }
        }
    }
    body += &time.bands(faults, BOTTOM);
    body += &time.axis(BOTTOM);
    legend(&[("ok", "acknowledged"), ("failed", "failed, without effect"), ("unknown", "of unknown outcome")])
        + &drawing(BOTTOM + 20.0, &body)
}

/// Median, 99th percentile and maximum of each column, on a logarithmic scale. Turns of several calls are left out:
/// their length says nothing.
pub fn latencies(lines: &[Line], faults: &[FaultFigures]) -> String {
    const LONG: [&str; 4] = ["tenure", "session", "follow", "acquire"];
    let time = Time::of(lines);
    let (column, wide_us) = columns(time);
    let mut spans: Vec<Vec<u64>> = vec![Vec::new(); column(time.to_us) + 1];
    for line in operations(lines).filter(|l| l.class == Class::Ok && !LONG.contains(&l.kind.as_str())) {
        spans[column(line.end_us)].push((line.end_us - line.start_us).max(100));
    }
    // From 0.1 ms to 10 s.
    let y = |us: u64| BOTTOM - HEIGHT * ((us as f64).log10() - 2.0) / 5.0;
    let mut body = time.bands(faults, BOTTOM);
    for (us, name) in [
        (100, "0.1 ms"),
        (1_000, "1 ms"),
        (10_000, "10 ms"),
        (100_000, "0.1 s"),
        (1_000_000, "1 s"),
        (10_000_000, "10 s"),
    ] {
        body += &mark(y(us), name);
    }
    for (share, class) in [(1.0, "max"), (0.99, "p99"), (0.5, "p50")] {
        let mut path = String::new();
        let mut drawn = false;
        for (i, span) in spans.iter_mut().enumerate() {
            span.sort_unstable();
            let Some(last) = span.len().checked_sub(1) else {
                drawn = false;
                continue;
            };
            let value = span[((span.len() as f64 * share) as usize).min(last)];
            let x = time.x(time.from_us + i as u64 * wide_us + wide_us / 2);
            let _ = write!(path, "{}{x:.1} {:.1}", if drawn { "L" } else { "M" }, y(value));
            drawn = true;
        }
        let _ = write!(body, "<path class=\"{class}\" d=\"{path}\"/>");
    }
    body += &time.axis(BOTTOM);
    legend(&[("ok", "median"), ("failed", "99th percentile"), ("unknown", "maximum")]) + &drawing(BOTTOM + 20.0, &body)
}
