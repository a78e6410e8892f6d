//! Reading a topic: counting what comes undecoded, or looking at every message.
//!
//! Readers wait for messages that may have been lost, so they have [`PATIENCE`]: a load on which nothing moves any more has
//! ended, and what is missing is counted as lost.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use prost::Message as _;
use ratatoskr_proto::start_position::Position;
use ratatoskr_proto::{StartPosition, SubscribeRequest};

use crate::error::{Outcome, during, failed};
use crate::stamp::frame_of;
use crate::views::MessageView;
use crate::wire::{Connection, Frames};

/// When nothing has come for so long, nothing more will.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// With the oldest message.
    Earliest,
    /// With the next one that is published.
    Latest,
}

/// What is done with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Frames are counted, nothing is decoded: the broker's side is what is measured.
    Count,
    /// Every message is decoded.
    Decode,
}

/// Follows a topic. Returns once the broker has taken the subscriber in.
pub(crate) async fn follow(connection: &Connection, topic: &str, from: From) -> Outcome<Frames> {
    let position = match from {
        From::Earliest => Position::Earliest(true),
        From::Latest => Position::Latest(true),
    };
    let request = SubscribeRequest {
        topic: topic.to_owned(),
        start: Some(StartPosition { position: Some(position) }),
        ..SubscribeRequest::default()
    };
    connection.caller("Subscribe").follow(frame_of(&request)).await
}

/// Counts messages until there are enough.
pub(crate) async fn count(frames: &mut Frames, messages: u64, done: &Cell<u64>) -> Outcome {
    let mut counted = 0;
    while counted < messages {
        let more = frames.count().await?.ok_or_else(|| failed("the broker ended a subscription"))?;
        counted += more;
        done.set(done.get() + more);
    }
    Ok(())
}

/// Decodes messages until there are enough.
pub(crate) async fn read(
    frames: &mut Frames,
    messages: u64,
    done: &Cell<u64>,
    mut look: impl FnMut(&MessageView),
) -> Outcome {
    for _ in 0..messages {
        let frame = frames.next().await?.ok_or_else(|| failed("the broker ended a subscription"))?;
        look(&MessageView::decode(frame).map_err(during("reading a message"))?);
        done.set(done.get() + 1);
    }
    Ok(())
}

/// Waits for a load until it ends, or until nothing has moved for a while; `done` is what moves.
pub(crate) async fn while_it_moves<T>(
    done: &Rc<Cell<u64>>,
    load: impl Future<Output = Outcome<T>>,
) -> Outcome<Option<T>> {
    let standing = async {
        let mut seen = done.get();
        loop {
            tokio::time::sleep(PATIENCE).await;
            if done.get() == seen {
                return;
            }
            seen = done.get();
        }
    };
    tokio::select! {
        biased;
        outcome = load => outcome.map(Some),
        () = standing => Ok(None),
    }
}
