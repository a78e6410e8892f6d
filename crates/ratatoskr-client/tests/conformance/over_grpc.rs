//! The door over gRPC: the Rust client against a real server in this process.
//!
//! Each member has a runtime and a connection of its own, so that it can vanish as a process that is killed: everything
//! stops, and the connection breaks.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use ratatoskr_client::{
    Client, ClientError, Code, ConsumeOptions, Consumer, DeadLetter, DeadLetterChoice, DeadLetterPage,
    Delivery, Message, NewMessage, Outcome, PullOptions, Receipt, Seek, SettleError, Settlement, Start,
    SubscribeOptions, SubscriptionSettings, TopicSettings,
};
use tokio::runtime::Runtime;

use crate::doors::{At, Door, Letter, Member, Refusal, Seen, Standing, Taken, Told};
use crate::house::House;
use crate::stage::PATIENCE;

/// See the file's head.
#[derive(Clone)]
pub(crate) struct OverGrpc {
    house: Arc<House>,
    client: Client,
    /// Where the client's connection lives.
    _runtime: Arc<Background>,
}

/// A runtime that stops without being waited for.
struct Background(Option<Runtime>);

/// A member with a connection of its own.
pub(crate) struct GrpcMember {
    consumer: Consumer,
    /// What it was given, by token.
    given: HashMap<Bytes, Delivery>,
    /// Where its connection lives.
    runtime: Background,
}

impl Background {
    fn new() -> Background {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Background(Some(builder.worker_threads(1).enable_all().build().unwrap()))
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.0.as_ref().expect("it runs until it is dropped").spawn(work)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.take().expect("it is dropped once").shutdown_background();
    }
}

impl OverGrpc {
    pub(crate) fn open() -> OverGrpc {
        let (house, runtime) = (Arc::new(House::open()), Background::new());
        let client = runtime.0.as_ref().unwrap().block_on(house.client());
        OverGrpc { house, client, _runtime: Arc::new(runtime) }
    }
}

impl Door for OverGrpc {
    type Member = GrpcMember;

