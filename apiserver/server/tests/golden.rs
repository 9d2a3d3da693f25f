//! Golden raw-HTTP cases: `tests/golden/*.txt`, each against a fresh API server over a store in memory,
//! without a network. Time stands still except when everything waits, so watches end at once.
//!
//! A case begins with `=== what it is`, then comes the request (method and URL, headers, an empty line, the
//! body; a body in hexadecimal after `hex:`), then `--- code` and checks of the answer, one a line:
//! `/pointer = JSON`, `/pointer ~ "part of a text"`, `/pointer absent`, `header name = "value"`, `text ~ "part"`,
//! `lines = n`, `line n /pointer = JSON` (of a watch), `save NAME /pointer`, which `${NAME}` later stands for.
//! The pseudo-header `As: user group,group` sends the request as another user than the administrator.

mod support;

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use support::{admin, user, TestServer};

#[derive(Default)]
struct Case {
    title: String,
    request: Vec<String>,
    code: u16,
    checks: Vec<String>,
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut in_checks = false;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("=== ") {
            cases.push(Case { title: title.to_owned(), ..Case::default() });
            in_checks = false;
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        if let Some(code) = line.strip_prefix("--- ") {
            case.code = code.trim().parse().unwrap_or_else(|_| panic!("{}: code {code:?}", case.title));
            in_checks = true;
        } else if in_checks {
            if !line.trim().is_empty() && !line.starts_with('#') {
                case.checks.push(line.trim().to_owned());
            }
        } else {
            case.request.push(line.to_owned());
        }
    }
    cases
}

fn expand(text: &str, saved: &BTreeMap<String, String>) -> String {
    saved.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
}

fn body_of(text: &str) -> Bytes {
    match text.trim().strip_prefix("hex:") {
        None => Bytes::from(text.trim().to_owned()),
        Some(hex) => {
            let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.chunks(2).map(byte).collect()
        }
    }
}

struct Answer {
    code: u16,
    headers: http::HeaderMap,
    text: String,
}

async fn send(server: &TestServer, case: &Case, saved: &BTreeMap<String, String>) -> Answer {
    let mut lines = case.request.iter().map(|line| expand(line, saved));
    let first = lines.next().unwrap_or_else(|| panic!("{}: no request", case.title));
    let (method, url) = first.split_once(' ').unwrap_or_else(|| panic!("{}: {first}", case.title));
    let mut request = Request::builder().method(method).uri(url);
    let mut who = admin();
    for line in lines.by_ref() {
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}", case.title));
        if name == "As" {
            let (name, groups) = value.split_once(' ').unwrap_or((value, ""));
            who = user(name, groups);
        } else {
            request = request.header(name, value);
        }
    }
    let body: Vec<String> = lines.collect();
    let request = request.body(body_of(&body.join("\n"))).unwrap();
    let (code, headers, body) = server.send(who, request).await;
    Answer { code, headers, text: String::from_utf8_lossy(&body).into_owned() }
}

fn check(answer: &Answer, line: &str, saved: &mut BTreeMap<String, String>) -> Result<(), String> {
    let line = expand(line, saved);
    if let Some(rest) = line.strip_prefix("header ") {
        let (name, wanted) = rest.split_once(" = ").ok_or("header NAME = JSON")?;
        let found = answer.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let wanted: Value = serde_json::from_str(wanted).map_err(|e| e.to_string())?;
        return if wanted == found { Ok(()) } else { Err(format!("{name} is {found:?}")) };
    }
    if let Some(part) = line.strip_prefix("text ~ ") {
        let part: String = serde_json::from_str(part).map_err(|e| e.to_string())?;
        return if answer.text.contains(&part) { Ok(()) } else { Err(answer.text.clone()) };
    }
    if let Some(wanted) = line.strip_prefix("lines = ") {
        let found = answer.text.lines().count().to_string();
        return if found == wanted { Ok(()) } else { Err(answer.text.clone()) };
    }
    let (text, rest) = match line.strip_prefix("line ") {
        None => (answer.text.as_str(), line.as_str()),
        Some(rest) => {
            let (number, rest) = rest.split_once(' ').ok_or("line N /pointer ...")?;
            let number: usize = number.parse().map_err(|_| "line N")?;
            (answer.text.lines().nth(number - 1).ok_or_else(|| format!("too few lines: {}", answer.text))?, rest)
        }
    };
    let object: Value = serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))?;
    if let Some(rest) = rest.strip_prefix("save ") {
        let (name, pointer) = rest.split_once(' ').ok_or("save NAME /pointer")?;
        let value = object.pointer(pointer).and_then(Value::as_str).ok_or_else(|| text.to_owned())?;
        saved.insert(name.to_owned(), value.to_owned());
        return Ok(());
    }
    let mut parts = rest.splitn(3, ' ');
    let found = object.pointer(parts.next().unwrap_or_default().trim_end_matches('.'));
    match (parts.next(), parts.next()) {
        (Some("absent"), None) if found.is_none() => Ok(()),
        (Some("="), Some(wanted)) => {
            let wanted: Value = serde_json::from_str(wanted).map_err(|e| format!("{e}: {wanted}"))?;
            if found == Some(&wanted) {
                Ok(())
            } else {
                Err(format!("found {}\nin {text}", found.unwrap_or(&Value::Null)))
            }
        }
        (Some("~"), Some(part)) => {
            let part: String = serde_json::from_str(part).map_err(|e| e.to_string())?;
            let matches = found.and_then(Value::as_str).is_some_and(|f| f.contains(&part));
            if matches {
                Ok(())
            } else {
                Err(format!("found {found:?}"))
            }
        }
        _ => Err(format!("found {found:?}")),
    }
}

async fn run(path: &Path) -> Vec<String> {
    #[allow(clippy::disallowed_methods, reason = "tests read their own cases")]
    let text = std::fs::read_to_string(path).unwrap();
    let server = TestServer::start().await;
    let mut saved = BTreeMap::new();
    let mut failures = Vec::new();
    for case in parse(&text) {
        let answer = send(&server, &case, &saved).await;
        if answer.code != case.code {
            failures.push(format!("{} / {}: code {}: {}", path.display(), case.title, answer.code, answer.text));
            continue;
        }
        for line in &case.checks {
            if let Err(why) = check(&answer, line, &mut saved) {
                failures.push(format!("{} / {}: {line}: {why}", path.display(), case.title));
            }
        }
    }
    server.stop().await;
    failures
}

#[tokio::test(start_paused = true)]
async fn golden_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut failures = Vec::new();
    for path in files {
        failures.extend(run(&path).await);
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}
