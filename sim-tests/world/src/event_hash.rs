use std::{
    fmt::Write as _,
    io::Write,
    sync::{Arc, Mutex, MutexGuard},
};

use tracing::{field::Visit, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

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
        state.hash = text
            .bytes()
            .fold(state.hash ^ 0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        state.events += 1;
        if let Some(dump) = &mut state.dump {
            // A dump that cannot be written shows as a short file.
            let _ = writeln!(dump, "{text}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while hashing")
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl<S: Subscriber> Layer<S> for EventHash {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(format!("{:?} {}", turmoil::sim_elapsed().unwrap_or_default(), event.metadata().target()));
        event.record(&mut text);
        self.add(&text.0);
    }
}
