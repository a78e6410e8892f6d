//! What the dispatcher does when it is asked: each request in a function of its own, or handed to the active subscription it concerns.

use ratatoskr_state::{Change, Created, SubscriptionName, SubscriptionRef, SubscriptionSettings};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use ratatoskr_log::Moment;

use super::{ActiveSubscription, Dispatcher};
use crate::command::{Appended, Records, Reply};
use crate::durable::active::Settling;
use crate::durable::describe::describe;
use crate::durable::event::{Event, Leaving, Outcome};
use crate::durable::in_flight::{OnCommit, Waiter};
use crate::durable::member::MemberEnd;
use crate::durable::request::{
    Changed, CreatedBy, DoneReply, Fate, Move, Request, SettleError, SettleReply, SubscriptionChange,
    SubscriptionError,
};
use crate::durable::settings::validate;
use crate::durable::token::Token;
use crate::durable::trace::{TraceStep, Traced, standing};
use crate::topic::Topic;
use ratatoskr_state::limits::TRACED_SUBSCRIPTIONS_MAX;

impl Dispatcher {
    pub(super) fn handle(&mut self, request: Request, now: Moment) {
        match request {
            Request::Join { subscription, member_queue, window, reply } => {
                let place = (member_queue.reference, (subscription, member_queue.id));
                let settings = self.guarded(subscription, now, |active| {
                    active.join(member_queue, window, now);
                    active.settings.clone()
                });
                self.references.extend(settings.is_some().then_some(place));
                let _ = reply.send(settings);
            }
            Request::Widen { subscription, member, window } => {
                self.guarded(subscription, now, |active| active.widen(member, window, now));
            }
            Request::Heard { subscription, member } => {
                self.guarded(subscription, now, |active| active.hear(member, now));
            }
            Request::Leave { subscription, member, leaving, unseen } => {
                // The broker's own end is no fault of a member's: nothing it holds has used up an attempt.
                let leaving = if self.stopping_since.is_some() { Leaving::Detached } else { leaving };
                if let Some((member_queue, _)) = self
                    .active_subscriptions
                    .get(&subscription)
                    .and_then(|active| active.member_queues.get(&member))
                {
                    self.references.remove(&member_queue.reference);
                }
                self.guarded(subscription, now, |active| active.leave(member, leaving, unseen, now));
            }
            Request::Settle { settlements, reply } => self.settle(settlements, reply, now),
            Request::SettleAndPublish { acks, appends, reply } => {
                self.settle_and_publish(&acks, appends, reply, now);
            }
            Request::Lost { token } => {
                let (offset, lease) = (token.offset, token.lease);
                self.guarded(token.subscription, now, |active| {
                    active.apply(Event::Lost { offset, lease }, now);
                });
            }
            Request::TopicGrew { topic } => self.touch_topic(topic),
            Request::Read { subscription, generation, read } => {
                self.guarded(subscription, now, |active| {
                    if active.generation == generation {
                        active.take_cold(read.0, read.1, now);
                    }
                });
            }
            Request::Reviewed { generation, review } => {
                let next = self.guarded(review.subscription, now, |active| {
                    if active.generation == generation { active.review_stepped(review, now) } else { None }
                });
                if let Some(review) = next.flatten() {
                    self.review(review);
                }
            }
            Request::DeadLettersRead { subscription, generation, records_read } => {
                self.records_read(subscription, generation, records_read, now);
            }
            Request::Schedule(read) => self.schedule_read(read, now),
            Request::Committed { ticket, appended } => self.committed(ticket, appended, now),
            Request::Refused { ticket, refused } => self.refused(ticket, refused, now),
            Request::TargetGone { ticket } => self.target_gone(ticket),
            other => self.handle_rare(other, now),
        }
    }

