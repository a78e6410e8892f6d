//! Looking at a data directory while no broker uses it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ratatoskr_log::{Diagnosis, Disk, RealDisk};

use crate::broken::Broken;
use crate::broker::{BrokerConfig, log_options};
use crate::dedup::Dedup;
use crate::durable::Books;
use crate::error::OpenError;
use crate::ledger::BrokerLedger;

/// Looks at everything in a data directory and says what is wrong with it; changes nothing. An error means that it could not be looked at:
/// there is none, or a running broker has it.
pub fn examine(data_dir: &Path) -> Result<Diagnosis, OpenError> {
    examine_on(data_dir, &(Arc::new(RealDisk) as Arc<dyn Disk>))
}

/// [`examine`] on another disk, such as a simulated one.
pub fn examine_on(data_dir: &Path, disk: &Arc<dyn Disk>) -> Result<Diagnosis, OpenError> {
    // The books are read as at a start, so that what could not be read then is found now.
    let ledger = BrokerLedger {
        books: Arc::new(Books::default()),
        dedup: Arc::new(Dedup::new(usize::MAX)),
        believed_ms: Arc::new(AtomicU64::new(0)),
    };
    let options = log_options(&BrokerConfig::new(data_dir));
    let mut diagnosis = ratatoskr_log::examine(disk, options, Arc::new(ledger))?;
    if Broken::Doctor.is_on() {
        diagnosis.findings.clear();
    }
    Ok(diagnosis)
}
