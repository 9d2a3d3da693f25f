//! Where a moment or a value lies in a drawing.

use std::fmt::Write;

use keelstone_chaos_store::{figures::FaultFigures, record::Line};

use crate::escape;

/// The drawing's units; it is scaled to the page.
pub const WIDTH: f64 = 1_060.0;
const LEFT: f64 = 44.0;
/// Above the plot: names of faults, in so many rows.
pub const TOP: f64 = 44.0;
const LABEL_ROWS: usize = 4;

/// Time along the page.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    pub from_us: u64,
    pub to_us: u64,
}

impl Time {
    /// From the first start to the last end.
    pub fn of(lines: &[Line]) -> Self {
        let from_us = lines.iter().map(|l| l.start_us).min().unwrap_or(0);
        let to_us = lines.iter().map(|l| l.end_us).max().unwrap_or(0);
        Self { from_us, to_us: to_us.max(from_us + 1) }
    }

    pub fn x(&self, at_us: u64) -> f64 {
        let part = at_us.clamp(self.from_us, self.to_us) - self.from_us;
        LEFT + (WIDTH - LEFT) * part as f64 / (self.to_us - self.from_us) as f64
    }

    /// Seconds below a plot that ends at `bottom`, at round numbers.
    pub fn axis(&self, bottom: f64) -> String {
        let span_s = (self.to_us - self.from_us) as f64 / 1e6;
        let step = [1_u32, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600]
            .into_iter()
            .find(|s| span_s / f64::from(*s) <= 14.0)
            .unwrap_or(7_200);
        let step = u64::from(step);
        let mut text = format!("<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{bottom}\" y2=\"{bottom}\"/>");
        let mut second = self.from_us.div_ceil(1_000_000 * step) * step;
        while second * 1_000_000 <= self.to_us {
            let x = self.x(second * 1_000_000);
            let _ =
                write!(text, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second} s</text>", bottom + 13.0);
            second += step;
        }
        text
    }

    /// Faults as bands with their names.
    pub fn bands(&self, faults: &[FaultFigures], bottom: f64) -> String {
        let mut text = String::new();
        for (i, fault) in faults.iter().enumerate() {
            let (x, end) = (self.x(fault.start_us), self.x(fault.end_us));
            let row = 9.0 + 9.5 * (i % LABEL_ROWS) as f64;
            let _ = write!(
                text,
                "<g><title>{}</title><rect class=\"band\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/><text class=\"label\" x=\"{x:.1}\" y=\"{row}\">{}</text></g>",
                escape(&fault.told),
                (end - x).max(1.0),
                bottom - TOP,
                escape(&fault.nemesis),
            );
        }
        text
    }
}

/// Numbers at the left of a plot.
pub fn mark(y: f64, text: &str) -> String {
    format!(
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
        LEFT - 4.0,
        y + 3.0
    )
}

pub fn drawing(height: f64, body: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">{body}</svg>\n")
}

/// Colours with their meanings.
pub fn legend(entries: &[(&str, &str)]) -> String {
    let entry = |(colour, text): &(&str, &str)| {
        format!("<span><i style=\"background:var(--{colour})\"></i>{}</span>", escape(text))
    };
    format!("<p class=\"legend\">{}</p>", entries.iter().map(entry).collect::<String>())
}