    fn name(&self) -> &'static str {
        "over gRPC"
    }

    async fn create_topic(&self, topic: &str) -> Told<()> {
        Ok(self.client.create_topic(topic, TopicSettings::default()).await?)
    }

    async fn delete_topic(&self, topic: &str) -> Told<()> {
        Ok(self.client.delete_topic(topic).await?)
    }

    async fn purge_topic(&self, topic: &str, before: u64) -> Told<u64> {
        Ok(self.client.purge_topic(topic, Some(before)).await?)
    }

    async fn next_offset(&self, topic: &str) -> Told<u64> {
        Ok(self.client.describe_topic(topic).await?.next_offset.unsigned_abs())
    }

    async fn publish(&self, topic: &str, message: NewMessage) -> Told<Receipt> {
        Ok(self.client.publish(topic, message).await?)
    }

    async fn publish_batch(&self, topic: &str, messages: Vec<NewMessage>) -> Told<Vec<Receipt>> {
        let results = self.client.publish_batch(topic, messages).await?;
        Ok(results.into_iter().collect::<Result<_, _>>()?)
    }

    async fn settle_and_publish(
        &self,
        acks: &[&Taken],
        messages: Vec<(&str, NewMessage)>,
    ) -> Told<Vec<Receipt>> {
        let tokens: Vec<Bytes> = acks.iter().map(|taken| taken.token.clone()).collect();
        Ok(self.client.settle_and_publish(&tokens, messages).await?)
    }

    async fn read(&self, topic: &str, start: Start, filter: &str, count: usize) -> Told<Vec<Seen>> {
        let filter_expression = filter.to_owned();
        let options = SubscribeOptions { start, filter_expression, ..SubscribeOptions::default() };
        let mut subscription = self.client.subscribe(topic, options).await?;
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
        self.client.create_subscription(at.0, at.1, start, settings).await?;
        Ok(())
    }

    async fn change_subscription(&self, at: At<'_>, settings: SubscriptionSettings) -> Told<()> {
        self.client.update_subscription(at.0, at.1, settings).await?;
        Ok(())
    }

    async fn delete_subscription(&self, at: At<'_>) -> Told<()> {
        Ok(self.client.delete_subscription(at.0, at.1).await?)
    }

    async fn describe(&self, at: At<'_>) -> Told<Standing> {
        let described = self.client.describe_subscription(at.0, at.1).await?;
        Ok(Standing {
            lag_messages: described.lag_messages.unsigned_abs(),
            oldest_unsettled_offset: described.oldest_unsettled_offset.unsigned_abs(),
            leased: described.leased.unsigned_abs(),
            waiting: described.waiting.unsigned_abs(),
            parked: described.parked.unsigned_abs(),
            parked_keys: described.parked_keys.unsigned_abs(),
            acked: described.acked.unsigned_abs(),
            dead: described.dead.unsigned_abs(),
            expired: described.expired.unsigned_abs(),
            passed: described.passed.unsigned_abs(),
            redelivered: described.redelivered.unsigned_abs(),
            member_count: described.member_count,
            why: described.why,
            saved: described.saved,
        })
    }

    async fn join(&self, at: At<'_>, window: u32) -> Told<GrpcMember> {
        let (house, runtime) = (self.house.clone(), Background::new());
        let (topic, subscription) = (at.0.to_owned(), at.1.to_owned());
        let member = "worker".to_owned();
        let options =
            ConsumeOptions { window_messages: window, must_exist: true, member, ..ConsumeOptions::default() };
        let joining = async move { house.client().await.consume(&topic, &subscription, options).await };
        let consumer = runtime.spawn(joining).await.expect("joining does not panic")?;
        Ok(GrpcMember { consumer, given: HashMap::new(), runtime })
    }

    async fn pull(&self, at: At<'_>, messages_max: u32) -> Told<Vec<Taken>> {
        let options = PullOptions { messages_max, wait: PATIENCE, ..PullOptions::default() };
        let pulled = self.client.pull(at.0, at.1, options).await?;
        Ok(pulled.iter().map(taken).collect())
    }

    async fn settle(&self, settlements: Vec<(&Taken, Outcome)>) -> Told<Vec<Told<()>>> {
        let settlement =
            |(taken, outcome): (&Taken, Outcome)| Settlement { token: taken.token.clone(), outcome };
        let fates = self.client.settle(settlements.into_iter().map(settlement).collect()).await?;
        Ok(fates.into_iter().map(|fate| fate.map_err(Refusal::from)).collect())
    }

    async fn seek(&self, at: At<'_>, seek: Seek) -> Told<()> {
        self.client.seek_subscription(at.0, at.1, seek).await?;
        Ok(())
    }

    async fn save(&self, at: At<'_>, saved: &str) -> Told<()> {
        Ok(self.client.save_subscription(at.0, at.1, saved).await?)
    }

    async fn peek(&self, at: At<'_>, messages_max: u32) -> Told<Vec<Seen>> {
        let peeked = self.client.peek_subscription(at.0, at.1, messages_max).await?;
        Ok(peeked.iter().map(seen).collect())
    }

    async fn dead_letters(&self, at: At<'_>, filter: &str) -> Told<Vec<Letter>> {
        let page = DeadLetterPage { filter: filter.to_owned(), ..DeadLetterPage::default() };
        let letters = self.client.list_dead_letters(at.0, at.1, page).await?;
        Ok(letters.into_iter().map(letter).collect())
    }

    async fn count_dead_letters(&self, at: At<'_>) -> Told<Vec<(String, u64)>> {
        let groups = self.client.count_dead_letters(at.0, at.1, "").await?;
        Ok(groups.into_iter().map(|group| (group.reason, group.count.unsigned_abs())).collect())
    }

    async fn redrive(&self, at: At<'_>, choice: DeadLetterChoice) -> Told<u64> {
        Ok(self.client.redrive_dead_letters(at.0, at.1, choice).await?)
    }

    async fn drop_dead_letters(&self, at: At<'_>, choice: DeadLetterChoice) -> Told<u64> {
        Ok(self.client.drop_dead_letters(at.0, at.1, choice).await?)
    }

    async fn trace(&self, id: &str) -> Told<Vec<String>> {
        Ok(self.client.trace_message(id).await?.steps.into_iter().map(|step| step.what).collect())
    }
}

impl Member for GrpcMember {
    async fn next(&mut self) -> Told<Taken> {
        let delivery = self.consumer.next().await?;
        let next = taken(delivery.message());
        self.given.insert(next.token.clone(), delivery);
        Ok(next)
    }

    async fn settle(&self, taken: &Taken, outcome: Outcome) -> Told<()> {
        let delivery = self.given.get(&taken.token).expect("it was given to this member");
        Ok(delivery.settle(outcome).await?)
    }

    async fn close(self) -> Told<()> {
        Ok(self.consumer.close().await?)
    }

    fn vanish(self) {
        // First the runtime, so that nobody is left to say goodbye.
        drop(self.runtime);
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Refusal {
        match (error.code(), error.reason()) {
            (_, "STALE") => Refusal::Stale,
            (_, "OFFSET_MISMATCH") => Refusal::OtherOffset,
            (Code::NotFound, _) => Refusal::NotFound,
            (Code::AlreadyExists, _) => Refusal::AlreadyExists,
            (code, reason) => Refusal::Other(format!("{code:?} {reason}: {error}")),
        }
    }
}

impl From<SettleError> for Refusal {
    fn from(error: SettleError) -> Refusal {
        ClientError::from(error).into()
    }
}

fn seen(message: &Message) -> Seen {
    Seen {
        id: message.id.clone(),
        offset: message.offset.unsigned_abs(),
        timestamp_ms: message.timestamp.unsigned_abs(),
        key: message.key.clone(),
        payload: message.payload.clone(),
        metadata: message.metadata.clone(),
    }
}

fn taken(message: &Message) -> Taken {
    Taken { message: seen(message), token: message.token.clone(), attempt: message.attempt }
}

fn letter(letter: DeadLetter) -> Letter {
    Letter {
        message: seen(&letter.message),
        reason: letter.reason,
        attempts: letter.attempts,
        origin_topic: letter.origin_topic,
        origin_offset: letter.origin_offset,
        origin_id: letter.origin_id,
    }
}
