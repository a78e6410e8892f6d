//! One way to ask each protocol for the same: the only place that knows them all.
//!
//! Ours is not among them: `ratatoskr bench` drives our broker ([`mod@super::ours`]).

use std::net::SocketAddr;

use super::amqp::Queue;
use super::line::{Consumer, Producer};
use super::peers::Tongue;
use super::{amqp, jetstream, mqtt, nats, redis};
use crate::failed::{Failed, Outcome};

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Messages stay until they are consumed.
    Kept,
    /// Subscribers are there before the messages.
    Fan,
}

fn ours() -> Failed {
    Failed::new("our own broker is driven by `ratatoskr bench`")
}

impl Tongue {
    /// Whether the server does what it is there for.
    pub(crate) async fn answers(self, at: SocketAddr) -> Outcome {
        match self {
            Tongue::Ours => Err(ours()),
            Tongue::JetStream(_) => jetstream::answers(at).await,
            Tongue::NatsCore => nats::answers(at).await,
            Tongue::Redis => redis::answers(at).await,
            Tongue::Mqtt => mqtt::answers(at).await,
            Tongue::AmqpQuorum | Tongue::AmqpClassic => amqp::answers(at).await,
        }
    }

    /// Makes a topic.
    pub(crate) async fn create(self, at: SocketAddr, topic: &str, shape: Shape) -> Outcome {
        match (self, shape) {
            (Tongue::Ours, _) => Err(ours()),
            (Tongue::JetStream(_), _) => jetstream::create(at, topic).await,
            (Tongue::Mqtt, Shape::Kept) => mqtt::create(at, topic).await,
            (Tongue::NatsCore | Tongue::Redis, _) | (Tongue::Mqtt, Shape::Fan) => Ok(()),
            (Tongue::AmqpQuorum, Shape::Kept) => amqp::create(at, topic, Queue::Quorum).await,
            (Tongue::AmqpClassic, Shape::Kept) => amqp::create(at, topic, Queue::Classic).await,
            (Tongue::AmqpQuorum | Tongue::AmqpClassic, Shape::Fan) => amqp::create_fan(at, topic).await,
        }
    }

    /// Removes a topic.
    pub(crate) async fn delete(self, at: SocketAddr, topic: &str) -> Outcome {
        match self {
            Tongue::Ours => Err(ours()),
            Tongue::JetStream(_) => jetstream::delete(at, topic).await,
            Tongue::Mqtt => mqtt::delete(at, topic).await,
            Tongue::NatsCore => Ok(()),
            Tongue::Redis => redis::delete(at, topic).await,
            Tongue::AmqpQuorum | Tongue::AmqpClassic => amqp::delete(at, topic).await,
        }
    }

    /// Messages in a topic; `None` where the protocol has no word for it.
    pub(crate) async fn count(self, at: SocketAddr, topic: &str) -> Outcome<Option<u64>> {
        match self {
            Tongue::JetStream(_) => jetstream::count(at, topic).await.map(Some),
            Tongue::Redis => redis::count(at, topic).await.map(Some),
            Tongue::AmqpQuorum | Tongue::AmqpClassic => amqp::count(at, topic).await.map(Some),
            Tongue::Ours | Tongue::Mqtt | Tongue::NatsCore => Ok(None),
        }
    }

    /// A connection that publishes; `number` tells it from others.
    pub(crate) async fn producer(self, at: SocketAddr, topic: &str, number: u32) -> Outcome<Producer> {
        match self {
            Tongue::Ours => Err(ours()),
            Tongue::JetStream(batches) => jetstream::producer(at, topic, number, batches).await,
            Tongue::NatsCore => nats::producer(at, topic).await,
            Tongue::Redis => redis::producer(at, topic).await,
            Tongue::Mqtt => mqtt::producer(at, topic, number).await,
            Tongue::AmqpQuorum | Tongue::AmqpClassic => amqp::producer(at, topic).await,
        }
    }

    /// Members that share a topic and ack. MQTT 3.1.1 shares nothing: there it is one.
    pub(crate) async fn members(self, at: SocketAddr, topic: &str, count: u32) -> Outcome<Vec<Consumer>> {
        let mut members = Vec::new();
        for number in 0..if self == Tongue::Mqtt { 1 } else { count } {
            members.push(match self {
                Tongue::Ours | Tongue::NatsCore => return Err(Failed::new("there is nothing to share")),
                Tongue::JetStream(_) => jetstream::member(at, topic, number).await?,
                Tongue::Redis => redis::member(at, topic, number).await?,
                Tongue::Mqtt => mqtt::member(at, topic).await?,
                Tongue::AmqpQuorum | Tongue::AmqpClassic => amqp::member(at, topic).await?,
            });
        }
        Ok(members)
    }

    /// One subscriber of a kept topic, without acks.
    pub(crate) async fn follower(self, at: SocketAddr, topic: &str) -> Outcome<Consumer> {
        match self {
            Tongue::Ours => Err(ours()),
            Tongue::JetStream(_) => jetstream::followers(at, topic, 0, 1).await,
            Tongue::NatsCore => nats::followers(at, topic, 1).await,
            Tongue::Redis => redis::follower(at, topic).await,
            Tongue::Mqtt => mqtt::follower(at, topic, 0).await,
            Tongue::AmqpQuorum | Tongue::AmqpClassic => amqp::follower(at, topic).await,
        }
    }

    /// So many subscribers of a fan, without acks, over so many connections where the protocol lets them share.
    pub(crate) async fn fan(
        self,
        at: SocketAddr,
        topic: &str,
        count: u32,
        connections: u32,
    ) -> Outcome<Vec<Consumer>> {
        let connections = match self {
            Tongue::Redis | Tongue::Mqtt => count,
            _ => connections.min(count),
        };
        let mut consumers = Vec::new();
        for number in 0..connections {
            let share = (count + number) / connections;
            consumers.push(match self {
                Tongue::Ours => return Err(ours()),
                Tongue::JetStream(_) => jetstream::followers(at, topic, number, share).await?,
                Tongue::NatsCore => nats::followers(at, topic, share).await?,
                Tongue::Redis => redis::follower(at, topic).await?,
                Tongue::Mqtt => mqtt::follower(at, topic, number).await?,
                Tongue::AmqpQuorum | Tongue::AmqpClassic => amqp::fan(at, topic, number, share).await?,
            });
        }
        Ok(consumers)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_of_connections_add_up() {
        for (count, connections) in [(500_u32, 8_u32), (50, 8), (1, 1), (9, 4)] {
            let sum: u32 = (0..connections).map(|number| (count + number) / connections).sum();
            assert_eq!(sum, count);
        }
    }
}
