use std::sync::Arc;

use bytes::Bytes;
use keelstone_engine::{Batch, Column, Engine, EngineError, Page, RangeRequest, Snapshot};
use tokio::time::Instant;

use super::Meters;

/// An engine that measures its writes and flushes.
pub(crate) struct MeteredEngine {
    pub engine: Arc<dyn Engine>,
    pub meters: Arc<Meters>,
}

impl Engine for MeteredEngine {
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let started = Instant::now();
        let result = self.engine.write(batch);
        self.meters.engine_write.observe(started.elapsed());
        result
    }

    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get(column, key)
    }

    fn range(&self, request: &RangeRequest) -> Result<Page, EngineError> {
        self.engine.range(request)
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, EngineError> {
        self.engine.snapshot()
    }

    fn flush(&self) -> Result<(), EngineError> {
        let started = Instant::now();
        let result = self.engine.flush();
        self.meters.engine_flush.observe(started.elapsed());
        result
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.durable_meta(key)
    }

    fn size_bytes(&self) -> Result<(u64, u64), EngineError> {
        self.engine.size_bytes()
    }
}
