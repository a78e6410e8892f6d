//! What the courier does when it is asked: each request in a function of its own, or handed to the desk it concerns.

use std::sync::Arc;
use std::time::Instant;

use super::{Courier, Desk};
use crate::command::{Appended, Records, Reply};
use crate::durable::describe::describe;
use crate::durable::desk::{Settling, oldest_unsettled};
use crate::durable::event::{Event, Outcome};
use crate::durable::happening::{Created, Happening, Round};
use crate::durable::member::MemberEnd;
use crate::durable::request::{DoneReply, Fate, Move, Request, SettleError, SettleReply, SubscriptionError};
use crate::durable::settings::{SubscriptionName, SubscriptionRef};
use crate::durable::tickets::After;
use crate::durable::token::Token;
use crate::limits::SUBSCRIPTIONS_MAX;
use crate::topic::Topic;

impl Courier {
    pub(super) fn handle(&mut self, request: Request, now_ms: u64) {
        match request {
            Request::Join { subscription, seat, window, reply } => {
                let settings = self.guarded(subscription, now_ms, |desk| {
                    desk.join(seat, window, now_ms);
                    desk.settings.clone()
                });
                let _ = reply.send(settings);
            }
            Request::Widen { subscription, member, window } => {
                self.guarded(subscription, now_ms, |desk| {
                    if let Some((_, known)) = desk.seats.get_mut(&member) {
                        *known = window;
                    }
                    desk.apply(Event::Widen { member, window }, now_ms)
                });
            }
            Request::Leave { subscription, member, leaving, unseen } => {
                self.guarded(subscription, now_ms, |desk| desk.leave(member, leaving, unseen, now_ms));
            }
            Request::Settle { settlements, reply } => self.settle(settlements, reply, now_ms),
            Request::SettleAndPublish { acks, appends, reply } => {
                self.settle_and_publish(&acks, appends, reply, now_ms);
            }
            Request::Lost { token } => {
                let (offset, lease) = (token.offset, token.lease);
                self.guarded(token.subscription, now_ms, |desk| {
                    desk.apply(Event::Lost { offset, lease }, now_ms)
                });
            }
            Request::TopicGrew { topic } => self.touch_topic(topic),
            Request::Read { subscription, generation, read } => {
                self.guarded(subscription, now_ms, |desk| {
                    if desk.generation == generation {
                        desk.take_cold(read.0, read.1, now_ms);
                    }
                });
            }
            Request::Exhumed { subscription, generation, offset, booking, record } => {
                self.exhumed(subscription, generation, offset, (booking, record));
            }
            Request::Schedule(read) => self.schedule_read(read, now_ms),
            Request::Committed { ticket, appended } => self.committed(ticket, appended, now_ms),
            Request::Refused { ticket, reason } => self.refused(ticket, &reason, now_ms),
            other => self.handle_rare(other, now_ms),
        }
    }

    /// What is asked now and then.
    fn handle_rare(&mut self, request: Request, now_ms: u64) {
        match request {
            Request::Create { topic, name, origin, settings, reply } => {
                let created = Created {
                    number: 0,
                    topic: topic.log.number,
                    name: name.as_str().to_owned(),
                    created_ms: now_ms,
                    settings,
                    origin,
                };
                self.create(topic, name, created, reply);
            }
            Request::Change { subscription, change, reply } => {
                self.change(subscription, reply, After::Change, |desk| {
                    let settings = Arc::new(change(&desk.intended).validate(&desk.name)?);
                    desk.intended = settings.clone();
                    Ok(Happening::Changed { number: subscription, settings })
                });
            }
            Request::Delete { subscription, reply } => {
                self.change(subscription, reply, After::Delete, |_| {
                    Ok(Happening::Deleted { number: subscription })
                });
            }
            Request::Move { subscription, to, reply } => self.move_to(subscription, to, reply),
            Request::Note { happening, reply } => {
                // What is booked and not yet sent comes before it.
                self.send_round(true);
                self.change(happening.number(), reply, After::Tell, |_| Ok(happening));
            }
            Request::Describe { subscription, reply } => {
                let described =
                    self.desks.get(&subscription).map(|desk| describe(desk, &self.core.books, now_ms));
                let _ = reply.send(described);
            }
            Request::Locate { topic, offset, reply } => {
                let _ = reply.send(self.locate(topic, offset, now_ms));
            }
            Request::Trace { topic, offset, reply } => {
                let desks = self.desks.values().filter(|desk| desk.topic.log.number == topic);
                let steps =
                    desks.flat_map(|desk| self.memory.steps(desk, &self.core.books, offset)).collect();
                let _ = reply.send(steps);
            }
            Request::Resolve { happening, appends, reply } => {
                let after = After::Append { restart: Some(happening.number()), reply };
                self.send(vec![happening], appends, Vec::new(), after);
            }
            Request::TopicDeleted { topic } => self.forget_topic(topic),
            Request::Stop => {
                self.stopping_since = Some(Instant::now());
                self.desks.values().for_each(|desk| desk.end(MemberEnd::ShuttingDown));
                self.send_round(true);
            }
            _ => unreachable!("handled before"),
        }
    }

