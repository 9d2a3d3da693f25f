use keelstone_engine::EngineError;
use rocksdb::{BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, Env, LogLevel, Options};

use crate::{constants, engine::error};

/// What an owner may choose.
#[derive(Clone, Copy, Debug)]
pub struct RocksOptions {
    /// See [`constants::CACHE_BYTES_DEFAULT`].
    pub cache_bytes: usize,
    /// See [`constants::WRITE_BUFFER_BYTES_DEFAULT`].
    pub write_buffer_bytes: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self { cache_bytes: constants::CACHE_BYTES_DEFAULT, write_buffer_bytes: constants::WRITE_BUFFER_BYTES_DEFAULT }
    }
}

impl RocksOptions {
    /// # Errors
    /// If RocksDB cannot make its threads.
    pub(crate) fn database(&self) -> Result<Options, EngineError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(self.write_buffer_bytes);
        options.set_max_open_files(constants::OPEN_FILES_MAX);
        options.set_max_background_jobs(constants::BACKGROUND_JOBS_MAX);
        options.set_keep_log_file_num(constants::LOG_FILES_MAX);
        options.set_max_log_file_size(constants::LOG_FILE_BYTES_MAX);
        options.set_log_level(LogLevel::Warn);
        options.set_bytes_per_sync(constants::BYTES_PER_SYNC);
        options.set_ratelimiter(
            constants::BACKGROUND_BYTES_PER_S_MAX,
            constants::BACKGROUND_REFILL_US,
            constants::BACKGROUND_FAIRNESS,
        );
        // Compactions run on what nobody else needs.
        let mut env = Env::new().map_err(error)?;
        env.lower_thread_pool_cpu_priority();
        options.set_env(&env);
        Ok(options)
    }

    pub(crate) fn column(&self, cache: &Cache) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_bloom_filter(constants::BLOOM_BITS_PER_KEY, false);
        // Indexes and filters in pieces: those of much data need not fit in the cache at once.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_pin_top_level_index_and_filter(true);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(self.write_buffer_bytes / 2);
        // Files in which compaction has removed much are merged soon, not when writes happen to reach them.
        options.add_compact_on_deletion_collector_factory(
            constants::DELETIONS_WINDOW,
            constants::DELETIONS_TRIGGER,
            constants::DELETIONS_RATIO,
        );
        options
    }
}
