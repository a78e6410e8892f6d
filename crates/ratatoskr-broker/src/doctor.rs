//! Looking at a data directory while no broker uses it.

use std::path::Path;
use std::sync::Arc;

use ratatoskr_log::{Diagnosis, Disk, DiskSpace, Finding, RealDisk, Severity};

use crate::broken::Broken;
use crate::broker::{BrokerConfig, log_options};
use crate::error::OpenError;
use parking_lot::RwLock;
use ratatoskr_state::State;

/// Looks at everything in a data directory and says what is wrong with it; changes nothing. An error means that it could not be looked at:
/// there is none, or a running broker has it.
pub fn examine(data_dir: &Path) -> Result<Diagnosis, OpenError> {
    let mut diagnosis = examine_on(data_dir, &(Arc::new(RealDisk) as Arc<dyn Disk>))?;
    diagnosis.findings.extend(DiskSpace::of(data_dir).ok().and_then(|space| full(data_dir, space)));
    Ok(diagnosis)
}

/// Said when a file system has no room for another journal file of the usual size.
fn full(data_dir: &Path, space: DiskSpace) -> Option<Finding> {
    let journal_file_bytes = BrokerConfig::new(data_dir).journal_file_bytes;
    (space.available_bytes < journal_file_bytes).then(|| Finding {
        severity: Severity::Note,
        path: data_dir.to_owned(),
        position: None,
        topic: None,
        offset: None,
        what: format!(
            "the disk is full: {} % of its file system are used, and {} bytes are left; a journal file takes {journal_file_bytes}",
            space.used_percent(),
            space.available_bytes
        ),
        meaning: "the broker starts; when the journal needs another file it goes into the state disk_full: it serves reads, acks, purges and deletions, and publishing waits",
        advice: "free space on this file system, or start the broker and purge or delete topics; publishing goes on by itself",
    })
}

/// [`examine`] on another disk, such as a simulated one.
pub fn examine_on(data_dir: &Path, disk: &Arc<dyn Disk>) -> Result<Diagnosis, OpenError> {
    // The state is read as at a start, so that what could not be read then is found now.
    let state: Arc<RwLock<State>> = Arc::default();
    let options = log_options(&BrokerConfig::new(data_dir));
    let mut diagnosis = ratatoskr_log::examine(disk, options, state)?;
    if Broken::Doctor.is_on() {
        diagnosis.findings.clear();
    }
    Ok(diagnosis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_for_a_journal_file_is_told() {
        let told = |available_bytes| {
            let space = DiskSpace { used_bytes: 99 * (32 << 20), available_bytes };
            full(Path::new("data"), space).map(|finding| finding.what)
        };
        assert_eq!(told(32 << 20), None);
        let what = told((32 << 20) - 1).unwrap();
        assert!(what.contains("99 %") && what.contains("33554431 bytes are left"), "{what}");
    }
}
