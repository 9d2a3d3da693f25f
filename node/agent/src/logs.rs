//! Containers' logs in CRI's format, one line each: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; `P` says
//! that the text goes on in the next line.
#![allow(clippy::disallowed_methods)] // log files are read where the runtimes write them

use std::{
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use keelstone_env::Env;

const FOLLOW_EVERY: Duration = Duration::from_millis(250);
const READ_BYTES_MAX: usize = 256 << 10;

/// Which part of a log is wanted (API: PodLogOptions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogWish {
    pub follow: bool,
    pub timestamps: bool,
    /// `None`: all lines.
    pub tail_lines: Option<usize>,
    pub limit_bytes: Option<u64>,
    /// RFC 3339; older lines are left out.
    pub since: Option<String>,
}

/// A line of a log file taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub time: &'a str,
    pub partial: bool,
    pub text: &'a [u8],
}

/// `None` if the line is not of CRI's format.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    parts.next()?;
    let partial = parts.next()? == b"P";
    Some(Line { time, partial, text: parts.next().unwrap_or_default() })
}

/// The text of one line as it is shown.
fn shown(line: &[u8], wish: &LogWish) -> Vec<u8> {
    let Some(parsed) = parse(line) else { return Vec::new() };
    if wish.since.as_deref().is_some_and(|since| parsed.time < since) {
        return Vec::new();
    }
    let mut out = Vec::with_capacity(line.len() + 1);
    if wish.timestamps {
        out.extend_from_slice(parsed.time.as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(parsed.text);
    if !parsed.partial {
        out.push(b'\n');
    }
    out
}

/// Where the last `lines` lines of a file begin, reading it from its end.
fn tail_offset(file: &mut std::fs::File, lines: usize) -> std::io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    let (mut at, mut found) = (length, 0);
    let mut block = vec![0; READ_BYTES_MAX];
    while at > 0 {
        let size = (READ_BYTES_MAX as u64).min(at);
        at -= size;
        let part = &mut block[..usize::try_from(size).unwrap_or(0)];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(part)?;
        for (i, byte) in part.iter().enumerate().rev() {
            // The newline that ends the file begins no line.
            if *byte == b'\n' && at + i as u64 + 1 < length {
                found += 1;
                if found == lines {
                    return Ok(at + i as u64 + 1);
                }
            }
        }
    }
    Ok(0)
}

struct Reader {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
}

impl Reader {
    /// Whole lines that have come since the last call, shown; empty at the end of the file.
    fn next(&mut self, wish: &LogWish) -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut piece = vec![0; READ_BYTES_MAX];
        let length = file.read(&mut piece)?;
        self.offset += length as u64;
        self.rest.extend_from_slice(&piece[..length]);
        let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else { return Ok(Vec::new()) };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        Ok(whole[..whole.len() - 1].split(|b| *b == b'\n').flat_map(|line| shown(line, wish)).collect())
    }

    fn at_end(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |m| m.len() <= self.offset)
    }
}

/// The log of one container run. With `follow` it goes on until `ended` says that the container has ended
/// and everything was read.
///
/// # Errors
/// If the file cannot be opened.
pub fn stream(
    env: Env,
    path: &Path,
    wish: LogWish,
    ended: impl Fn() -> bool + Send + 'static,
) -> std::io::Result<impl Stream<Item = std::io::Result<Bytes>> + Send> {
    let mut file = std::fs::File::open(path)?;
    let offset = match wish.tail_lines {
        Some(0) => file.seek(SeekFrom::End(0))?,
        Some(lines) => tail_offset(&mut file, lines)?,
        None => 0,
    };
    let mut reader = Reader { path: path.to_owned(), offset, rest: Vec::new() };
    let mut left = wish.limit_bytes.unwrap_or(u64::MAX);
    Ok(async_stream::stream! {
        loop {
            // Asked before reading: what was written before the end is then surely read.
            let over = !wish.follow || ended();
            let (back, piece) = {
                let wish = wish.clone();
                env.offload(move || { let piece = reader.next(&wish); (reader, piece) }).await
            };
            reader = back;
            match piece {
                Err(error) => { yield Err(error); return; }
                Ok(mut piece) => {
                    let more = usize::try_from(left).unwrap_or(usize::MAX);
                    piece.truncate(more);
                    left = left.saturating_sub(piece.len() as u64);
                    let nothing = piece.is_empty();
                    if !nothing { yield Ok(Bytes::from(piece)); }
                    if left == 0 || (over && reader.at_end()) { return; }
                    if nothing { tokio::time::sleep(FOLLOW_EVERY).await; }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn log(name: &str, lines: &[&str]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("keelstone-log-{name}-{}", std::process::id()));
        std::fs::write(&path, lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
        path
    }

    async fn read(path: &Path, wish: LogWish) -> String {
        let parts: Vec<_> = stream(Env::os(), path, wish, || true).unwrap().collect().await;
        parts.into_iter().map(|p| String::from_utf8(p.unwrap().to_vec()).unwrap()).collect()
    }

    const LINES: [&str; 4] = [
        "2026-01-01T00:00:01Z stdout F one",
        "2026-01-01T00:00:02Z stderr P two-",
        "2026-01-01T00:00:03Z stderr F three",
        "2026-01-01T00:00:04Z stdout F ",
    ];

    #[tokio::test]
    async fn shows_whole_parts_and_what_is_asked_for() {
        let path = log("wishes", &LINES);
        let wish = LogWish::default;
        assert_eq!(read(&path, wish()).await, "one\ntwo-three\n\n");
        assert_eq!(read(&path, LogWish { tail_lines: Some(2), ..wish() }).await, "three\n\n");
        assert_eq!(read(&path, LogWish { tail_lines: Some(99), ..wish() }).await, "one\ntwo-three\n\n");
        assert_eq!(read(&path, LogWish { tail_lines: Some(0), ..wish() }).await, "");
        assert_eq!(read(&path, LogWish { limit_bytes: Some(5), ..wish() }).await, "one\nt");
        let since = Some("2026-01-01T00:00:03Z".to_owned());
        assert_eq!(
            read(&path, LogWish { since, timestamps: true, ..wish() }).await,
            "2026-01-01T00:00:03Z three\n2026-01-01T00:00:04Z \n"
        );
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn following_ends_after_the_container_and_misses_nothing() {
        let path = log("follow", &LINES[..1]);
        let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = ended.clone();
        let wish = LogWish { follow: true, ..LogWish::default() };
        let mut lines =
            Box::pin(stream(Env::os(), &path, wish, move || flag.load(std::sync::atomic::Ordering::SeqCst)).unwrap());
        assert_eq!(lines.next().await.unwrap().unwrap(), "one\n");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("2026-01-01T00:00:09Z stdout F last\n");
        std::fs::write(&path, text).unwrap();
        ended.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(lines.next().await.unwrap().unwrap(), "last\n");
        assert!(lines.next().await.is_none());
        std::fs::remove_file(path).unwrap();
    }
}
