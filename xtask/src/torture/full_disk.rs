//! A full disk: publishing is refused, reading goes on, and it recovers by itself once there is room.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ratatoskr_proto as wire;

use super::arena::{Arena, converse, in_ms, stop, until, within};
use super::ledger::Ledger;
use super::load::{TOPIC, batch_of, connect, create_topic, read_all};
use super::{Fault, Tried};
use crate::failed::{Failed, Outcome, While};

/// The disk: room for three journal files, a few segments, and the ballast.
const DISK: &str = "size=144m";
/// Somebody else's, and more than a journal file.
const BALLAST_BYTES: usize = 40 << 20;
/// It looks for room once a second.
const BACK_MAX: Duration = Duration::from_secs(10);
/// Bytes of a message that fills the disk.
const FILLER_BYTES: usize = 256 << 10;

pub(super) const FAULT: Fault = Fault {
    name: "full-disk",
    what: "the disk is full (a tmpfs of 144 MiB)",
    promise: "publishing is refused and says why, reading goes on, and it recovers by itself once there is room; nothing is lost",
    run: |arena| converse(run(arena)),
};

/// A small disk, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Outcome<Option<SmallDisk>> {
        std::fs::create_dir_all(at).when("creating a folder to mount at")?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "none"]).arg(at).output();
        let mounted = mounted.when("starting mount")?;
        Ok(mounted.status.success().then(|| SmallDisk(at.to_owned())))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let mut ground = arena.ground()?;
    let at = ground.folder.path().join("disk");
    let Some(disk) = SmallDisk::mount(&at)? else {
        return Ok(Tried::not_here("a tmpfs can be mounted by root only"));
    };
    ground.setup.folder = at.clone();
    let setup = &ground.setup;
    let broker = setup.start()?;
    create_topic(&setup.uri()).await?;
    let (mut ledger, mut recovered, times) = (Ledger::default(), Vec::new(), arena.times(1, 5));
    let (mut number, mut fillers) = (0, 0);
    for _ in 0..times {
        let ballast = at.join("ballast");
        // What was purged the last time goes when the broker comes to it.
        until("there is room for the ballast", async || {
            Ok(std::fs::write(&ballast, vec![7; BALLAST_BYTES]).is_ok())
        })
        .await?;
        let why = fill(&setup.uri(), &mut ledger, (&mut number, &mut fillers)).await?;
        if !why.contains("disk") {
            return Err(Failed::new(format!("it does not say that the disk is full: {why}")));
        }
        // Reading goes on.
        let stored = read_all(&setup.uri(), TOPIC).await;
        let mut stored = stored.when("reading while the disk is full")?;
        stored.retain(|message| message.payload.len() < FILLER_BYTES);
        if stored.len() < ledger.receipts.len() {
            return Err(Failed::new("messages cannot be read while the disk is full"));
        }
        // Somebody makes room, and nobody tells the broker.
        let freed = Instant::now();
        std::fs::remove_file(&ballast).when("removing the ballast")?;
        within(BACK_MAX, "publishing goes on by itself", async || {
            Ok(publish(&setup.uri(), &mut ledger, &mut number).await.is_ok())
        })
        .await?;
        recovered.push(freed.elapsed());
        connect(&setup.uri()).await?.purge_topic(purge("filler")).await?;
    }
    // What is on the disk, and not only what is in memory.
    broker.kill_nine()?;
    let broker = setup.start()?;
    let lost = ledger.check(&read_all(&setup.uri(), TOPIC).await?)?;
    stop(broker).await?;
    drop(disk);
    let tried = format!(
        "{times} times full after {fillers} messages of 256 KiB; {} others acknowledged",
        ledger.receipts.len()
    );
    Ok(Tried { how_often: tried, lost, recovered: in_ms(&mut recovered), ..Tried::default() })
}

/// Publishes until it is refused; answers why.
async fn fill(uri: &str, ledger: &mut Ledger, (number, fillers): (&mut u64, &mut u64)) -> Outcome<String> {
    let mut client = connect(uri).await?;
    let started = Instant::now();
    loop {
        let request = wire::PublishRequest {
            topic: "filler".to_owned(),
            payload: vec![b'f'; FILLER_BYTES].into(),
            ..wire::PublishRequest::default()
        };
        match client.publish(request).await {
            Ok(response) if response.get_ref().success => *fillers += 1,
            Ok(response) => return Ok(response.into_inner().error),
            Err(status) => return Ok(status.message().to_owned()),
        }
        if let Err(refused) = publish(uri, ledger, number).await {
            return Ok(refused.to_string());
        }
        if started.elapsed() > super::arena::PATIENCE {
            return Err(Failed::new("a disk of 144 MiB is never full"));
        }
    }
}

async fn publish(uri: &str, ledger: &mut Ledger, number: &mut u64) -> Outcome {
    let response = connect(uri).await?.publish_batch(batch_of(*number..=*number)).await?.into_inner();
    let result = response.results.first().filter(|result| result.success);
    let Some(result) = result else { return Err(Failed::new("it was refused")) };
    ledger.receipts.insert(*number, result.offset as u64);
    *number += 1;
    Ok(())
}

fn purge(topic: &str) -> wire::PurgeTopicRequest {
    wire::PurgeTopicRequest { name: topic.to_owned(), ..wire::PurgeTopicRequest::default() }
}
