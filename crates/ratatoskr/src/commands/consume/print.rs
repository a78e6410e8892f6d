//! `consume` without `--exec`: print and ack, or with `--no-ack` print and hold.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ratatoskr_client::Delivery;

use super::{ConsumeArguments, Fates, Next, Work};
use crate::exit::Outcome;
use crate::message_writer::{Layout, MessageWriter};

pub(super) async fn run(work: &mut Work, arguments: &ConsumeArguments) -> Outcome {
    let mut writer = MessageWriter::new(Layout::of(arguments.raw, arguments.format));
    if arguments.no_ack { hold(work, &mut writer).await } else { ack(work, &mut writer).await }
}

async fn ack(work: &mut Work, writer: &mut MessageWriter) -> Outcome {
    let mut fates = Fates::default();
    loop {
        let next = tokio::select! {
            biased;
            next = work.next() => next?,
            () = fates.next() => continue,
        };
        let Next::Delivery(first) = next else { break };
        for delivery in print(work, *first, writer)? {
            fates.push(delivery.offset(), delivery.ack());
        }
    }
    fates.finish().await;
    Ok(())
}

/// Prints a message and those that wait behind it, and flushes once for all of them.
fn print(work: &mut Work, first: Delivery, writer: &mut MessageWriter) -> Outcome<Vec<Delivery>> {
    writer.write(first.message())?;
    let mut printed = vec![first];
    // Bounded by the window: nothing more comes until these are settled.
    while let Some(delivery) = work.try_next()? {
        writer.write(delivery.message())?;
        printed.push(delivery);
    }
    writer.flush()?;
    Ok(printed)
}

async fn hold(work: &mut Work, writer: &mut MessageWriter) -> Outcome {
    // Held as long as we are here, whatever the lease.
    let mut held = FuturesUnordered::new();
    loop {
        let next = tokio::select! {
            next = work.next() => next?,
            Some(()) = held.next() => unreachable!("what is held is held for ever"),
        };
        let Next::Delivery(first) = next else { return Ok(()) };
        for delivery in print(work, *first, writer)? {
            held.push(async move { delivery.keep_during(std::future::pending()).await });
        }
    }
}
