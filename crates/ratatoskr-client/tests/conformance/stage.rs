//! [`Stage`]: a door and a topic of one's own, and the short words behaviours are told in. Whatever waits here waits for a
//! condition, and says what it saw when that does not come.

use std::time::{Duration, Instant};

use ratatoskr_client::{NewMessage, Outcome, Receipt, Start, SubscriptionSettings};

use crate::doors::{At, Door, Member, Seen, Standing, Taken};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// The broker counts whole milliseconds: what it measures can be so much shorter than what is measured here.
const CLOCK_STEP: Duration = Duration::from_millis(2);

/// What a behaviour has to itself.
pub(crate) struct Stage<D> {
    pub(crate) door: D,
    /// Named after the behaviour; made by whoever needs it.
    pub(crate) topic: String,
}

impl<D: Door> Stage<D> {
    pub(crate) fn new(door: D, behaviour: &str) -> Stage<D> {
        Stage { door, topic: behaviour.to_owned() }
    }

    /// A subscription on the topic.
    pub(crate) fn at<'a>(&'a self, subscription: &'a str) -> At<'a> {
        (&self.topic, subscription)
    }

    /// Publishes payloads in one batch.
    pub(crate) async fn publish(&self, payloads: &[&'static str]) -> Vec<Receipt> {
        let messages = payloads.iter().map(|payload| NewMessage::new(*payload)).collect();
        self.door.publish_batch(&self.topic, messages).await.unwrap()
    }

    /// Publishes messages of these keys in one batch; the payload is the key.
    pub(crate) async fn publish_keys(&self, keys: &[&'static str]) {
        let messages = keys.iter().map(|key| NewMessage::new(*key).with_key(*key)).collect();
        self.door.publish_batch(&self.topic, messages).await.unwrap();
    }

    /// Publishes one message.
    pub(crate) async fn publish_one(&self, message: NewMessage) -> Receipt {
        self.door.publish(&self.topic, message).await.unwrap()
    }

    /// Creates a subscription that begins with the earliest message.
    pub(crate) async fn subscribe(&self, subscription: &str, settings: SubscriptionSettings) {
        self.door.create_subscription(self.at(subscription), Start::Earliest, settings).await.unwrap();
    }

    /// Joins a subscription with a window of so many messages.
    pub(crate) async fn join(&self, subscription: &str, window: u32) -> D::Member {
        self.door.join(self.at(subscription), window).await.unwrap()
    }

    /// The first member of a new subscription `billing`.
    pub(crate) async fn member(&self, settings: SubscriptionSettings) -> D::Member {
        self.subscribe("billing", settings).await;
        self.join("billing", 100).await
    }

    pub(crate) async fn standing(&self, subscription: &str) -> Standing {
        self.door.describe(self.at(subscription)).await.unwrap()
    }

    /// Waits until a subscription stands as wanted.
    pub(crate) async fn until(&self, subscription: &str, is_wanted: impl Fn(&Standing) -> bool) -> Standing {
        let started = Instant::now();
        loop {
            let standing = self.standing(subscription).await;
            if is_wanted(&standing) {
                return standing;
            }
            assert!(started.elapsed() < PATIENCE, "{subscription} stays at {standing:?}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the reason why nothing is delivered has this code.
    pub(crate) async fn until_why(&self, subscription: &str, code: &str) -> Standing {
        self.until(subscription, |standing| standing.why.split(':').next() == Some(code)).await
    }

    /// The next messages of a topic, from its earliest on.
    pub(crate) async fn read(&self, count: usize) -> Vec<Seen> {
        let reading = self.door.read(&self.topic, Start::Earliest, "", count);
        tokio::time::timeout(PATIENCE, reading).await.expect("messages come in time").unwrap()
    }
}

/// Settings that are all defaults, but for a retry that comes quickly.
pub(crate) fn quick() -> SubscriptionSettings {
    SubscriptionSettings { retry_delay_ms: Some(10), ..SubscriptionSettings::default() }
}

/// The next messages of a member.
pub(crate) async fn take(member: &mut impl Member, count: usize) -> Vec<Taken> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        let next = tokio::time::timeout(PATIENCE, member.next()).await;
        let Ok(next) = next else {
            panic!("{} of {count} messages came: {:?}", taken.len(), offsets(&taken))
        };
        taken.push(next.unwrap());
    }
    taken
}

/// The next message of a member.
pub(crate) async fn take_one(member: &mut impl Member) -> Taken {
    take(member, 1).await.remove(0)
}

/// Acks all of these.
pub(crate) async fn ack(member: &impl Member, taken: &[Taken]) {
    for one in taken {
        member.settle(one, Outcome::Ack).await.unwrap();
    }
}

/// Again after so long.
pub(crate) fn nack(delay_ms: u64, reason: &str) -> Outcome {
    Outcome::Nack { delay: Some(Duration::from_millis(delay_ms)), reason: reason.to_owned() }
}

/// To the dead letters.
pub(crate) fn reject(reason: &str) -> Outcome {
    Outcome::Reject { reason: reason.to_owned() }
}

pub(crate) fn offsets(taken: &[Taken]) -> Vec<u64> {
    taken.iter().map(|taken| taken.message.offset).collect()
}

pub(crate) fn attempts(taken: &[Taken]) -> Vec<u32> {
    taken.iter().map(|taken| taken.attempt).collect()
}

/// Fails when less time than this has passed.
pub(crate) fn assert_passed(since: Instant, ms: u64) {
    let passed = since.elapsed();
    assert!(passed + CLOCK_STEP >= Duration::from_millis(ms), "after {passed:?}, before {ms} ms");
}

/// Waits until the clock shows a later time, milliseconds since the Unix epoch.
pub(crate) async fn until_after(time_ms: u64) {
    let now = || std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_millis() as u64;
    while now() <= time_ms {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