    /// What is asked now and then.
    fn handle_rare(&mut self, request: Request, now: Moment) {
        match request {
            Request::Create { topic, name, origin, settings, created_by, reply } => {
                let created = Created {
                    number: 0,
                    topic: topic.log.number,
                    name: name.as_str().to_owned(),
                    created_ms: now.wall_ms,
                    settings,
                    origin,
                };
                self.create((topic, name, created), created_by, reply);
            }
            Request::Change { subscription, change, reply } => {
                self.change_settings(subscription, change, reply);
            }
            Request::Delete { subscription, reply } => {
                self.change(subscription, reply, OnCommit::Delete, |_| {
                    Ok(Change::Deleted { number: subscription })
                });
            }
            Request::Move { subscription, to, reply } => self.move_to(subscription, to, reply),
            Request::Note { change, reply } => {
                // What is booked and not yet sent comes before it.
                self.send_batch(true);
                let tell = |_, reply| OnCommit::Tell(reply);
                self.change(change.number(), reply, tell, |_| Ok(change));
            }
            Request::End { topic, reference, reply } => {
                let place = self.references.get(&reference);
                let active = place
                    .and_then(|&(number, member)| Some((self.active_subscriptions.get(&number)?, member)));
                let active = active.filter(|(active, _)| active.topic.log.number == topic);
                let member_queue = active.and_then(|(active, member)| active.member_queues.get(&member));
                if let Some((member_queue, _)) = member_queue {
                    member_queue.end(MemberEnd::Unsubscribed);
                }
                let _ = reply.send(member_queue.is_some());
            }
            Request::Describe { subscription, reply } => {
                let active = self.active_subscriptions.get(&subscription);
                let _ = reply.send(active.and_then(|active| describe(active, &self.core.subscriptions, now)));
            }
            Request::Survey { subscriptions_max, reply } => {
                let mut active_subscriptions: Vec<&ActiveSubscription> =
                    self.active_subscriptions.values().map(|active| &**active).collect();
                active_subscriptions.sort_unstable_by(|one, other| one.name.cmp(&other.name));
                let described = active_subscriptions
                    .into_iter()
                    .filter_map(|active| describe(active, &self.core.subscriptions, now));
                let _ = reply.send(described.take(subscriptions_max).collect());
            }
            Request::Locate { topic, offset, reply } => {
                let _ = reply.send(self.locate(topic, offset, now));
            }
            Request::Trace { traced, reply } => {
                let _ = reply.send(self.trace(&traced, now));
            }
            Request::Resolve(resolving) => self.resolve(resolving),
            Request::TopicTrimmed { topic } => self.topic_trimmed(topic, now),
            Request::TopicDeleted { topic } => {
                self.forget_topic(topic);
                self.schedule_topic_deleted(topic);
            }
            Request::Stop => {
                self.stopping_since = Some(Instant::now());
                self.active_subscriptions.values().for_each(|active| active.end(MemberEnd::ShuttingDown));
                self.send_batch(true);
            }
            _ => unreachable!("handled before"),
        }
    }

