//! A topic with subscriptions, and a disk that fails on demand.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses what it needs

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatoskr_broker::{
    Broker, BrokerConfig, NewMessage, SubscriptionDescription, SubscriptionName, SubscriptionRef, TopicName,
};
use ratatoskr_log::{Disk, DiskFile, DiskLock, OpenMode, RealClock, RealDisk};

/// After so long what is waited for will not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

pub(crate) fn named(name: &str) -> SubscriptionRef {
    SubscriptionRef { topic: topic(), name: SubscriptionName::parse(name).unwrap() }
}

pub(crate) fn open(folder: &Path) -> Broker {
    Broker::open(BrokerConfig::new(folder)).unwrap()
}

/// Publishes messages that are numbered.
pub(crate) async fn publish(broker: &Broker, count: usize) {
    let messages = (0..count).map(|number| NewMessage::new(number.to_string())).collect();
    broker.publish_batch(&topic(), messages).await.unwrap();
}

/// Waits until a subscription stands as wanted.
pub(crate) async fn until(
    broker: &Broker,
    name: &str,
    what: impl Fn(&SubscriptionDescription) -> bool,
) -> SubscriptionDescription {
    let started = Instant::now();
    loop {
        let description = broker.describe_subscription(&named(name)).await.unwrap();
        if what(&description) {
            return description;
        }
        assert!(started.elapsed() < PATIENCE, "{description:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A disk whose segments cannot be opened, or whose journal cannot grow, while asked for.
#[derive(Clone, Default)]
pub(crate) struct Faulty {
    pub(crate) no_segments: Arc<AtomicBool>,
    pub(crate) no_room: Arc<AtomicBool>,
    pub(crate) slow_sync: Arc<AtomicBool>,
}

struct FaultyFile {
    file: Arc<dyn DiskFile>,
    is_journal: bool,
    disk: Faulty,
}

impl Disk for Faulty {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let is_segment = path.extension().is_some_and(|extension| extension == "segment");
        if is_segment && mode == OpenMode::Read && self.no_segments.load(Ordering::Relaxed) {
            return Err(io::Error::other("too many open files, for now"));
        }
        let is_journal = path.components().any(|part| part.as_os_str() == "journal");
        let file = RealDisk.open(path, mode)?;
        Ok(Arc::new(FaultyFile { file, is_journal, disk: self.clone() }))
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

impl DiskFile for FaultyFile {
    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(bytes, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if self.is_journal && self.disk.no_room.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_journal && self.disk.slow_sync.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(300));
        }
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

pub(crate) fn open_on(disk: &Faulty, folder: &Path) -> Broker {
    Broker::open_on(&BrokerConfig::new(folder), Arc::new(disk.clone()), Arc::new(RealClock)).unwrap()
}
