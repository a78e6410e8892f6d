//! The doors without a network: the broker in this process. What topics promise is a parameter; it is the broker's default
//! here, so that topics made by publishing promise the same.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ratatoskr_broker as broker;
use ratatoskr_broker::{
    Broker, BrokerConfig, DeadLetterQuery, Delivered, Durability, Fate, Filter, JoinOptions, MessageId,
    Resolution, SubscriptionName, SubscriptionRef, Token, TopicName, TopicSettings, Window,
};
use ratatoskr_client::{DeadLetterChoice, NewMessage, Outcome, Receipt, Seek, Start, SubscriptionSettings};

use crate::doors::{At, Door, Letter, Member, Refusal, Seen, Standing, Taken, Told};
use crate::spoken;

/// See the file's head.
#[derive(Clone)]
pub(crate) struct InProcess {
    broker: Broker,
    durability: Durability,
    /// Goes with the last clone.
    _folder: Arc<tempfile::TempDir>,
}

/// A member, and what came with an earlier message.
pub(crate) struct InProcessMember {
    member: broker::Member,
    ready: VecDeque<Delivered>,
}

impl InProcess {
    pub(crate) fn open(durability: Durability) -> InProcess {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let topic_defaults = TopicSettings { durability, ..TopicSettings::default() };
        let config = BrokerConfig { topic_defaults, ..BrokerConfig::new(folder.path()) };
        InProcess { broker: Broker::open(config).unwrap(), durability, _folder: folder }
    }

    async fn resolve(&self, at: At<'_>, choice: DeadLetterChoice, resolution: Resolution) -> Told<u64> {
        let resolution = if choice.dry_run { Resolution::Count } else { resolution };
        let ids = choice.ids.iter().map(|id| MessageId::parse(id).unwrap()).collect();
        let query = DeadLetterQuery { ids, ..query(&choice.filter) };
        Ok(self.broker.resolve_dead_letters(&named(at), query, resolution, choice.rate_max).await?)
    }
}

impl Door for InProcess {
    type Member = InProcessMember;

    fn name(&self) -> &'static str {
        match self.durability {
            Durability::Memory => "in process, memory",
            Durability::Fsync | Durability::Written => "in process, fsync",
        }
    }

    async fn create_topic(&self, name: &str) -> Told<()> {
        let settings = TopicSettings { durability: self.durability, ..TopicSettings::default() };
        self.broker.create_topic(&topic(name), settings).await?;
        Ok(())
    }

    async fn delete_topic(&self, name: &str) -> Told<()> {
        Ok(self.broker.delete_topic(&topic(name)).await?)
    }

    async fn purge_topic(&self, name: &str, before: u64) -> Told<u64> {
        Ok(self.broker.purge_topic(&topic(name), Some(before)).await?)
    }

    async fn next_offset(&self, name: &str) -> Told<u64> {
        Ok(self.broker.stats(&topic(name)).ok_or(Refusal::NotFound)?.next_offset)
    }

    async fn publish(&self, name: &str, message: NewMessage) -> Told<Receipt> {
        Ok(spoken::receipt(self.broker.publish(&topic(name), spoken::message(message)).await?))
    }

    async fn publish_batch(&self, name: &str, messages: Vec<NewMessage>) -> Told<Vec<Receipt>> {
        let messages = messages.into_iter().map(spoken::message).collect();
        let receipts = self.broker.publish_batch(&topic(name), messages).await?;
        Ok(receipts.into_iter().map(spoken::receipt).collect())
    }

    async fn settle_and_publish(
        &self,
        acks: &[&Taken],
        messages: Vec<(&str, NewMessage)>,
    ) -> Told<Vec<Receipt>> {
        let tokens = acks.iter().map(|taken| token(taken)).collect();
        let messages =
            messages.into_iter().map(|(name, message)| (topic(name), spoken::message(message))).collect();
        let receipts = self.broker.settle_and_publish(tokens, messages).await?;
        Ok(receipts.into_iter().map(spoken::receipt).collect())
    }

    async fn read(&self, name: &str, start: Start, filter: &str, count: usize) -> Told<Vec<Seen>> {
        let expression = (!filter.is_empty()).then(|| Filter::parse(filter).unwrap());
        let options = broker::SubscribeOptions {
            start: spoken::start(start),
            expression,
            ..broker::SubscribeOptions::default()
        };
        let mut subscription = self.broker.subscribe(&topic(name), options)?;
        let mut read = Vec::with_capacity(count);
        while read.len() < count {
            read.push(seen(&subscription.next().await?));
        }
        Ok(read)
    }

    async fn create_subscription(
        &self,
        at: At<'_>,
        start: Start,
        settings: SubscriptionSettings,
    ) -> Told<()> {
        let settings = spoken::settings(&settings, &broker::SubscriptionSettings::default());
        self.broker.create_subscription(&named(at), spoken::start(start), settings).await?;
        Ok(())
    }

    async fn change_subscription(&self, at: At<'_>, settings: SubscriptionSettings) -> Told<()> {
        let change = move |current: &broker::SubscriptionSettings| spoken::settings(&settings, current);
        self.broker.change_subscription(&named(at), change).await?;
        Ok(())
    }

    async fn delete_subscription(&self, at: At<'_>) -> Told<()> {
        Ok(self.broker.delete_subscription(&named(at)).await?)
    }

    async fn describe(&self, at: At<'_>) -> Told<Standing> {
        let described = self.broker.describe_subscription(&named(at)).await?;
        Ok(Standing {
            lag_messages: described.lag_messages,
            oldest_unsettled_offset: described.oldest_unsettled_offset,
            leased: described.leased,
            waiting: described.waiting,
            parked: described.parked,
            parked_keys: described.parked_keys,
            acked: described.acked,
            dead: described.dead,
            expired: described.expired,
            passed: described.passed,
            redelivered: described.redelivered,
            member_count: described.member_count,
            why: described.why,
            saved: described.saved,
        })
    }

    async fn join(&self, at: At<'_>, window: u32) -> Told<InProcessMember> {
        let window = Window { messages: window, ..Window::default() };
        let options = JoinOptions { member: "worker".to_owned(), window, create: None };
        let member = self.broker.join(&named(at), options).await?;
        Ok(InProcessMember { member, ready: VecDeque::new() })
    }

    async fn pull(&self, at: At<'_>, messages_max: u32) -> Told<Vec<Taken>> {
        let InProcessMember { mut member, .. } = self.join(at, messages_max).await?;
        let pulled = member.next_batch().await?;
        member.detach();
        Ok(pulled.iter().map(taken).collect())
    }

    async fn settle(&self, settlements: Vec<(&Taken, Outcome)>) -> Told<Vec<Told<()>>> {
        let spoken = |(taken, outcome): (&Taken, Outcome)| (token(taken), spoken::outcome(outcome));
        let fates = self.broker.settle(settlements.into_iter().map(spoken).collect())?.await;
        Ok(fates.into_iter().map(told).collect())
    }

    async fn seek(&self, at: At<'_>, seek: Seek) -> Told<()> {
        self.broker.seek_subscription(&named(at), spoken::seek(seek)).await?;
        Ok(())
    }

    async fn save(&self, at: At<'_>, saved: &str) -> Told<()> {
        Ok(self.broker.save_subscription(&named(at), saved).await?)
    }

    async fn peek(&self, at: At<'_>, messages_max: u32) -> Told<Vec<Seen>> {
        let peeked = self.broker.peek_subscription(&named(at), messages_max as usize).await?;
        Ok(peeked.iter().map(seen).collect())
    }

    async fn dead_letters(&self, at: At<'_>, filter: &str) -> Told<Vec<Letter>> {
        let letters = self.broker.list_dead_letters(&named(at), query(filter), 100).await?;
        Ok(letters.into_iter().map(letter).collect())
    }

    async fn count_dead_letters(&self, at: At<'_>) -> Told<Vec<(String, u64)>> {
        Ok(self.broker.count_dead_letters(&named(at), query("")).await?)
    }

    async fn redrive(&self, at: At<'_>, choice: DeadLetterChoice) -> Told<u64> {
        self.resolve(at, choice, Resolution::Redrive).await
    }

    async fn drop_dead_letters(&self, at: At<'_>, choice: DeadLetterChoice) -> Told<u64> {
        self.resolve(at, choice, Resolution::Drop).await
    }

    async fn trace(&self, id: &str) -> Told<Vec<String>> {
        let id = MessageId::parse(id).unwrap();
        let traced = self.broker.trace_message(id).await?.ok_or(Refusal::NotFound)?;
        Ok(traced.steps.into_iter().map(|step| step.what).collect())
    }
}

