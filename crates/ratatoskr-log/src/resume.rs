//! Going on in a journal file that an earlier run left, for a start that finds no room for a new one.
//!
//! ```text
//!    header │ block │ block │ torn? leftovers ░░░░          what the earlier run left
//!    header │ block │ block │ zeros                         wiped, synced
//!    header │ block │ block │ block of this run │ zeros
//!                           ▲ `position`: where the replay found the end
//! ```
//!
//! Blocks of the earlier run may stand behind the end: written, never synced, behind one that is torn. A new block could end
//! exactly where such a one begins, and it would be read as its successor. So everything behind the end is wiped and synced
//! before anything is written there. This overwrites bytes the file has and takes no room.
//! A crash meanwhile leaves the blocks before `position` untouched, and behind it any mix of leftovers and zeros: as after the
//! first crash, a torn block, or one that nobody was told of.

use std::path::Path;
use std::sync::Arc;

use crate::block::PAGE_BYTES;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::LogError;

/// Bytes looked at, and wiped, at a time.
const WINDOW_BYTES: usize = 256 << 10;

/// Opens a journal file and wipes what stands from `position` on. Durable when it returns.
pub(crate) fn prepare(
    disk: &Arc<dyn Disk>,
    path: &Path,
    position: u64,
) -> Result<Arc<dyn DiskFile>, LogError> {
    let failed = |action, source| LogError::Io { action, path: path.to_owned(), source };
    let file = disk.open(path, OpenMode::Write).map_err(|error| LogError::refused("open", path, error))?;
    let length = file.len().map_err(|error| failed("measure", error))?;
    let (mut window, zeros) = (vec![0; WINDOW_BYTES], vec![0; PAGE_BYTES]);
    let (mut at, mut has_wiped) = (position, false);
    while at < length {
        let wanted = (length - at).min(WINDOW_BYTES as u64) as usize;
        let read = file.read_at(&mut window[..wanted], at).map_err(|error| failed("read", error))?;
        if read == 0 {
            break;
        }
        for (page, content) in window[..read].chunks(PAGE_BYTES).enumerate() {
            if content.iter().any(|byte| *byte != 0) {
                let place = at + (page * PAGE_BYTES) as u64;
                // A file system that needs room to overwrite may be out of it: the start fails, and nothing is lost.
                file.write_all_at(&zeros[..content.len()], place)
                    .map_err(|error| LogError::io("wipe", path, error))?;
                has_wiped = true;
            }
        }
        at += read as u64;
    }
    if has_wiped {
        file.sync_data().map_err(|error| failed("sync", error))?;
    }
    Ok(file)
}