    /// Sends a change of a subscription on its way, or says why not.
    pub(super) fn change(
        &mut self,
        number: u32,
        reply: DoneReply,
        after: fn(u32, DoneReply) -> OnCommit,
        change: impl FnOnce(&mut ActiveSubscription) -> Result<Change, SubscriptionError>,
    ) {
        let Some(active) = self.active_subscriptions.get_mut(&number) else {
            let _ = reply.send(Ok(Changed::Gone));
            return;
        };
        match change(active) {
            Ok(change) => self.send(vec![change], Vec::new(), Vec::new(), after(number, reply)),
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn create(
        &mut self,
        (topic, name, mut created): (Arc<Topic>, SubscriptionName, Created),
        created_by: Option<CreatedBy>,
        reply: DoneReply,
    ) {
        let number = topic.log.number;
        let name_of = SubscriptionRef { topic: topic.name.clone(), name: name.clone() };
        if let Some(others) = self.creating.get_mut(&(number, name.clone())) {
            // Answered when it is clear whether there is one.
            return others.push(reply);
        }
        let refusal = if self.core.subscriptions.find(number, &name).is_some() {
            SubscriptionError::AlreadyExists(name_of)
        } else if let Some(crowded) = self.crowded(&topic) {
            crowded
        } else {
            self.last_number += 1;
            created.number = self.last_number;
            self.creating.insert((number, name.clone()), Vec::new());
            let after = OnCommit::Create { number: created.number, topic, name, created_by, reply };
            return self.send(vec![Change::Created(created)], Vec::new(), Vec::new(), after);
        };
        let _ = reply.send(Err(refusal));
    }

    /// Why there cannot be one more on a topic. One topic never uses up what all share.
    fn crowded(&self, topic: &Topic) -> Option<SubscriptionError> {
        let subscriptions_max = self.core.shares.subscriptions;
        if self.active_subscriptions.len() + self.creating.len() >= subscriptions_max {
            return Some(SubscriptionError::TooManySubscriptions { subscriptions_max });
        }
        let subscriptions_max = subscriptions_max / 4;
        let creating = self.creating.keys().filter(|(number, _)| *number == topic.log.number).count();
        if topic.durable_count() + creating < subscriptions_max {
            return None;
        }
        Some(SubscriptionError::TooManySubscriptionsOfTopic { topic: topic.name.clone(), subscriptions_max })
    }

    fn change_settings(&mut self, number: u32, change: SubscriptionChange, reply: DoneReply) {
        // Messages that were read without their keys have no order: read anew, they have.
        let begins_order = |active: &ActiveSubscription, settings: &SubscriptionSettings| {
            settings.ordered && !active.intended.ordered
        };
        let mut starts_anew = false;
        self.send_batch(true);
        let changed = self.active_subscriptions.get_mut(&number).map(|active| {
            let settings = Arc::new(validate(change(&active.intended), &active.name)?);
            starts_anew = begins_order(active, &settings);
            active.note_move(isize::from(starts_anew));
            active.intended = settings.clone();
            Ok(Change::Changed { number, settings })
        });
        let Some(changed) = changed else {
            let _ = reply.send(Ok(Changed::Gone));
            return;
        };
        let after = if starts_anew { OnCommit::Restart } else { OnCommit::Change };
        self.change(number, reply, after, |_| changed);
    }

    fn move_to(&mut self, number: u32, to: Move, reply: DoneReply) {
        let states = self.core.subscriptions.clone();
        // What is booked and not yet sent comes before the move.
        self.send_batch(true);
        self.change(number, reply, OnCommit::Restart, |active| {
            let change = match to {
                Move::To(origin) => Change::Moved { number, origin },
                Move::Saved(saved) => {
                    if states.with(number, |state| state.saved.contains_key(&saved)) != Some(true) {
                        return Err(SubscriptionError::NotSaved { name: active.name.clone(), saved });
                    }
                    Change::Restored { number, saved }
                }
                Move::Skip(count) => Change::Skipped { number, count, next: active.topic.log.next() },
            };
            active.note_move(1);
            Ok(change)
        });
    }

    fn settle(&mut self, settlements: Vec<(Token, Outcome)>, reply: SettleReply, now: Moment) {
        let waiters = self.in_flight.ask(reply, settlements.len());
        for ((token, outcome), waiter) in settlements.into_iter().zip(waiters) {
            let fate = match self.settle_one(token, outcome, Some(waiter), now) {
                None => Fate::Unknown,
                Some(Settling::Stale) => Fate::Stale,
                Some(Settling::Done) => Fate::Settled,
                Some(Settling::Booked | Settling::DeadLettering) => continue,
            };
            self.in_flight.tell(Some(waiter), fate);
        }
    }

    fn settle_one(
        &mut self,
        token: Token,
        outcome: Outcome,
        waiter: Option<Waiter>,
        now: Moment,
    ) -> Option<Settling> {
        let active = self.active_subscriptions.get_mut(&token.subscription)?;
        active.used_ms = now.steady_ms;
        if token.start != self.start {
            // Of an earlier start: its leases are all over.
            return Some(Settling::Stale);
        }
        let settled =
            self.guarded(token.subscription, now, |active| active.settle(token, outcome, waiter, now));
        Some(settled.unwrap_or(Settling::Stale))
    }

    fn settle_and_publish(
        &mut self,
        acks: &[Token],
        appends: Vec<Records>,
        reply: Reply<Result<Vec<Appended>, SettleError>>,
        now: Moment,
    ) {
        let is_leased = |token: &Token| {
            let active =
                self.active_subscriptions.get(&token.subscription).filter(|_| token.start == self.start);
            active.is_some_and(|active| {
                active.is_at_work() && active.delivery.lease_of(token.offset, now) == Some(token.lease)
            })
        };
        // The second time it is named a token is stale.
        let mut named = HashSet::with_capacity(acks.len());
        let mut is_stale =
            |token: &Token| !is_leased(token) || !named.insert((token.subscription, token.offset));
        let stale: Vec<usize> = (0..acks.len()).filter(|&index| is_stale(&acks[index])).collect();
        if !stale.is_empty() {
            let _ = reply.send(Err(SettleError::Stale { stale }));
            return;
        }
        // What was booked before goes by itself; then the next batch is just this step.
        self.send_batch(false);
        for (index, token) in acks.iter().enumerate() {
            if self.settle_one(*token, Outcome::Ack, None, now) != Some(Settling::Booked) {
                // Its active subscription has failed. The others must not be acked alone: they start anew.
                acks[..index].iter().for_each(|token| self.break_active(token.subscription, now));
                let _ = reply.send(Err(SettleError::Stale { stale: vec![index] }));
                return;
            }
        }
        let (changes, booked) = self.take_batches(false);
        self.send(changes, appends, booked, OnCommit::Append { restart: None, reply });
    }

    /// The leases a message is out on, two at most: more tell nothing more.
    fn locate(&self, topic: u32, offset: u64, now: Moment) -> Vec<Token> {
        let token = |active: &ActiveSubscription| {
            let lease = active.delivery.lease_of(offset, now)?;
            Some(Token { subscription: active.number, start: self.start, offset, lease })
        };
        self.active_subscriptions_of(topic).filter_map(token).take(2).collect()
    }

    /// What is known of a message with the subscriptions of its topic.
    fn trace(&self, traced: &Traced, now: Moment) -> Vec<TraceStep> {
        let mut lives: BTreeMap<u32, Vec<TraceStep>> = BTreeMap::new();
        for passage in self.memory.of(traced) {
            let active = self.active_subscriptions.get(&passage.subscription);
            if let Some(active) = active.filter(|active| active.topic.log.number == traced.topic) {
                lives.entry(active.number).or_default().push(passage.step(active));
            }
        }
        let untold = TRACED_SUBSCRIPTIONS_MAX.saturating_sub(lives.len());
        let others: Vec<u32> =
            self.numbers_of(traced.topic).filter(|number| !lives.contains_key(number)).take(untold).collect();
        lives.extend(others.into_iter().map(|number| (number, Vec::new())));
        for (number, steps) in &mut lives {
            steps.push(standing(&self.active_subscriptions[number], &self.core.subscriptions, traced, now));
        }
        lives.into_values().flatten().collect()
    }

    fn touch_topic(&mut self, topic: u32) {
        self.schedule_grew(topic);
        let mut of_topic = self.by_topic.range((topic, 0)..=(topic, u32::MAX)).peekable();
        if let Some(active) = of_topic.peek().and_then(|(_, number)| self.active_subscriptions.get(number)) {
            active.topic.growth_is_seen();
        }
        self.touched.extend(of_topic.map(|&(_, number)| number));
    }

    fn topic_trimmed(&mut self, topic: u32, now: Moment) {
        let of_topic: Vec<u32> = self.numbers_of(topic).collect();
        for number in of_topic {
            self.guarded(number, now, |active| active.messages_removed(now));
        }
    }

    fn forget_topic(&mut self, topic: u32) {
        let gone: Vec<u32> = self.numbers_of(topic).collect();
        for number in gone {
            self.close_active(number, MemberEnd::TopicDeleted);
        }
    }
}
