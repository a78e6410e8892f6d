//! A loss of power: what of the acknowledged messages was on the disk?
//!
//! ```text
//!   a file, in it a file system of its own (ext4, loop device) ─▶ the server's folder
//!   publish, 64 in flight ─▶ server frozen ─▶ file system shut down without flushing ─▶ kill -9 ─▶ mount again ─▶ start ─▶ read
//! ```
//!
//! The shutdown is the kernel's own, made to test file systems (`xfs_io -c shutdown`, of Debian's xfsprogs): from that moment nothing
//! reaches the device, and what lay in the page cache only is gone. Kinder than life: what the kernel had given to the device survives,
//! a device's own cache is not lost, no write is torn. It takes root and loop devices; without them a row says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::amounts::Amounts;
use super::crash::{missing, prepare, publish_until};
use super::peers::Peer;
use super::programs::{Found, located};
use super::sample::{Measure, Sample};
use super::server::Setup;
use crate::failed::{Outcome, While};
use crate::workshop::{read, run};

/// Room for what is published in a second or two, and for what servers reserve ahead; the file is sparse.
const DISK_BYTES: u64 = 4 << 30;

/// Cuts the power under load and counts what is missing.
pub(crate) async fn cut(
    peer: &'static Peer,
    program: Found,
    folder: &Path,
    amounts: &Amounts,
) -> Outcome<Sample> {
    let mut disk = Disk::make(folder)?;
    let setup = Setup::new(peer, program, &disk.server_folder()?)?;
    let server = setup.start().await?;
    prepare(&setup).await?;
    // Real servers have run for a while: what they are made of has been synced, and so has the topic.
    read(Command::new("sync").arg("--file-system").arg(&disk.place))?;
    let acked = publish_until(&setup, amounts, async {
        // Long enough for who syncs every second to have done so.
        tokio::time::sleep(3 * amounts.kill_after).await;
        // Whoever answers from memory would go on to do so after the cut.
        server.freeze();
        disk.shut_down()?;
        server.kill_nine()
    })
    .await?;
    disk.mount_again()?;
    let server = setup.start().await?;
    let mut sample = missing(&setup, &acked).await?;
    sample.values.insert(Measure::StartMs, server.start_took().as_secs_f64() * 1e3);
    server.kill_nine()?;
    Ok(sample)
}

/// A file system in a file.
struct Disk {
    image: PathBuf,
    /// Where it is mounted.
    place: PathBuf,
    is_mounted: bool,
}

impl Disk {
    fn make(folder: &Path) -> Outcome<Disk> {
        located("xfsprogs", "xfs_io")?;
        let mut disk = Disk { image: folder.join("disk"), place: folder.join("mounted"), is_mounted: false };
        let image = std::fs::File::create(&disk.image).when("creating a disk in a file")?;
        image.set_len(DISK_BYTES).when("creating a disk in a file")?;
        std::fs::create_dir(&disk.place).when("creating a place to mount at")?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image))?;
        disk.mount()?;
        Ok(disk)
    }

    fn server_folder(&self) -> Outcome<PathBuf> {
        let folder = self.place.join("server");
        std::fs::create_dir_all(&folder).when("creating the server's folder")?;
        Ok(folder)
    }

    fn mount(&mut self) -> Outcome {
        // Failing is told in the table, not on the terminal.
        read(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.place))?;
        self.is_mounted = true;
        Ok(())
    }

    fn shut_down(&self) -> Outcome {
        read(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.place)).map(drop)
    }

    fn mount_again(&mut self) -> Outcome {
        read(Command::new("umount").arg(&self.place))?;
        self.is_mounted = false;
        self.mount()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Lazily: a server that failed to start may not be gone from it yet.
            let _ = Command::new("umount").arg("--lazy").arg(&self.place).status();
        }
    }
}
