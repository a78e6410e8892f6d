//! A durable subscription in figures, and in words: why nothing is being delivered.

use crate::durable::states::SubscriptionStates;
use ratatoskr_log::Moment;
use ratatoskr_state::{SubscriptionRef, SubscriptionSettings};

use super::active::ActiveSubscription;
use super::event::Window;
use ratatoskr_state::limits::UNSETTLED_MAX;

/// Members listed in a description.
const MEMBERS_LISTED_MAX: usize = 1000;

/// A durable subscription as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionDescription {
    /// Its topic and name.
    pub name: SubscriptionRef,
    /// Its number, unique for ever within a data directory.
    pub number: u32,
    /// Its settings.
    pub settings: SubscriptionSettings,
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Messages of the topic it has not settled, the filter not considered.
    pub lag_messages: u64,
    /// How long the oldest of them has been in the topic, milliseconds.
    pub lag_ms: u64,
    /// The offset of the oldest message not settled; the topic's next offset if there is none.
    pub oldest_unsettled_offset: u64,
    /// Messages leased now.
    pub leased: u64,
    /// Messages that wait for their retry.
    pub waiting: u64,
    /// Messages that wait behind an earlier one of their key.
    pub parked: u64,
    /// Keys that hold back later messages.
    pub parked_keys: u64,
    /// Messages settled by ack, since creation.
    pub acked: u64,
    /// Messages moved to the dead letters.
    pub dead: u64,
    /// Messages that went unsettled: by their time to live, by retention, by a purge, or by damage. Counted when they go.
    pub expired: u64,
    /// Messages passed over: filtered out, addressed to others, skipped, or gone already where the subscription was moved back to.
    pub passed: u64,
    /// Deliveries beyond the first of their message, since the broker started.
    pub redelivered: u64,
    /// Its members, at most 1,000 of them.
    pub members: Vec<MemberDescription>,
    /// How many members there are.
    pub member_count: u32,
    /// Why nothing is being delivered: a code, a colon, a sentence. Empty when something is.
    pub why: String,
    /// Names of its saved states.
    pub saved: Vec<String>,
}

/// A member of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// The name it gave itself.
    pub name: String,
    /// Messages it holds.
    pub leased: u32,
    /// What it may hold.
    pub window: Window,
    /// Since when, milliseconds since the Unix epoch.
    pub joined_ms: u64,
}

/// Everything but `lag_ms`, which takes a look at the log. `None` when it is being deleted.
pub(super) fn describe(
    active: &ActiveSubscription,
    states: &SubscriptionStates,
    now: Moment,
) -> Option<SubscriptionDescription> {
    let next = active.topic.log.next();
    let (created_ms, floor, ahead, counts, saved) = states.with(active.number, |state| {
        let floor = state.acks.floor().max(active.topic.log.extent().first).min(next.max(state.acks.origin));
        let saved: Vec<String> = state.saved.keys().cloned().collect();
        (state.created_ms, floor, state.acks.settled.count_from(floor), state.counts, saved)
    })?;
    let census = active.delivery.census();
    let members = active.member_queues.values().take(MEMBERS_LISTED_MAX).map(|(member_queue, window)| {
        MemberDescription {
            name: member_queue.name.to_string(),
            leased: active.delivery.held_by(member_queue.id) as u32,
            window: *window,
            joined_ms: member_queue.joined_ms,
        }
    });
    Some(SubscriptionDescription {
        name: active.name.clone(),
        number: active.number,
        settings: SubscriptionSettings::clone(&active.settings),
        created_ms,
        lag_messages: next.saturating_sub(floor).saturating_sub(ahead),
        lag_ms: 0,
        oldest_unsettled_offset: floor,
        leased: census.leased as u64,
        waiting: census.waiting as u64,
        parked: census.parked as u64,
        parked_keys: census.parked_keys as u64,
        acked: counts.acked,
        dead: counts.dead,
        expired: counts.expired,
        passed: counts.passed,
        redelivered: active.delivery.redelivered(),
        members: members.collect(),
        member_count: active.member_queues.len() as u32,
        why: and_expired(why(active, next, now), counts.expired),
        saved,
    })
}

