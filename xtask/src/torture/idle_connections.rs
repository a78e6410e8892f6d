//! Thousands of connections that say nothing.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::arena::{Arena, converse, stop};
use super::load::{TOPIC, batch_of, connect, create_topic, read_all};
use super::{Fault, Tried};
use crate::failed::{Failed, Outcome, While};

/// What an HTTP/2 client says first: the preface, and settings that are empty.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// What a connection that says nothing may cost.
const MEMORY_EACH_MAX: u64 = 32 << 10;
/// What a publish may take meanwhile.
const PUBLISH_MAX: Duration = Duration::from_secs(1);

pub(super) const FAULT: Fault = Fault {
    name: "idle-connections",
    what: "thousands of connections that have said hello and nothing else",
    promise: "they cost at most 32 KiB each; publishing goes on",
    run: |arena| converse(run(arena)),
};

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let ground = arena.ground()?;
    let setup = &ground.setup;
    let (broker, count) = (setup.start()?, arena.times(1_000, 10_000));
    create_topic(&setup.uri()).await?;
    connect(&setup.uri()).await?.publish_batch(batch_of(0..10)).await?;
    let (before, started) = (broker.usage()?.rss_bytes, Instant::now());
    let mut held = Vec::new();
    for number in 0..count {
        let mut connection = match TcpStream::connect(setup.grpc).await {
            Err(error) if error.raw_os_error() == Some(24) => {
                return Ok(Tried::not_here(format!("`ulimit -n` allows {number} open connections only")));
            }
            connected => connected.when(format_args!("opening connection {number}"))?,
        };
        connection.write_all(HELLO).await.when("saying hello")?;
        // Its settings: it has taken the connection.
        let mut frame = [0; 9];
        let answer = tokio::time::timeout(super::arena::PATIENCE, connection.read_exact(&mut frame)).await;
        answer.when("waiting for the broker's hello")?.when("reading the broker's hello")?;
        held.push(connection);
    }
    let opened = started.elapsed();
    let asked = Instant::now();
    let response = connect(&setup.uri()).await?.publish_batch(batch_of(10..20)).await?;
    let took = asked.elapsed();
    let each = broker.usage()?.rss_bytes.saturating_sub(before) / count;
    let stored = read_all(&setup.uri(), TOPIC).await?.len() as u64;
    drop(held);
    stop(broker).await?;
    if each > MEMORY_EACH_MAX {
        return Err(Failed::new(format!("each costs {} KiB", each >> 10)));
    }
    if took > PUBLISH_MAX {
        return Err(Failed::new(format!("a publish took {} ms meanwhile", took.as_millis())));
    }
    let lost = 10 + response.into_inner().success_count as u64 - stored;
    let tried = format!(
        "{count} connections, {} KiB each, opened in {:.1} s; a publish took {} ms",
        each >> 10,
        opened.as_secs_f64(),
        took.as_millis()
    );
    Ok(Tried { how_often: tried, lost, recovered: "–".to_owned(), ..Tried::default() })
}
