//! Stopping a broker of which a thread has failed: it says so, and what was acknowledged is there afterwards.

#![allow(clippy::unwrap_used)]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatoskr_broker::{Broker, BrokerConfig, Health, NewMessage, ShutdownError, TopicName};
use ratatoskr_log::{Disk, DiskFile, DiskLock, OpenMode, RealClock, RealDisk};

/// A disk on which a sync of a journal file panics, once it is told to: a fault of ours outside of any topic's owner.
struct PanickyDisk {
    panics: Arc<AtomicBool>,
}

struct PanickyFile {
    file: Arc<dyn DiskFile>,
    panics: Arc<AtomicBool>,
}

impl Disk for PanickyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(PanickyFile { file: RealDisk.open(path, mode)?, panics: self.panics.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for PanickyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        assert!(!self.panics.load(Ordering::Relaxed), "a fault of ours");
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

#[tokio::test]
async fn a_broker_whose_sequencer_has_failed_says_so_when_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (config, panics) = (BrokerConfig::new(folder.path()), Arc::new(AtomicBool::new(false)));
    let disk = Arc::new(PanickyDisk { panics: panics.clone() });
    let broker = Broker::open_on(&config, disk, Arc::new(RealClock)).unwrap();
    let topic = TopicName::parse("orders").unwrap();
    broker.publish(&topic, NewMessage::new("acknowledged")).await.unwrap();
    panics.store(true, Ordering::Relaxed);
    assert!(broker.publish(&topic, NewMessage::new("not acknowledged")).await.is_err());
    assert!(matches!(broker.health(), Health::Failed { .. }));
    let stopped = broker.shutdown();
    assert!(matches!(stopped, Err(ShutdownError::ThreadFailed { thread: "sequencer" })), "{stopped:?}");
    drop(broker);

    let broker = Broker::open(config).unwrap();
    assert!(broker.stats(&topic).unwrap().message_count >= 1, "what was acknowledged is gone");
    broker.shutdown().unwrap();
}
