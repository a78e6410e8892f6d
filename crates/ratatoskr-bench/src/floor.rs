//! The physical reference: what the disk and the loopback cost before any broker does anything.
//!
//! ```text
//!   disk   append 4 KiB ─▶ fdatasync ─▶ append 4 KiB ─▶ …      what one durable write waits for at least
//!   pace   what is due ─▶ overwrite 4 KiB ─▶ fdatasync ─▶ …     what a message waits for at least that comes at a fixed rate
//!   TCP    64 bytes there ─▶ 64 bytes back ─▶ …                what one call waits for at least
//! ```
//!
//! Measured in the same run and the same folder as the broker: on a busy machine both move, and figures are read against them.
//! Deliberately bare: blocking calls on threads of their own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use crate::error::{Outcome, during, failed};
use crate::latency::{Latencies, Percentiles};
use crate::pace::{Schedule, wake_in_time};

/// One page, as a journal would append it.
const PAGE_BYTES: usize = 4096;
/// Bytes of a ping.
const PING_BYTES: usize = 64;
/// How often the reference beside a workload is taken; `bench floor` asks for more.
pub(crate) const SAMPLES: u32 = 500;

/// Bytes of the file that is written over at a pace: as many as a journal file has.
const PACED_FILE_BYTES: u64 = 32 << 20;

/// What the machine gave.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Write and `fdatasync` of 4 KiB, appended; `None` where the broker's disk is not ours to try.
    pub sync: Option<Percentiles>,
    /// A round trip of 64 bytes over loopback.
    pub ping: Percentiles,
}

impl Floor {
    /// Tries the disk of a folder, if one is given, and the loopback.
    pub(crate) fn measure(folder: Option<&Path>, samples: u32) -> Outcome<Floor> {
        let sync = folder.map(|folder| sync_times(folder, samples)).transpose()?;
        Ok(Floor { sync, ping: ping_times(samples.saturating_mul(4))? })
    }
}

fn sync_times(folder: &Path, samples: u32) -> Outcome<Percentiles> {
    let file = tempfile::tempfile_in(folder);
    let mut file: File = file.map_err(during(format_args!("creating a file in {}", folder.display())))?;
    let mut page = [0; PAGE_BYTES];
    fastrand::fill(&mut page);
    let mut latencies = Latencies::new();
    for _ in 0..samples.max(1) {
        let started = Instant::now();
        file.write_all(&page)
            .and_then(|()| file.sync_data())
            .map_err(during("writing the reference file"))?;
        latencies.record(started.elapsed());
    }
    latencies.percentiles().ok_or_else(|| failed("nothing was written"))
}

/// Messages at a fixed rate: one thread writes a page for all that are due, in place, and syncs it. The answer is how long each took from
/// when it was due.
pub(crate) fn paced_sync_times(folder: &Path, schedule: Schedule, messages: u64) -> Outcome<Percentiles> {
    let file = tempfile::tempfile_in(folder);
    let file: File = file.map_err(during(format_args!("creating a file in {}", folder.display())))?;
    let mut page = [0; PAGE_BYTES];
    fastrand::fill(&mut page);
    let allocated = (0..PACED_FILE_BYTES)
        .step_by(PAGE_BYTES)
        .try_for_each(|position| file.write_all_at(&page, position))
        .and_then(|()| file.sync_all());
    allocated.map_err(during("filling the reference file"))?;
    wake_in_time();
    let (mut latencies, mut position, start) = (Latencies::new(), 0, Instant::now());
    let mut done = 0;
    while done < messages {
        let next = start + schedule.due(done);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let due = schedule.due_by(start.elapsed()).clamp(done + 1, messages);
        let written = file.write_all_at(&page, position).and_then(|()| file.sync_data());
        written.map_err(during("writing the reference file"))?;
        position = (position + PAGE_BYTES as u64) % PACED_FILE_BYTES;
        let synced = start.elapsed();
        (done..due).for_each(|number| latencies.record(synced.saturating_sub(schedule.due(number))));
        done = due;
    }
    latencies.percentiles().ok_or_else(|| failed("nothing was due"))
}

fn ping_times(samples: u32) -> Outcome<Percentiles> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(during("listening on loopback"))?;
    let address = listener.local_addr().map_err(during("reading a free port"))?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut ping = [0; PING_BYTES];
        // Ends when the other side closes.
        while socket.read_exact(&mut ping).is_ok() {
            socket.write_all(&ping)?;
        }
        Ok(())
    });
    let mut socket = TcpStream::connect(address).map_err(during("connecting over loopback"))?;
    socket.set_nodelay(true).map_err(during("setting TCP_NODELAY"))?;
    let (mut ping, mut latencies) = ([7; PING_BYTES], Latencies::new());
    for _ in 0..samples.max(1) {
        let started = Instant::now();
        let there_and_back = socket.write_all(&ping).and_then(|()| socket.read_exact(&mut ping));
        there_and_back.map_err(during("sending over loopback"))?;
        latencies.record(started.elapsed());
    }
    drop(socket);
    let echoed = echo.join().map_err(|_| failed("the echoing thread panicked"))?;
    echoed.map_err(during("echoing over loopback"))?;
    latencies.percentiles().ok_or_else(|| failed("nothing was sent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_and_the_loopback_are_tried_as_often_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let floor = Floor::measure(Some(folder.path()), 5).unwrap();
        assert_eq!((floor.sync.unwrap().count, floor.ping.count), (5, 20));
        assert!(Floor::measure(None, 1).unwrap().sync.is_none());
    }

    #[test]
    fn at_a_pace_every_message_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let seen = paced_sync_times(folder.path(), Schedule::new(10_000), 100).unwrap();
        assert_eq!(seen.count, 100);
    }
}