impl Member for InProcessMember {
    async fn next(&mut self) -> Told<Taken> {
        loop {
            if let Some(delivered) = self.ready.pop_front() {
                return Ok(taken(&delivered));
            }
            self.ready.extend(self.member.next_batch().await?);
        }
    }

    async fn settle(&self, taken: &Taken, outcome: Outcome) -> Told<()> {
        let fates = self.member.settle(vec![(token(taken), spoken::outcome(outcome))])?.await;
        fates.into_iter().try_for_each(told)
    }

    async fn close(self) -> Told<()> {
        self.member.close();
        Ok(())
    }

    fn vanish(self) {
        drop(self.member);
    }
}

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn named((name, subscription): At<'_>) -> SubscriptionRef {
    SubscriptionRef { topic: topic(name), name: SubscriptionName::parse(subscription).unwrap() }
}

fn query(filter: &str) -> DeadLetterQuery {
    let filter = (!filter.is_empty()).then(|| Filter::parse(filter).unwrap());
    DeadLetterQuery { filter, ..DeadLetterQuery::default() }
}

fn token(taken: &Taken) -> Token {
    Token::parse(&taken.token).unwrap()
}

fn seen(message: &broker::Message) -> Seen {
    Seen {
        id: message.id.to_string(),
        offset: message.offset,
        timestamp_ms: message.timestamp_ms,
        key: message.key().to_owned(),
        payload: message.payload(),
        metadata: message.metadata().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}

fn taken(delivered: &Delivered) -> Taken {
    let token = Bytes::copy_from_slice(&delivered.token.to_bytes());
    Taken { message: seen(&delivered.message), token, attempt: delivered.attempt }
}

fn letter(letter: broker::DeadLetter) -> Letter {
    Letter {
        message: seen(&letter.message),
        reason: letter.reason,
        attempts: letter.attempts,
        origin_topic: letter.origin_topic,
        origin_offset: letter.origin_offset,
        origin_id: letter.origin_id,
    }
}

fn told(fate: Fate) -> Told<()> {
    match fate {
        Fate::Settled => Ok(()),
        Fate::Stale | Fate::Unknown => Err(Refusal::Stale),
        Fate::Unavailable(reason) => Err(Refusal::Other(reason.to_string())),
    }
}
