//! The report in a real browser without a screen: it is shown, and its drawings are there.
#![allow(clippy::disallowed_methods)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use keelstone_chaos_report::{page, About};
use keelstone_chaos_store::{
    record::{Class, Line, NEMESIS},
    verdict::Check,
    Verdict,
};
use serde_json::json;

const BROWSERS: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

fn browser() -> PathBuf {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let found = || {
        let path = std::env::var("PATH").unwrap_or_default();
        let files = path.split(':').flat_map(|folder| BROWSERS.map(|b| Path::new(folder).join(b)));
        files.into_iter().find(|file| file.is_file())
    };
    named.or_else(found).expect("no Chromium: install chromium-headless-shell (.ci/install), or name one in $CHROMIUM")
}

fn show(profile: &Path, file: &Path, flags: &[&str]) -> Output {
    let output = Command::new("timeout")
        .args(["--kill-after=5", "60"])
        .arg(browser())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,2400"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(flags)
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn line(source: &str, client: u32, start_us: u64, end_us: u64, class: Class) -> Line {
    Line {
        source: source.into(),
        client,
        host: "m1".into(),
        start_us,
        end_us,
        kind: if source == NEMESIS { "kill" } else { "write" }.into(),
        class,
        writes: true,
        what: json!({"told": "SIGKILL to m1", "start_us": start_us, "call": {"write": {"key": "register/0"}}}),
    }
}

/// Two minutes with two faults and one anomaly.
fn violated() -> (Vec<Line>, Verdict) {
    let mut lines = Vec::new();
    for i in 0..2_400_u64 {
        let start_us = i * 50_000;
        let class = if (30_000_000..34_000_000).contains(&start_us) { Class::Unknown } else { Class::Ok };
        lines.push(line("register", u32::try_from(i % 5).unwrap(), start_us, start_us + 2_000 + i * 17, class));
    }
    lines.push(line(NEMESIS, 0, 30_000_000, 36_000_000, Class::Info));
    lines.push(line(NEMESIS, 0, 70_000_000, 78_000_000, Class::Info));
    let violation = Some("no order explains it: Operation { client: 1, start_us: 50050000 } <seen>".to_owned());
    let check = Check { name: "register".into(), violation, counts: [2_320, 0, 80] };
    (lines, Verdict { checks: vec![check], inconclusive: vec![] })
}

#[test]
fn the_report_is_shown_by_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let (lines, verdict) = violated();
    let about = About {
        title: "3 members of keelstone".into(),
        target: "keelstone".into(),
        command: "keelstone-chaos store --seed 1".into(),
    };
    let text = page(&about, &lines, &verdict, &[]);
    std::fs::write(&file, &text).unwrap();
    // It needs nothing else.
    assert!(!text.contains("src=") && !text.contains("href=") && !text.contains("<script"));

    let dom = show(folder.path(), &file, &["--dump-dom"]);
    let dom = String::from_utf8_lossy(&dom.stdout);
    assert!(dom.contains("id=\"verdict\" class=\"violated\""), "{dom}");
    // Rates, latencies, and the timeline of what was violated; a browser that cannot parse one closes it early.
    assert_eq!(dom.matches("<svg").count(), 3);
    assert_eq!(dom.matches("</svg>").count(), 3);
    assert_eq!(dom.matches("class=\"bad\"").count(), 1);
    assert_eq!(dom.matches("class=\"band\"").count(), 4);

    let picture = folder.path().join("report.png");
    show(folder.path(), &file, &[&format!("--screenshot={}", picture.display())]);
    let picture = std::fs::read(&picture).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    // A blank page of this size takes about ten kilobytes.
    assert!(picture.len() > 30_000, "{} bytes", picture.len());
    if let Some(kept) = std::env::var_os("KEELSTONE_SCREENSHOT") {
        std::fs::write(kept, &picture).unwrap();
    }
}
