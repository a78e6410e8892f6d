//! [`Served`]: a member on a stream. How the stream ends says how the member leaves.
//!
//! ```text
//!   the server shuts down       ──▶ what it held was never delivered
//!   the connection broke        ──▶ it has vanished
//!   cancelled, ended, refused   ──▶ it has closed
//! ```

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use ratatoskr_broker::Member;

use crate::closing::Closing;
use crate::peer_end::PeerEnd;

/// What a stream knows of both its ends.
#[derive(Clone)]
pub(crate) struct StreamEnds {
    pub(crate) closing: Closing,
    peer_end: Arc<PeerEnd>,
}

impl StreamEnds {
    pub(crate) fn new(closing: &Closing, peer_end: Arc<PeerEnd>) -> StreamEnds {
        StreamEnds { closing: closing.clone(), peer_end }
    }

    /// Joins a member to it.
    pub(crate) fn serve(self, member: Member) -> Served {
        Served { member, ends: self }
    }
}

/// See the file's head.
pub(crate) struct Served {
    member: Member,
    ends: StreamEnds,
}

impl Served {
    /// True once the server shuts down.
    pub(crate) fn is_closing(&self) -> bool {
        self.ends.closing.is_closed()
    }
}

impl Deref for Served {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.member
    }
}

impl DerefMut for Served {
    fn deref_mut(&mut self) -> &mut Member {
        &mut self.member
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Also if the client reads nothing, and the stream is cut off once time is up.
        if self.is_closing() {
            self.member.release_when_dropped();
        } else if !self.ends.peer_end.has_vanished() {
            self.member.close_when_dropped();
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatoskr_broker::{
        Broker, BrokerConfig, JoinOptions, NewMessage, Start, SubscriptionName, SubscriptionRef,
        SubscriptionSettings, TopicName, Window,
    };

    use super::*;
    use crate::closing::closing;

    /// How a stream ends that was cut off.
    #[derive(PartialEq)]
    enum Cut {
        ByServer,
        ByReset,
        WithConnection,
    }

    async fn dead_after(cut: Cut) -> u64 {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
        let topic = TopicName::parse("orders").unwrap();
        broker.publish(&topic, NewMessage::new("one")).await.unwrap();
        let name = SubscriptionRef { topic, name: SubscriptionName::parse("billing").unwrap() };
        let once = SubscriptionSettings { attempts_max: 1, ..SubscriptionSettings::default() };
        let create = Some((Start::Earliest, once));
        let options = JoinOptions { member: String::new(), window: Window::default(), create };
        let (closer, closing) = closing();
        let peer_end = Arc::<PeerEnd>::default();
        let ends = StreamEnds::new(&closing, Arc::clone(&peer_end));
        let mut served = ends.serve(broker.join(&name, options).await.unwrap());
        served.next_batch().await.unwrap();
        match cut {
            Cut::ByServer => closer.close(),
            Cut::WithConnection => peer_end.vanish(),
            Cut::ByReset => {}
        }
        // As when the stream is cut off.
        drop(served);
        loop {
            let description = broker.describe_subscription(&name).await.unwrap();
            if description.member_count == 0 && (description.dead == 1 || description.leased == 0) {
                return description.dead;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_message_alone_on_a_lost_connection_has_used_up_an_attempt_and_on_a_closed_stream_it_has_not() {
        assert_eq!(dead_after(Cut::WithConnection).await, 1);
        assert_eq!(dead_after(Cut::ByReset).await, 0);
        assert_eq!(dead_after(Cut::ByServer).await, 0);
    }
}
