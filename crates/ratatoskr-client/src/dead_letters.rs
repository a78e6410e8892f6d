//! Dead letters: look at them, send them again, drop them.

use std::collections::BTreeMap;

use ratatoskr_proto as wire;
use ratatoskr_proto::{DeadLetterGroup, Message};
use tonic::Request;

use crate::client::Client;
use crate::error::ClientError;
use crate::subscriptions::named;

/// A message no member could settle.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The message as it stands in the topic of dead letters.
    pub message: Message,
    /// Why: the reason of the last nack or reject, `lease ended`, or `member vanished`.
    pub reason: String,
    /// How often it was delivered.
    pub attempts: u32,
    /// When it was first delivered, milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// When it was last delivered, milliseconds since the Unix epoch.
    pub last_ms: u64,
    /// The topic it came from.
    pub origin_topic: String,
    /// Its offset there.
    pub origin_offset: u64,
    /// Its id there.
    pub origin_id: String,
}

/// Which dead letters to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterPage {
    /// Only those that pass this expression (`docs/filters.md`); empty for all. Their facts are metadata, see `docs/subscriptions.md`.
    pub filter: String,
    /// From this offset of the topic of dead letters on; for the next page, the last letter's plus one.
    pub from_offset: u64,
    /// At most so many, 1 to 1,000. Default 100.
    pub messages_max: u32,
}

impl Default for DeadLetterPage {
    fn default() -> DeadLetterPage {
        DeadLetterPage { filter: String::new(), from_offset: 0, messages_max: 100 }
    }
}

/// Which dead letters to redrive or drop. With everything left out: all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterChoice {
    /// Only these, by id in the topic of dead letters; none given: all that pass the filter.
    pub ids: Vec<String>,
    /// Only those that pass this expression; empty for all.
    pub filter: String,
    /// At most so many a second; `None`: as fast as it goes.
    pub rate_max: Option<u32>,
    /// Only count them: nothing happens.
    pub dry_run: bool,
}

impl Client {
    /// A subscription's dead letters that are still to be resolved, oldest first; none when there are no more. Asks again while
    /// the broker has found none and not looked at all of them.
    pub async fn list_dead_letters(
        &self,
        topic: &str,
        subscription: &str,
        page: DeadLetterPage,
    ) -> Result<Vec<DeadLetter>, ClientError> {
        let mut request = wire::ListDeadLettersRequest {
            name: Some(named(topic, subscription)),
            filter: page.filter,
            messages_max: page.messages_max,
            from_offset: i64::try_from(page.from_offset).unwrap_or(i64::MAX),
            group_by_reason: false,
        };
        loop {
            let call = self.call(request.clone());
            let response = self.grpc().list_dead_letters(call).await.map_err(self.failed())?.into_inner();
            match response.next_offset {
                Some(next) if response.letters.is_empty() => request.from_offset = next,
                _ => return response.letters.into_iter().map(DeadLetter::from_wire).collect(),
            }
        }
    }

    /// How many dead letters there are of each reason, most first; only those that pass the filter, or all if it is empty.
    pub async fn count_dead_letters(
        &self,
        topic: &str,
        subscription: &str,
        filter: &str,
    ) -> Result<Vec<DeadLetterGroup>, ClientError> {
        let mut request = wire::ListDeadLettersRequest {
            name: Some(named(topic, subscription)),
            filter: filter.to_owned(),
            group_by_reason: true,
            ..wire::ListDeadLettersRequest::default()
        };
        let mut counts = BTreeMap::<String, i64>::new();
        loop {
            let call = self.call(request.clone());
            let response = self.grpc().list_dead_letters(call).await.map_err(self.failed())?.into_inner();
            for group in response.groups {
                *counts.entry(group.reason).or_default() += group.count;
            }
            let Some(next) = response.next_offset else { break };
            request.from_offset = next;
        }
        let group = |(reason, count)| DeadLetterGroup { reason, count };
        let mut groups: Vec<_> = counts.into_iter().map(group).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        Ok(groups)
    }

    /// Sends dead letters to their subscription again, to no other, with attempts starting anew. Tells how many.
    pub async fn redrive_dead_letters(
        &self,
        topic: &str,
        subscription: &str,
        choice: DeadLetterChoice,
    ) -> Result<u64, ClientError> {
        self.resolve_dead_letters(choice.into_request(topic, subscription)).await
    }

    /// Drops dead letters for good. Tells how many.
    pub async fn drop_dead_letters(
        &self,
        topic: &str,
        subscription: &str,
        choice: DeadLetterChoice,
    ) -> Result<u64, ClientError> {
        let request = choice.into_request(topic, subscription);
        self.resolve_dead_letters(wire::ResolveDeadLettersRequest { drop: true, ..request }).await
    }

    /// Takes as long as the rate makes it take, so there is no limit on its time.
    async fn resolve_dead_letters(
        &self,
        request: wire::ResolveDeadLettersRequest,
    ) -> Result<u64, ClientError> {
        let response = self.grpc().resolve_dead_letters(Request::new(request)).await;
        Ok(response.map_err(self.failed())?.into_inner().count.unsigned_abs())
    }
}

impl DeadLetterChoice {
    fn into_request(self, topic: &str, subscription: &str) -> wire::ResolveDeadLettersRequest {
        wire::ResolveDeadLettersRequest {
            name: Some(named(topic, subscription)),
            ids: self.ids,
            filter: self.filter,
            drop: false,
            // On the wire 0 is no bound; the slowest there is, is one a second.
            rate_max: self.rate_max.map_or(0, |rate| rate.max(1)),
            dry_run: self.dry_run,
        }
    }
}

impl DeadLetter {
    fn from_wire(letter: wire::DeadLetter) -> Result<DeadLetter, ClientError> {
        let message =
            letter.message.ok_or_else(|| ClientError::protocol("a dead letter came without its message"))?;
        Ok(DeadLetter {
            message,
            reason: letter.reason,
            attempts: letter.attempts,
            first_ms: letter.first_ms.unsigned_abs(),
            last_ms: letter.last_ms.unsigned_abs(),
            origin_topic: letter.origin_topic,
            origin_offset: letter.origin_offset.unsigned_abs(),
            origin_id: letter.origin_id,
        })
    }
}
