//! [`Gate`]: one call or stream of one caller. What it refuses is counted, written to the audit log, and becomes a status.

use std::sync::Arc;
use std::time::Duration;

use ratatoskr_broker::{Broker, DEAD_LETTERS_SUBSCRIPTION, SubscriptionRef, Token, TopicName};
use tonic::Status;

use super::audit::{Entry, Outcome, SubscriptionEntry};
use super::caller::Caller;
use super::denied::Denied;
use super::quota::{Permit, Reservation};
use super::stock::Load;
use super::visitor::Visitor;
use super::{Access, Action, now_s};
use crate::clients::network_of;
use crate::status;

/// The clock is looked at so often at least, in case somebody sets it.
const CLOCK_LOOK: Duration = Duration::from_secs(60);

/// See the file's head. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate {
    visitor: Arc<Visitor>,
    caller: Arc<Caller>,
    /// The call, as the contract names it: `DeleteTopic`.
    call: &'static str,
}

impl Gate {
    /// Lets a call in if it is known who makes it.
    pub(crate) fn enter(
        visitor: &Arc<Visitor>,
        authorization: Option<&[u8]>,
        call: &'static str,
    ) -> Result<Gate, Status> {
        match visitor.caller(authorization) {
            Ok(caller) => Ok(Gate { visitor: visitor.clone(), caller, call }),
            Err(denied) => Err(Act { visitor, caller: None, call, topic: "" }.refuse(&denied)),
        }
    }

    /// Whether callers are asked who they are.
    pub(crate) fn asks(&self) -> bool {
        self.access().asks()
    }

    pub(crate) fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// What the caller is called where callers take turns: the identity, or where nobody is asked the address.
    pub(crate) fn takes_turns_as(&self) -> Arc<str> {
        if self.asks() {
            return self.caller.who().clone();
        }
        network_of(self.visitor.peer().address.ip()).to_string().into()
    }

    /// Lets an action on a topic pass. Management that passes is written down.
    pub(crate) fn may(&self, action: Action, topic: &str) -> Result<(), Status> {
        self.caller.may(action, topic).map_err(|denied| self.refuse(topic, &denied))?;
        if action == Action::Manage {
            self.note(topic);
        }
        Ok(())
    }

    /// Lets an action on the broker, or on topics in general, pass.
    pub(crate) fn may_anywhere(&self, action: Action) -> Result<(), Status> {
        self.caller.may_anywhere(action).map_err(|denied| self.refuse("", &denied))
    }

    /// Whether two topics are the same tenant's, or both nobody's.
    pub(crate) fn are_of_one_namespace(&self, one: &str, other: &str) -> bool {
        let name = |topic| self.caller.namespace_of(topic).map(|namespace| namespace.settings.name.clone());
        name(one) == name(other)
    }

    /// Lets a look at a topic pass.
    pub(crate) fn may_see(&self, topic: &str) -> Result<(), Status> {
        self.caller.may_see(topic).map_err(|denied| self.refuse(topic, &denied))
    }

    /// Lets a publish pass, and charges it. What it answers is held until the publish is done.
    pub(crate) fn may_publish(&self, broker: &Broker, topic: &str, load: &Load) -> Result<Permit, Status> {
        let denied = |denied: Denied| self.refuse(topic, &denied);
        // The rate comes first, and is charged whatever comes of it: looking for room takes longer.
        let underway = self.caller.may_publish(topic, load, self.access().now()).map_err(denied)?;
        let place = self.make_room(broker, topic, Action::Publish).map_err(denied)?;
        Ok(Permit { place, _underway: underway })
    }

    /// Whether an action on a topic passes that the caller has pointed at by an id or a token. False for somebody who may do nothing to the
    /// topic, and is to be answered as if it were not there: ids and tokens can be guessed. The attempt is written down.
    pub(crate) fn may_unnamed(&self, action: Action, topic: &str) -> Result<bool, Status> {
        match self.caller.may(action, topic) {
            Ok(()) => Ok(true),
            Err(denied) if self.caller.sees(topic) => Err(self.refuse(topic, &denied)),
            Err(denied) => {
                self.act(topic).deny(&denied);
                Ok(false)
            }
        }
    }

    /// Decides on settlements, one after the other.
    pub(crate) fn settlements<'a>(&'a self, broker: &'a Broker) -> SettlementCheck<'a> {
        SettlementCheck { gate: self, broker, latest: None, has_denied: false }
    }

    /// Lets a topic be made, as far as its namespace has room. What it answers is held until the topic is there.
    pub(crate) fn may_make(&self, broker: &Broker, topic: &str) -> Result<Option<Reservation>, Status> {
        self.may(Action::Manage, topic)?;
        self.make_room(broker, topic, Action::Manage).map_err(|denied| self.refuse(topic, &denied))
    }

    /// What cannot be a topic's name is refused elsewhere, and takes no room. Who may not make the topic does not learn whether there is any.
    fn make_room(&self, broker: &Broker, topic: &str, by: Action) -> Result<Option<Reservation>, Denied> {
        let Some(namespace) = self.caller.namespace_of(topic) else { return Ok(None) };
        if namespace.settings.topics_max.is_none() {
            return Ok(None);
        }
        let Ok(name) = TopicName::parse(topic) else { return Ok(None) };
        if broker.topic_exists(&name) {
            return Ok(None);
        }
        self.caller.may(by, topic)?;
        let exceeded = |what| Denied::Exceeded { namespace: namespace.settings.name.clone(), what };
        let prefix = &namespace.settings.prefix;
        let count = |is_counted: &dyn Fn(&TopicName) -> bool| broker.count_topics(prefix, is_counted);
        namespace.make_room(&name, broker.topics_version(), count).map_err(exceeded)
    }

