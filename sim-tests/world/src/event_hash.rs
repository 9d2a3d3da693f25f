use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use tracing::{field::Visit, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// A running hash (FNV-1a) of every trace event with its virtual time: two runs of one seed are the same
/// run if their hashes are equal.
#[derive(Clone, Default)]
pub struct EventHash(Arc<Mutex<(u64, u64)>>);

impl EventHash {
    /// The hash and the number of events.
    pub fn value(&self) -> (u64, u64) {
        *self.0.lock().expect("no panic while hashing")
    }

    /// Adds something that is not a trace event: an answer, a fault.
    pub fn add(&self, text: &str) {
        let mut state = self.0.lock().expect("no panic while hashing");
        state.0 = text
            .bytes()
            .fold(state.0 ^ 0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        state.1 += 1;
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
