//! How a broker is set up, and what of it the log has to know.

use ratatoskr_state::TopicSettings;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use ratatoskr_log::{LogOptions, OPEN_FILES_DEFAULT, OPEN_FILES_MIN};

use crate::broken::Broken;
use crate::error::OpenError;
use crate::memory::{MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MIN, Shares};
use crate::sequencer::promise;

/// Kept at the end of each journal file for acks, purges and deletions while the disk is full.
const JOURNAL_RESERVE_BYTES: u64 = 8 << 20;

/// How a broker is set up.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where everything is kept. Created if missing.
    pub data_dir: PathBuf,
    /// Settings of topics that are created without any, also by publishing to a missing one.
    pub topic_defaults: TopicSettings,
    /// Bytes of a segment. Default 100 MiB, 1 MiB to 2 GiB.
    pub segment_bytes: u64,
    /// Bytes of a journal file. Default 32 MiB, 32 MiB to 1 GiB: the largest batch has to fit.
    pub journal_file_bytes: u64,
    /// Bytes of memory the broker may use, shared out by [`Shares`]. Default 1 GiB, at least 64 MiB.
    pub memory: u64,
    /// Files of the data directory that may be open at a time. Default 768, at least 24.
    pub open_files_max: usize,
}

impl BrokerConfig {
    /// All defaults.
    pub fn new(data_dir: impl Into<PathBuf>) -> BrokerConfig {
        BrokerConfig {
            data_dir: data_dir.into(),
            topic_defaults: TopicSettings::default(),
            segment_bytes: 100 << 20,
            journal_file_bytes: 32 << 20,
            memory: MEMORY_BYTES_DEFAULT,
            open_files_max: OPEN_FILES_DEFAULT,
        }
    }

    /// Checks what a setting may be.
    pub(super) fn validate(&self) -> Result<(), OpenError> {
        let ranges = [
            ("segment_bytes", self.segment_bytes, 1 << 20..=2 << 30, "1 MiB to 2 GiB"),
            ("journal_file_bytes", self.journal_file_bytes, 32 << 20..=1 << 30, "32 MiB to 1 GiB"),
            ("memory", self.memory, MEMORY_BYTES_MIN..=u64::MAX, "64 MiB and more"),
            ("open_files_max", self.open_files_max as u64, OPEN_FILES_MIN as u64..=u64::MAX, "24 and more"),
        ];
        for (field, value, range, allowed) in ranges {
            if !range.contains(&value) {
                return Err(OpenError::Config { field, value, allowed });
            }
        }
        Ok(())
    }
}

/// How the log is laid out, and what it has to know of settings.
pub(crate) fn log_options(config: &BrokerConfig) -> LogOptions {
    let shares = Shares::of(config.memory);
    LogOptions {
        folder: config.data_dir.clone(),
        journal_file_bytes: config.journal_file_bytes,
        journal_reserve_bytes: JOURNAL_RESERVE_BYTES,
        segment_bytes: config.segment_bytes,
        tail_bytes_max: if Broken::Tail.is_on() { usize::MAX } else { shares.recent },
        memory_bytes_max: shares.memory_topics,
        open_files_max: config.open_files_max,
        entropy: [RandomState::new().hash_one("directory"), RandomState::new().hash_one("ids")],
        promise_of: |settings| {
            TopicSettings::decode(settings)
                .map(|settings| promise(&settings))
                .map_err(|error| error.to_string())
        },
    }
}
