//! Whose a topic of dead letters is.
//!
//! A subscription that names no topic for its dead letters gets `TOPIC.NAME.dlq`, and the broker makes that topic when the first letter comes, marked with the
//! subscription it is for. Nobody had to choose the name, so nobody was asked whether they may write there: that is harmless only while
//! the topic is the subscription's own.

use super::request::SubscriptionError;
use super::start::Creation;
use crate::broker::Broker;
use crate::subscription::Start;
use ratatoskr_state::{
    DEAD_LETTERS_SUBSCRIPTION, SubscriptionRef, SubscriptionSettings, TopicName, dead_letter_topic,
};

/// How the subscription that knows unresolved dead letters is created, whoever makes that necessary.
pub(super) fn keeping(topic: &TopicName) -> Creation {
    let settings = SubscriptionSettings {
        // A letter nobody could handle is where it belongs: it stays, with the facts it has.
        dead_letter_topic: Some(topic.to_string()),
        attempts_max: 0,
        ..SubscriptionSettings::default()
    };
    (Start::Earliest, settings)
}

impl Broker {
    /// How a subscription is created by whoever joins it while it is missing: as they ask, except for the one that knows unresolved dead
    /// letters, which there is on topics of dead letters only.
    pub(super) fn creation(
        &self,
        name: &SubscriptionRef,
        asked: Creation,
    ) -> Result<Creation, SubscriptionError> {
        if name.name.as_str() != DEAD_LETTERS_SUBSCRIPTION {
            return Ok(asked);
        }
        if self.gets_dead_letters(&name.topic) {
            return Ok(keeping(&name.topic));
        }
        Err(SubscriptionError::Reserved(name.clone()))
    }

    /// Whether dead letters of any subscription go to this topic, or the broker made it for some.
    fn gets_dead_letters(&self, topic: &TopicName) -> bool {
        let core = self.core();
        core.topic(topic).is_some_and(|topic| topic.settings().dead_letters_of.is_some())
            || core
                .subscriptions
                .any(|state| state.settings.dead_letter_topic.as_deref() == Some(topic.as_str()))
    }

    /// Whether there is a subscription of this name.
    pub fn subscription_exists(&self, name: &SubscriptionRef) -> bool {
        self.find_subscription(name).is_ok()
    }

    /// Whether the topic that a subscription's dead letters go to by default is its own: there is no such topic, or the broker made it for this
    /// very subscription, and no other subscription sends its dead letters there. Takes as long as there are subscriptions.
    pub fn owns_default_dead_letter_topic(&self, name: &SubscriptionRef) -> bool {
        let Ok(dead) = TopicName::parse(&dead_letter_topic(name.topic.as_str(), name.name.as_str())) else {
            // Too long a name: no subscription can be made with it.
            return true;
        };
        let core = self.core();
        let (topic, origin) = (core.topic(&dead), core.topic(&name.topic));
        let is_others = |topic: &crate::topic::Topic| {
            topic.settings().dead_letters_of.as_deref() != Some(name.to_string().as_str())
        };
        if topic.as_deref().is_some_and(is_others) {
            return false;
        }
        let (own, dead_number) = (origin.map(|topic| topic.log.number), topic.map(|topic| topic.log.number));
        !core.subscriptions.any(|state| {
            let is_itself = Some(state.topic) == own && state.name == name.name;
            // Looks after the letters there, and leaves them where they are.
            let is_dlq = Some(state.topic) == dead_number && state.name.as_str() == DEAD_LETTERS_SUBSCRIPTION;
            let goes_there = match &state.settings.dead_letter_topic {
                Some(given) => given == dead.as_str(),
                // By default only subscriptions of one topic can meet.
                None => {
                    Some(state.topic) == own
                        && dead_letter_topic(name.topic.as_str(), state.name.as_str()) == dead.as_str()
                }
            };
            goes_there && !is_itself && !is_dlq
        })
    }
}
