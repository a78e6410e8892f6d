//! [`Served`]: a member whose stream the server may end. However the stream then goes, the member is not blamed for it.

use std::ops::{Deref, DerefMut};

use ratatoskr_broker::Member;

use crate::closing::Closing;

/// See the file's head.
pub(crate) struct Served {
    member: Member,
    closing: Closing,
}

impl Served {
    pub(crate) fn new(member: Member, closing: &Closing) -> Served {
        Served { member, closing: closing.clone() }
    }

    /// True once the server shuts down.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_closed()
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
            self.member.leave_in_order();
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

    async fn dead_after(is_closing: bool) -> u64 {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
        let topic = TopicName::parse("orders").unwrap();
        broker.publish(&topic, NewMessage::new("one")).await.unwrap();
        let name = SubscriptionRef { topic, name: SubscriptionName::parse("billing").unwrap() };
        let once = SubscriptionSettings { attempts_max: 1, ..SubscriptionSettings::default() };
        let create = Some((Start::Earliest, once));
        let options = JoinOptions { member: String::new(), window: Window::default(), create };
        let (closer, closing) = closing();
        let mut served = Served::new(broker.join(&name, options).await.unwrap(), &closing);
        served.next_batch().await.unwrap();
        if is_closing {
            closer.close();
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
    async fn a_stream_that_is_cut_off_counts_unless_the_server_stops() {
        assert_eq!(dead_after(false).await, 1);
        assert_eq!(dead_after(true).await, 0);
    }
}
