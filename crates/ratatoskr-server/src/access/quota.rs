//! [`Namespace`]: a topic prefix that belongs to a tenant, and what the tenant may use.
//!
//! ```text
//!   rates ──▶ a Bucket each
//!   stored_bytes_max ──▶ a Stock, counted on, and put right once a second
//!   topics_max ──▶ topics there are + topics being made, looked at only when one is to be made
//! ```
//!
//! A batch is let through whole if anything is: it then takes longer until the next. So a batch larger than a second's
//! worth is slow, and never impossible.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ratatoskr_broker::TopicName;

use super::stock::{Load, Stock, Underway};
use crate::bucket::Bucket;
use crate::limits::STORED_LOOK;

/// What a namespace is made of; two of the same are the same namespace to a new policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceSettings {
    /// The name in the policy file.
    pub(crate) name: Arc<str>,
    /// What its topics' names begin with.
    pub(crate) prefix: Box<str>,
    /// Topics it may have.
    pub(crate) topics_max: Option<u64>,
    /// Messages published a second.
    pub(crate) publish_messages_per_second: Option<u64>,
    /// Bytes published a second: payloads, keys and metadata.
    pub(crate) publish_bytes_per_second: Option<u64>,
    /// Bytes its topics may hold together.
    pub(crate) stored_bytes_max: Option<u64>,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) settings: NamespaceSettings,
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    /// What its topics hold. Shared with the namespace of the next policy, if it is of the same topics.
    pub(super) stock: Arc<Stock>,
    making: Mutex<Making>,
}

/// Topics that are being made: counted with those there are, so that two at a time do not pass the limit.
#[derive(Debug, Default)]
struct Making {
    topics: HashSet<TopicName>,
    /// How many others there are, and as of which version of the broker's topics; `None` once that may have changed otherwise.
    others: Option<(u64, usize)>,
}

/// What a namespace has too much of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// Messages a second.
    Messages {
        /// The limit.
        per_second: u64,
        /// When something is let through again.
        retry_after: Duration,
    },
    /// Bytes a second.
    Bytes {
        /// The limit.
        per_second: u64,
        /// When something is let through again.
        retry_after: Duration,
    },
    /// Topics.
    Topics {
        /// The limit.
        topics_max: u64,
    },
    /// Bytes stored.
    Stored {
        /// The limit.
        bytes_max: u64,
        /// What there is, and what is on its way.
        bytes: u64,
    },
}

impl Exceeded {
    /// After what time there may be room, if waiting helps.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Exceeded::Messages { retry_after, .. } | Exceeded::Bytes { retry_after, .. } => {
                Some(*retry_after)
            }
            // Retention may remove something any time.
            Exceeded::Stored { .. } => Some(STORED_LOOK),
            Exceeded::Topics { .. } => None,
        }
    }
}

/// What a publish holds until it is done.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    /// The place of the topic it makes.
    pub(crate) place: Option<Reservation>,
    /// What it may add to what is stored.
    pub(super) _underway: Option<Underway>,
}

impl Namespace {
    pub(crate) fn new(settings: NamespaceSettings) -> Namespace {
        Namespace {
            messages: settings.publish_messages_per_second.map(Bucket::new),
            bytes: settings.publish_bytes_per_second.map(Bucket::new),
            stock: Arc::default(),
            making: Mutex::default(),
            settings,
        }
    }

    /// The same one as before, with what it has used up, if its settings are the same. What its topics hold stays known as long as they
    /// are the same topics.
    pub(super) fn after(settings: NamespaceSettings, before: Option<&Arc<Namespace>>) -> Arc<Namespace> {
        match before {
            Some(before) if before.settings == settings => Arc::clone(before),
            Some(before) if before.settings.prefix == settings.prefix => {
                Arc::new(Namespace { stock: Arc::clone(&before.stock), ..Namespace::new(settings) })
            }
            _ => Arc::new(Namespace::new(settings)),
        }
    }

    /// The bytes its topics hold, and may hold; `None` without a limit.
    pub(crate) fn stored(&self) -> Option<(u64, u64)> {
        self.settings.stored_bytes_max.map(|bytes_max| (self.stock.bytes(), bytes_max))
    }

    /// In words: its topics, and its quotas.
    pub(super) fn describe(&self) -> String {
        let settings = &self.settings;
        let quotas = [
            ("topics_max", settings.topics_max),
            ("publish_messages_per_second", settings.publish_messages_per_second),
            ("publish_bytes_per_second", settings.publish_bytes_per_second),
            ("stored_bytes_max", settings.stored_bytes_max),
        ];
        let given = quotas.iter().filter_map(|(name, quota)| quota.map(|quota| format!(", {name} {quota}")));
        format!("{} ({}*{})", settings.name, settings.prefix, given.collect::<String>())
    }

    pub(crate) fn has(&self, topic: &str) -> bool {
        topic.starts_with(&*self.settings.prefix)
    }

    /// Lets messages through, or says what there is too much of. Either all quotas are charged or none. What it answers is held until
    /// the messages are stored.
    pub(crate) fn take(&self, load: &Load, now: u64) -> Result<Option<Underway>, Exceeded> {
        if let Some(bucket) = &self.messages {
            let (per_second, retry_after) = (bucket.per_second(), bucket.wait(now));
            if !retry_after.is_zero() {
                return Err(Exceeded::Messages { per_second, retry_after });
            }
        }
        if let Some(bucket) = &self.bytes {
            let (per_second, retry_after) = (bucket.per_second(), bucket.wait(now));
            if !retry_after.is_zero() {
                return Err(Exceeded::Bytes { per_second, retry_after });
            }
        }
        let underway = match self.settings.stored_bytes_max {
            None => None,
            Some(bytes_max) => {
                let taken = self.stock.take(load, bytes_max);
                Some(taken.map_err(|bytes| Exceeded::Stored { bytes_max, bytes })?)
            }
        };
        let charge = |bucket: &Option<Bucket>, units| {
            if let Some(bucket) = bucket {
                bucket.take(units, now);
            }
        };
        charge(&self.messages, load.messages);
        charge(&self.bytes, load.bytes);
        Ok(underway)
    }