    /// Takes over a policy that has come since; whoever is unknown to it is let in no more.
    pub(crate) fn renew(&mut self) -> Result<(), Status> {
        if self.access().is_current(&self.caller) {
            return Ok(());
        }
        self.caller = self.access().again(&self.caller).map_err(|denied| self.refuse("", &denied))?;
        Ok(())
    }

    /// Ends when the caller may no more: the policy has changed, or the JWT has run out. For streams, which outlive the
    /// decision that let them in.
    pub(crate) async fn revoked(mut self, action: Action, topic: String) -> Status {
        if !self.access().asks() {
            return std::future::pending().await;
        }
        let mut changes = self.access().changes();
        loop {
            changes.mark_unchanged();
            let still = self.renew().and_then(|()| {
                self.caller.may(action, &topic).map_err(|denied| self.refuse(&topic, &denied))
            });
            if let Err(status) = still {
                return status;
            }
            match self.caller.until_s() {
                u64::MAX => {
                    // An error means that the server is gone, and its streams with it.
                    let _ = changes.changed().await;
                }
                until_s => {
                    let left = Duration::from_secs(until_s.saturating_sub(now_s())).min(CLOCK_LOOK);
                    let _ = tokio::time::timeout(left, changes.changed()).await;
                }
            }
        }
    }

    fn access(&self) -> &Access {
        self.visitor.access()
    }

    /// Writes down that this call has created a subscription because there was none.
    pub(crate) fn note_created(&self, name: &SubscriptionRef) {
        self.access().audit.record_subscription(&SubscriptionEntry {
            outcome: "created",
            who: self.caller.who(),
            by: self.caller.by().word(),
            peer: Some(self.visitor.peer().address),
            call: self.call,
            name,
        });
    }

    /// Writes down what was done.
    fn note(&self, topic: &str) {
        self.act(topic).record(Outcome::Allowed);
    }

    pub(crate) fn refuse(&self, topic: &str, denied: &Denied) -> Status {
        self.act(topic).refuse(denied)
    }

    fn act<'a>(&'a self, topic: &'a str) -> Act<'a> {
        Act { visitor: &self.visitor, caller: Some(&self.caller), call: self.call, topic }
    }
}

/// Decides who may settle what, by the subscriptions that tokens are of. What is acted on afterwards has to be the very token that was
/// decided on: numbers of subscriptions are never given twice, names are.
pub(crate) struct SettlementCheck<'a> {
    gate: &'a Gate,
    broker: &'a Broker,
    /// Most settlements of a step are of one subscription: its number, and whether it is there.
    latest: Option<(u32, bool)>,
    /// A topic that the caller may do nothing to has been written down: one line for all tokens of a step.
    has_denied: bool,
}

impl SettlementCheck<'_> {
    /// Whether a token is to be acted on. False when its subscription is not there, or not yet: then nobody has decided on it, and nothing
    /// can be settled. False as well when the caller may do nothing to its topic.
    pub(crate) fn may(&mut self, token: Token) -> Result<bool, Status> {
        let access = self.gate.access();
        if !access.asks() {
            return Ok(true);
        }
        let number = token.subscription();
        if let Some((_, is_there)) = self.latest.filter(|&(latest, _)| latest == number) {
            return Ok(is_there);
        }
        let is_there = match access.subscription(self.broker, number) {
            None => false,
            Some(name) if self.has_denied && !self.gate.caller.sees(name.topic.as_str()) => false,
            Some(name) => {
                let may = self.may_settle(&name)?;
                self.has_denied |= !may;
                may
            }
        };
        self.latest = Some((number, is_there));
        Ok(is_there)
    }

    fn may_settle(&self, name: &SubscriptionRef) -> Result<bool, Status> {
        let topic = name.topic.as_str();
        let may = self.gate.may_unnamed(Action::Subscribe, topic)?;
        if may && name.name.as_str() == DEAD_LETTERS_SUBSCRIPTION {
            // Which resolves a dead letter.
            return self.gate.may_unnamed(Action::Manage, topic);
        }
        Ok(may)
    }
}

/// What a line of the audit log is about.
struct Act<'a> {
    visitor: &'a Visitor,
    /// `None`: nobody knows.
    caller: Option<&'a Caller>,
    call: &'static str,
    /// Empty if it is about none.
    topic: &'a str,
}

impl Act<'_> {
    fn record(&self, outcome: Outcome) {
        self.visitor.access().audit.record(&Entry {
            who: self.caller.map_or("", |caller| &**caller.who()),
            by: self.caller.map_or("", |caller| caller.by().word()),
            peer: self.visitor.peer().address,
            call: self.call,
            topic: self.topic,
            outcome,
        });
    }

    /// Counts a denial, writes it down, and makes a status of it.
    fn refuse(&self, denied: &Denied) -> Status {
        self.deny(denied);
        status::denied(denied)
    }

    /// Counts a denial and writes it down.
    fn deny(&self, denied: &Denied) {
        self.visitor.access().counts.count(denied.kind());
        self.record(Outcome::Denied(denied.to_string()));
    }
}