/// Who asks why nothing comes learns what never will.
fn and_expired(why: String, expired: u64) -> String {
    if why.is_empty() || expired == 0 {
        return why;
    }
    format!(
        "{why}; {expired} messages expired before they were settled, by retention, a purge or their time to live"
    )
}

/// Why no member is given what is ready.
fn why_no_room(active: &ActiveSubscription, ready: usize) -> String {
    let mut member_queues = active.member_queues.values().map(|(member_queue, _)| member_queue);
    if let Some(stalled) = member_queues.find(|member_queue| active.delivery.is_stalled(member_queue.id)) {
        return format!(
            "stalled: member {:?} has settled nothing for the whole of a lease, so it is tried with one message in a lease's time; it goes \
             on once it settles one, or joins again",
            stalled.name
        );
    }
    if active.delivery.suspects() > 0 {
        return format!(
            "suspects: {} messages came back unsettled from members that vanished, let leases end or left; each is delivered alone, \
             once a member holds nothing else",
            active.delivery.suspects()
        );
    }
    format!("no_credit: {ready} messages are ready, and every member holds as many as its window allows")
}

/// Why nothing is being delivered at this moment; the first reason that holds.
fn why(active: &ActiveSubscription, next: u64, now: Moment) -> String {
    let census = active.delivery.census();
    let at_end = active.delivery.cursor() >= next;
    let settings = &active.settings;
    if settings.paused {
        return "paused: the subscription is paused; resume it".to_owned();
    }
    if active.member_queues.is_empty() {
        return "no_members: nobody consumes from it".to_owned();
    }
    if active.delivery.is_under_review() {
        return "filter_review: the filter was changed, and what was read before is matched against it; delivery goes on after that"
            .to_owned();
    }
    if census.leased >= settings.outstanding_max as usize {
        return format!(
            "outstanding_max: {} messages are leased, as many as outstanding_max allows; settle some or raise it",
            census.leased
        );
    }
    let is_held_back = active.delivery.suspects() > 0
        || active.member_queues.values().any(|(member_queue, _)| active.delivery.is_stalled(member_queue.id));
    if census.ready > 0 && (is_held_back || !active.delivery.has_room()) {
        return why_no_room(active, census.ready);
    }
    if active.delivery.is_full() {
        let unsettled = census.leased + census.waiting + census.parked;
        return format!(
            "unsettled_max: {unsettled} messages are leased, waiting or parked, as many as memory and the limit of {UNSETTLED_MAX} allow; \
             reading on waits until some are settled"
        );
    }
    if !at_end || census.ready > 0 {
        return String::new();
    }
    let (retry_ms, obstacle) = active.delivery.obstacles();
    if let Some(offset) = obstacle.filter(|_| census.parked > 0) {
        return format!(
            "key_parked: {} messages of {} keys wait behind earlier ones of their key, the first behind the message at offset {offset}",
            census.parked, census.parked_keys
        );
    }
    if let Some(retry_ms) = retry_ms {
        let seconds = retry_ms.saturating_sub(now.steady_ms).div_ceil(1000);
        let at_ms = now.wall_at(retry_ms);
        return format!(
            "waiting_for_retry: {} messages wait for their retry, the next one in {seconds} s (at {at_ms} ms since the epoch)",
            census.waiting
        );
    }
    if census.leased > 0 {
        return format!(
            "all_leased: everything there is has been handed out; {} messages are leased",
            census.leased
        );
    }
    if active.filter_matches_nothing() {
        return "filter_matches_nothing: the filter has passed over every message since the broker started or the subscription moved".to_owned();
    }
    "caught_up: every message is settled".to_owned()
}
