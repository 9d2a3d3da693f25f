use std::{
    fmt::Write as _,
    io::Write,
    sync::{Arc, Mutex, MutexGuard},
};

use tracing::{field::Visit, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::clock::elapsed;

/// Of turmoil's text of a segment, so much tells what kind it is. The rest is each of its bytes in hexadecimal, which
/// took a fourteenth of a run; what is in them is told by whoever writes them ([`crate::SimNet`]).
const SEGMENT_TEXT_BYTES: usize = 8;

/// A running hash (FNV-1a) of every trace event with its virtual time: two runs of one seed are the same
/// run if their hashes are equal.
#[derive(Clone, Default)]
pub struct EventHash(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    hash: u64,
    events: u64,
    /// Every event as a line of text, to find where two runs part.
    dump: Option<Box<dyn Write + Send>>,
}

impl EventHash {
    /// A hash that also writes each event as a line.
    pub fn dumping(to: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(State { dump: Some(Box::new(to)), ..State::default() })))
    }

    /// The hash and the number of events.
    pub fn value(&self) -> (u64, u64) {
        let state = self.state();
        (state.hash, state.events)
    }

    /// Adds something that is not a trace event: an answer, a fault.
    pub fn add(&self, text: &str) {
        let mut state = self.state();
        state.begin();
        // Taking text cannot fail.
        let _ = state.write_str(text);
        state.end();
    }

    /// Adds a trace event.
    pub fn event(&self, event: &Event<'_>) {
        let mut state = self.state();
        state.begin();
        let now = elapsed();
        let _ = write!(state, "{} {}", now.as_nanos(), event.metadata().target());
        event.record(&mut Fields { state: &mut state });
        state.end();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while hashing")
    }
}

impl State {
    fn begin(&mut self) {
        self.hash ^= 0xcbf2_9ce4_8422_2325;
        self.events += 1;
    }

    fn end(&mut self) {
        if let Some(dump) = &mut self.dump {
            // A dump that cannot be written shows as a short file.
            let _ = writeln!(dump);
        }
    }
}

/// Text is hashed as it is made, without a copy.
impl std::fmt::Write for State {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.hash = text.bytes().fold(self.hash, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        if let Some(dump) = &mut self.dump {
            let _ = dump.write_all(text.as_bytes());
        }
        Ok(())
    }
}

struct Fields<'a> {
    state: &'a mut State,
}

/// Takes the beginning of a text, and ends its making after that.
struct Head<'a> {
    state: &'a mut State,
    left: usize,
}

impl std::fmt::Write for Head<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let head = text.get(..self.left).unwrap_or(text);
        self.left = self.left.saturating_sub(head.len());
        self.state.write_str(head)?;
        if self.left == 0 {
            return Err(std::fmt::Error);
        }
        Ok(())
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        let _ = write!(self.state, " {}=", field.name());
        let _ = self.state.write_str(value);
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "protocol" => write!(Head { state: self.state, left: SEGMENT_TEXT_BYTES }, "{value:?}"),
            name => write!(self.state, " {name}={value:?}"),
        };
    }
}

impl<S: Subscriber> Layer<S> for EventHash {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.event(event);
    }
}