    /// Sends a change of a subscription on its way, or says why not.
    pub(super) fn change(
        &mut self,
        number: u32,
        reply: DoneReply,
        after: fn(u32, DoneReply) -> After,
        change: impl FnOnce(&mut Desk) -> Result<Happening, SubscriptionError>,
    ) {
        // Dropping the reply says that the subscription is gone.
        let Some(desk) = self.desks.get_mut(&number) else { return };
        match change(desk) {
            Ok(happening) => self.send(vec![happening], Vec::new(), Vec::new(), after(number, reply)),
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn create(&mut self, topic: Arc<Topic>, name: SubscriptionName, mut created: Created, reply: DoneReply) {
        let number = topic.log.number;
        let name_of = SubscriptionRef { topic: topic.name.clone(), name: name.clone() };
        let refusal = if self.find(number, &name).is_some() || self.creating.contains(&(number, name.clone()))
        {
            SubscriptionError::AlreadyExists(name_of)
        } else if self.desks.len() + self.creating.len() >= SUBSCRIPTIONS_MAX {
            SubscriptionError::TooManySubscriptions
        } else {
            self.last_number += 1;
            created.number = self.last_number;
            self.creating.insert((number, name.clone()));
            let after = After::Create { number: created.number, topic, name, reply };
            return self.send(vec![Happening::Created(created)], Vec::new(), Vec::new(), after);
        };
        let _ = reply.send(Err(refusal));
    }

    fn find(&self, topic: u32, name: &SubscriptionName) -> Option<u32> {
        let is_meant = |desk: &&Desk| desk.topic.log.number == topic && desk.name.name == *name;
        self.desks.values().find(is_meant).map(|desk| desk.number)
    }

    fn move_to(&mut self, number: u32, to: Move, reply: DoneReply) {
        let books = self.core.books.clone();
        // What is booked and not yet sent comes before the move.
        self.send_round(true);
        self.change(number, reply, After::Restart, |desk| {
            Ok(match to {
                Move::To(origin) => Happening::Moved { number, origin },
                Move::Saved(saved) => {
                    if books.with(number, |book| book.saved.contains_key(&saved)) != Some(true) {
                        return Err(SubscriptionError::NotSaved { name: desk.name.clone(), saved });
                    }
                    Happening::Restored { number, saved }
                }
                Move::Skip(count) => {
                    let next = desk.topic.log.next();
                    let oldest = books.with(number, |book| oldest_unsettled(&book.standing, next, count));
                    let mut round = Round::default();
                    oldest.into_iter().flatten().for_each(|range| {
                        round.passed.insert(range);
                    });
                    Happening::Settled { number, round }
                }
            })
        });
    }

    fn settle(&mut self, settlements: Vec<(Token, Outcome)>, reply: SettleReply, now_ms: u64) {
        let mut fates = Vec::with_capacity(settlements.len());
        let mut waiting = Vec::new();
        for (index, (token, outcome)) in settlements.into_iter().enumerate() {
            let settling = self.settle_one(token, outcome, now_ms);
            fates.push(match settling {
                None => Fate::Unknown,
                Some(Settling::Stale) => Fate::Stale,
                Some(Settling::Done) => Fate::Settled,
                Some(Settling::Booked | Settling::Burying) => {
                    waiting.push((token.subscription, token.offset, index as u32));
                    Fate::Settled
                }
            });
        }
        self.tickets.answer_later(reply, fates, &waiting);
    }

    fn settle_one(&mut self, token: Token, outcome: Outcome, now_ms: u64) -> Option<Settling> {
        if token.start != self.start {
            // Of an earlier start: its leases are all over.
            return self.desks.contains_key(&token.subscription).then_some(Settling::Stale);
        }
        let (offset, lease) = (token.offset, token.lease);
        let event = Event::Settle { offset, lease, outcome };
        self.guarded(token.subscription, now_ms, |desk| desk.apply(event, now_ms)).flatten()
    }

    fn settle_and_publish(
        &mut self,
        acks: &[Token],
        appends: Vec<Records>,
        reply: Reply<Result<Vec<Appended>, SettleError>>,
        now_ms: u64,
    ) {
        let is_leased = |token: &Token| {
            let desk = self.desks.get(&token.subscription).filter(|_| token.start == self.start);
            desk.is_some_and(|desk| desk.delivery.lease_of(token.offset, now_ms) == Some(token.lease))
        };
        let stale: Vec<usize> =
            acks.iter().enumerate().filter(|(_, token)| !is_leased(token)).map(|(index, _)| index).collect();
        if !stale.is_empty() {
            let _ = reply.send(Err(SettleError::Stale { stale }));
            return;
        }
        // What was booked before goes by itself; then the next round is just this step.
        self.send_round(false);
        for token in acks {
            self.settle_one(*token, Outcome::Ack, now_ms);
        }
        let (happenings, booked) = self.take_rounds(false);
        self.send(happenings, appends, booked, After::Append { restart: None, reply });
    }

    fn locate(&self, topic: u32, offset: u64, now_ms: u64) -> Vec<Token> {
        let desks = self.desks.values().filter(|desk| desk.topic.log.number == topic);
        let token = |desk: &Desk| {
            let lease = desk.delivery.lease_of(offset, now_ms)?;
            Some(Token { subscription: desk.number, start: self.start, offset, lease })
        };
        desks.filter_map(token).collect()
    }

    fn touch_topic(&mut self, topic: u32) {
        self.schedule_grew(topic);
        for desk in self.desks.values().filter(|desk| desk.topic.log.number == topic) {
            desk.topic.growth_is_seen();
            self.touched.insert(desk.number);
        }
    }

    fn forget_topic(&mut self, topic: u32) {
        let gone: Vec<u32> = self
            .desks
            .values()
            .filter(|desk| desk.topic.log.number == topic)
            .map(|desk| desk.number)
            .collect();
        for number in gone {
            self.close_desk(number, MemberEnd::TopicDeleted);
        }
    }
}