    /// Sets a place for a new topic aside until the answer is dropped. `count` counts topics there are whose names begin with the prefix;
    /// it is asked only if `version`, that of the broker's topics, is another one than the last time.
    pub(crate) fn make_room(
        self: &Arc<Namespace>,
        topic: &TopicName,
        version: u64,
        count: impl FnOnce(&dyn Fn(&TopicName) -> bool) -> usize,
    ) -> Result<Option<Reservation>, Exceeded> {
        let Some(topics_max) = self.settings.topics_max else { return Ok(None) };
        let mut making = self.making.lock();
        if making.topics.contains(topic) {
            // Somebody else makes the same one, and has the place.
            return Ok(None);
        }
        let others = match making.others {
            Some((counted, others)) if counted == version => others,
            _ => count(&|topic| !making.topics.contains(topic)),
        };
        making.others = Some((version, others));
        if others + making.topics.len() >= topics_max as usize {
            return Err(Exceeded::Topics { topics_max });
        }
        making.topics.insert(topic.clone());
        Ok(Some(Reservation { namespace: Arc::clone(self), topic: topic.clone() }))
    }
}

/// A place for a topic that is being made.
#[derive(Debug)]
pub(crate) struct Reservation {
    namespace: Arc<Namespace>,
    topic: TopicName,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut making = self.namespace.making.lock();
        making.topics.remove(&self.topic);
        // It may be one of the others now.
        making.others = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::NANOS_PER_SECOND;

    fn namespace(topics: Option<u64>, messages: Option<u64>, bytes: Option<u64>) -> Arc<Namespace> {
        Arc::new(Namespace::new(NamespaceSettings {
            name: "acme".into(),
            prefix: "acme.".into(),
            topics_max: topics,
            publish_messages_per_second: messages,
            publish_bytes_per_second: bytes,
            stored_bytes_max: None,
        }))
    }

    fn load(messages: u64, bytes: u64) -> Load {
        Load { messages, bytes, ..Load::default() }
    }

    #[test]
    fn over_a_long_time_exactly_the_rate_passes() {
        let acme = namespace(None, Some(100), None);
        let start = 5 * NANOS_PER_SECOND;
        // Somebody who tries every 100 µs for 20 seconds.
        let tries = (0..200_000).map(|n| start + n * 100_000);
        let passed = tries.filter(|&now| acme.take(&load(1, 0), now).is_ok()).count();
        // Twenty seconds' worth, and the one second that may come at once.
        assert!((2099..=2101).contains(&passed), "{passed}");
    }

    #[test]
    fn a_batch_beyond_the_rate_passes_and_is_paid_off() {
        let acme = namespace(None, None, Some(1000));
        acme.take(&load(1, 5000), 0).unwrap();
        let Err(Exceeded::Bytes { per_second: 1000, retry_after }) = acme.take(&load(1, 1), 0) else {
            panic!()
        };
        assert_eq!(retry_after.as_millis(), 4000);
        let then = retry_after.as_nanos() as u64;
        assert!(acme.take(&load(1, 1), then - NANOS_PER_SECOND / 10).is_err());
        acme.take(&load(1, 1), then).unwrap();
    }

    #[test]
    fn what_one_rate_refuses_the_other_is_not_charged_for() {
        let acme = namespace(None, Some(10), Some(10));
        acme.take(&load(1, 1000), 0).unwrap();
        for _ in 0..100 {
            assert!(matches!(acme.take(&load(1, 1), 1), Err(Exceeded::Bytes { .. })));
        }
        assert!(acme.messages.as_ref().unwrap().wait(1).is_zero());
    }

    #[test]
    fn topics_are_counted_once_as_long_as_none_is_made_or_deleted() {
        let acme = namespace(Some(100), None, None);
        let counts = std::cell::Cell::new(0);
        let make = |number: u32, version| {
            let topic = TopicName::parse(&format!("acme.{number}")).unwrap();
            acme.make_room(&topic, version, |_| {
                counts.set(counts.get() + 1);
                20
            })
        };
        let reserved: Vec<_> = (0..80).map(|number| make(number, 1).unwrap()).collect();
        assert!((80..1000).all(|number| make(number, 1).is_err()));
        assert_eq!(counts.get(), 1);
        assert!(make(1000, 2).is_err());
        assert_eq!(counts.get(), 2);
        drop(reserved);
        assert!(make(1000, 2).is_ok());
        assert_eq!(counts.get(), 3);
    }

    #[test]
    fn topics_in_the_making_count_and_a_dropped_reservation_does_not() {
        let acme = namespace(Some(2), None, None);
        let topic = |name: &str| TopicName::parse(name).unwrap();
        let there = |is_counted: &dyn Fn(&TopicName) -> bool| {
            [topic("acme.one")].iter().filter(|&topic| is_counted(topic)).count()
        };
        let second = acme.make_room(&topic("acme.two"), 1, there).unwrap();
        assert!(second.is_some());
        // The same topic again takes no second place.
        assert!(acme.make_room(&topic("acme.two"), 1, there).unwrap().is_none());
        assert!(matches!(
            acme.make_room(&topic("acme.three"), 1, there),
            Err(Exceeded::Topics { topics_max: 2 })
        ));
        drop(second);
        assert!(acme.make_room(&topic("acme.three"), 1, there).unwrap().is_some());
    }
}
