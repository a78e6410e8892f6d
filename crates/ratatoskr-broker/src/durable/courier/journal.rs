//! The courier's way to the journal and back: rounds, tickets, and what is done once they are through.

use super::Courier;
use crate::command::{AppendError, Appended, Command, Records};
use crate::durable::event::Event;
use crate::durable::happening::Happening;
use crate::durable::member::MemberEnd;
use crate::durable::request::{Request, SubscriptionError};
use crate::durable::tickets::{After, Booked};
use crate::error::{PublishError, Unavailable};

impl Courier {
    /// Gathers what all desks want written.
    pub(super) fn take_rounds(&mut self, flush: bool) -> (Vec<Happening>, Vec<Booked>) {
        let (mut happenings, mut booked) = (Vec::new(), Vec::new());
        for desk in self.desks.values_mut() {
            let Some((round, offsets)) = desk.take_round(flush) else { continue };
            let (subscription, generation) = (desk.number, desk.generation);
            happenings.push(Happening::Settled { number: subscription, round });
            booked.extend(offsets.into_iter().map(|offset| Booked { subscription, generation, offset }));
        }
        (happenings, booked)
    }

    pub(super) fn send_round(&mut self, flush: bool) {
        let (happenings, booked) = self.take_rounds(flush);
        if !happenings.is_empty() {
            self.send(happenings, Vec::new(), booked, After::Nothing);
        }
    }

    /// Hands something to the sequencer, to happen wholly or not at all.
    pub(in crate::durable) fn send(
        &mut self,
        happenings: Vec<Happening>,
        appends: Vec<Records>,
        booked: Vec<Booked>,
        after: After,
    ) {
        let ticket = self.tickets.issue(booked, after);
        let command = Command::Ledger { happenings, appends, ticket };
        if self.core.inbox.push(command).is_err() {
            let reason = AppendError::Unavailable(self.core.closed());
            let _ = self.core.courier.push(Request::Refused { ticket, reason });
        }
    }

    pub(super) fn committed(&mut self, ticket: u64, appended: Vec<Appended>, now_ms: u64) {
        let Some((booked, after)) = self.tickets.take(ticket) else { return };
        for Booked { subscription, generation, offset } in booked {
            self.guarded(subscription, now_ms, |desk| {
                if desk.generation == generation {
                    desk.apply(Event::Committed { offset }, now_ms);
                }
            });
            self.tickets.tell(subscription, offset, None);
        }
        match after {
            After::Nothing => {}
            After::Create { number, topic, name, reply } => {
                self.creating.remove(&(topic.log.number, name));
                self.open_desk(number, &topic);
                let _ = reply.send(Ok(number));
            }
            After::Change(number, reply) => {
                if let Some(settings) = self.core.books.with(number, |book| book.settings.clone()) {
                    self.guarded(number, now_ms, |desk| desk.change(settings, now_ms));
                }
                let _ = reply.send(Ok(number));
            }
            After::Delete(number, reply) => {
                self.close_desk(number, MemberEnd::SubscriptionDeleted);
                let _ = reply.send(Ok(number));
            }
            After::Restart(number, reply) => {
                self.restart(number, now_ms);
                let _ = reply.send(Ok(number));
            }
            After::Tell(number, reply) => {
                let _ = reply.send(Ok(number));
            }
            After::Dispatch { moved } => self.schedule_moved(&moved),
            After::Append { restart, reply } => {
                if let Some(number) = restart {
                    self.restart(number, now_ms);
                }
                let _ = reply.send(Ok(appended));
            }
        }
    }

    pub(super) fn refused(&mut self, ticket: u64, reason: &AppendError, now_ms: u64) {
        let Some((booked, after)) = self.tickets.take(ticket) else { return };
        let unavailable = match reason {
            AppendError::Unavailable(unavailable) => unavailable.clone(),
            _ => {
                Unavailable::DiskFull { detail: "there is no room for the topic of dead letters".to_owned() }
            }
        };
        for Booked { subscription, generation, offset } in booked {
            self.guarded(subscription, now_ms, |desk| {
                if desk.generation == generation {
                    desk.apply(Event::Refused { offset }, now_ms);
                }
            });
            self.tickets.tell(subscription, offset, Some(&unavailable));
        }
        match after {
            After::Nothing => {}
            After::Create { topic, name, reply, .. } => {
                let error = if topic.log.is_deleted() {
                    SubscriptionError::TopicNotFound(topic.name.clone())
                } else {
                    unavailable.into()
                };
                self.creating.remove(&(topic.log.number, name));
                let _ = reply.send(Err(error));
            }
            After::Change(number, reply) => {
                if let Some(desk) = self.desks.get_mut(&number) {
                    desk.intended = desk.settings.clone();
                }
                let _ = reply.send(Err(unavailable.into()));
            }
            After::Delete(_, reply) | After::Restart(_, reply) | After::Tell(_, reply) => {
                let _ = reply.send(Err(unavailable.into()));
            }
            After::Dispatch { .. } => self.schedule_refused(&unavailable, now_ms),
            After::Append { reply, .. } => {
                let error = match reason {
                    AppendError::Unavailable(_) => unavailable.into(),
                    other => PublishError::from(other.clone()).into(),
                };
                let _ = reply.send(Err(error));
            }
        }
    }
}
