use keelstone_world::EventHash;
use tracing::{
    span::{Attributes, Id, Record},
    subscriber::Interest,
    Event, Level, Metadata, Subscriber,
};
use tracing_subscriber::filter::Targets;

use crate::leaders::{self, Leaders};

/// What goes into the event hash: every event of ours, every message of the network.
pub fn hashed() -> Targets {
    Targets::new()
        .with_target("keelstone", Level::TRACE)
        .with_target("turmoil", Level::TRACE)
        .with_target("openraft", Level::INFO)
}

/// Sees events, and no spans: keeping account of those, which only a trace needs, took a third of a run's time.
pub struct EventsAlone {
    pub hash: EventHash,
    pub leaders: Leaders,
    pub hashed: Targets,
}

impl EventsAlone {
    fn is_hashed(&self, metadata: &Metadata<'_>) -> bool {
        self.hashed.would_enable(metadata.target(), metadata.level())
    }
}

fn is_of_leaders(metadata: &Metadata<'_>) -> bool {
    metadata.target() == leaders::TARGET && *metadata.level() <= Level::INFO
}

impl Subscriber for EventsAlone {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && (self.is_hashed(metadata) || is_of_leaders(metadata))
    }

    fn event(&self, event: &Event<'_>) {
        if self.is_hashed(event.metadata()) {
            self.hash.event(event);
        }
        if is_of_leaders(event.metadata()) {
            self.leaders.event(event);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
