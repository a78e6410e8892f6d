//! The physical reference: the same bytes over the same loopback to the same disk, without a broker.
//!
//! ```text
//!   publish   n messages there ─▶ written ─▶ synced ─▶ one byte back ─▶ the next n     for fsync; without the sync for written,
//!   fan-out   a one-way stream                                                         without the write for memory
//! ```
//!
//! Blocking calls on two threads. A broker that takes new messages while it syncs may exceed the figure of many in flight; of one in
//! flight none can.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::mark::noise;
use super::peers::Promise;
use super::sample::{Latencies, Measure, Sample};
use crate::failed::{Failed, Outcome, While};

/// What one write of a stream takes.
const STREAM_BYTES: usize = 64 << 10;

/// So many messages there, as safe as the promise says, and a byte back, for so long.
pub(crate) fn publish(
    folder: &Path,
    promise: Promise,
    messages: u32,
    (size, time): (usize, Duration),
) -> Outcome<Sample> {
    let piece = noise(size * messages as usize);
    let mut file: File =
        tempfile::tempfile_in(folder).when(format_args!("creating a file in {}", folder.display()))?;
    let mut kept = vec![0; piece.len()];
    let (mut socket, echo) = pair(move |mut socket| {
        // Ends when the other side closes.
        while socket.read_exact(&mut kept).is_ok() {
            if promise != Promise::Memory {
                file.write_all(&kept)?;
            }
            if promise == Promise::Fsync {
                file.sync_data()?;
            }
            socket.write_all(b"k")?;
        }
        Ok(())
    })?;
    let (mut latencies, mut answer, mut pieces) = (Latencies::default(), [0], 0_u64);
    let started = Instant::now();
    while started.elapsed() < time {
        let sent = Instant::now();
        socket
            .write_all(&piece)
            .and_then(|()| socket.read_exact(&mut answer))
            .when("sending over loopback")?;
        latencies.record(sent.elapsed());
        pieces += 1;
    }
    let rate = (pieces * u64::from(messages)) as f64 / started.elapsed().as_secs_f64();
    drop(socket);
    end(echo)?;
    Ok(Sample::of([(Measure::Rate, rate)].into_iter().chain(latencies.measures())))
}

/// Messages one way, for so long.
pub(crate) fn stream(size: usize, time: Duration) -> Outcome<Sample> {
    let mut kept = vec![0; 4 * STREAM_BYTES];
    let (mut socket, sink) = pair(move |mut socket| {
        while socket.read(&mut kept)? > 0 {}
        Ok(())
    })?;
    let (piece, mut bytes, started) = (noise(STREAM_BYTES), 0_usize, Instant::now());
    while started.elapsed() < time {
        socket.write_all(&piece).when("streaming over loopback")?;
        bytes += piece.len();
    }
    drop(socket);
    end(sink)?;
    Ok(Sample::of([(Measure::Rate, bytes as f64 / size as f64 / started.elapsed().as_secs_f64())]))
}

type Other = std::thread::JoinHandle<std::io::Result<()>>;

/// A connection over loopback whose other side a thread serves.
fn pair(
    serve: impl FnOnce(TcpStream) -> std::io::Result<()> + Send + 'static,
) -> Outcome<(TcpStream, Other)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).when("listening on loopback")?;
    let address = listener.local_addr().when("reading a free port")?;
    let other = std::thread::spawn(move || {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        serve(socket)
    });
    let socket = TcpStream::connect(address).when("connecting over loopback")?;
    socket.set_nodelay(true).when("setting TCP_NODELAY")?;
    Ok((socket, other))
}

fn end(other: Other) -> Outcome {
    other.join().map_err(|_| Failed::new("the reference's thread panicked"))?.when("serving the reference")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_gives_a_rate_for_each_promise() {
        let folder = tempfile::tempdir().unwrap();
        let time = Duration::from_millis(20);
        for promise in Promise::ALL {
            let sample = publish(folder.path(), promise, 4, (256, time)).unwrap();
            assert!(sample.values[&Measure::Rate] > 0.0 && sample.values.contains_key(&Measure::P99Us));
        }
        assert!(stream(256, time).unwrap().values[&Measure::Rate] > 0.0);
    }
}
