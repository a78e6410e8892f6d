//! Every limit of the broker, by name. Each is enforced in one place and named in the error. What grows with the memory it may use is in
//! the broker's `Shares`.

/// Bytes of a topic name.
pub const TOPIC_NAME_BYTES_MAX: usize = 255;
/// Topics that may exist at a time.
pub const TOPICS_MAX: usize = 200_000;
/// Bytes of one message's payload, unless a topic's setting or the configuration is lower.
pub const MESSAGE_BYTES_DEFAULT: u32 = 1 << 20;
/// The highest value `message_bytes_max` can be set to. A message must fit a journal block.
pub const MESSAGE_BYTES_MAX: u32 = 16 << 20;
/// Messages in one batch.
pub const BATCH_MESSAGES_MAX: usize = 10_000;
/// Bytes of one batch, payloads and metadata together.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Bytes of a message's key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Metadata entries of one message.
pub const METADATA_ENTRIES_MAX: usize = 64;
/// Bytes of one metadata key.
pub const METADATA_KEY_BYTES_MAX: usize = 256;
/// Bytes of one metadata value.
pub const METADATA_VALUE_BYTES_MAX: usize = 8192;
/// Bytes of a subscriber's self-chosen id.
pub const SUBSCRIBER_ID_BYTES_MAX: usize = 255;
/// Entries of a subscription's metadata filter.
pub const FILTER_ENTRIES_MAX: usize = 16;
/// Bytes of their names and values together: a subscriber keeps them as long as it is open.
pub const FILTER_ENTRIES_BYTES_MAX: usize = 4096;
/// Subscribers on one topic, unless the topic's setting is lower.
pub const SUBSCRIBERS_MAX_DEFAULT: u32 = 100_000;
/// Bytes a memory topic keeps unless its settings say otherwise; the oldest messages go first.
pub const MEMORY_TOPIC_BYTES_DEFAULT: u64 = 16 << 20;
/// Bytes of records one read hands to a subscriber at a time.
pub const READ_BYTES_MAX: usize = 64 << 10;
/// The shortest lease of a message, milliseconds.
pub const LEASE_MS_MIN: u64 = 100;
/// The longest lease of a message, and the longest delay of a retry, milliseconds: 12 hours.
pub const LEASE_MS_MAX: u64 = 12 * 60 * 60 * 1000;
/// Messages one member can be allowed to hold unsettled.
pub const MEMBER_OUTSTANDING_MAX: u32 = 100_000;
/// Messages all members of a subscription can be allowed to hold unsettled.
pub const OUTSTANDING_MAX: u32 = 1_000_000;
/// Messages of a subscription that are leased, wait for a retry or wait behind their key; with more, reading on stops.
pub const UNSETTLED_MAX: usize = 1_000_000;
/// What one message counts for that a subscription has read and not settled, bytes: its place in several tables, and why it came back …
pub const UNSETTLED_MESSAGE_BYTES: u64 = 512;
/// … and how much any subscription may have of it, however much all others have.
pub const UNSETTLED_BYTES_MIN: u64 = 128 << 10;
/// Messages read ahead of what members have room for.
pub const READ_AHEAD_MAX: usize = 1024;
/// Bytes of messages read ahead for a subscription, and of those that a member has been handed and not looked at; more it reads by itself.
pub const READ_AHEAD_BYTES_MAX: u64 = 1 << 20;
/// Bytes of the reason a member gives.
pub const REASON_BYTES_MAX: usize = 1024;
/// Bytes that are remembered of the reason for which a message came back; a dead letter has all of its last one.
pub const REASON_REMEMBERED_BYTES_MAX: usize = 128;
/// Settlements in one call, or in one step of a stream: all that one member can hold.
pub const SETTLEMENTS_MAX: usize = MEMBER_OUTSTANDING_MAX as usize;
/// Acks of one atomic step that also publishes: its block has a batch of messages beside them.
pub const STEP_ACKS_MAX: usize = 10_000;
/// Bytes of messages one peek or listing answers, unless a single message is larger: with what the wire adds, a client that takes
/// 4 MiB, as gRPC clients do by default, takes it.
pub const LISTED_BYTES_MAX: usize = 3 << 20;
/// Steps of a message's life that are told, the newest …
pub const TRACED_STEPS_MAX: usize = 1000;
/// … and subscriptions with which is told where it stands: those first that have been given it.
pub const TRACED_SUBSCRIPTIONS_MAX: usize = 1000;
/// Bytes of a log that one step of a scan reads: peeks, listings of dead letters, subscribers whose filter passes nothing.
pub const SCAN_STEP_BYTES: u64 = 256 << 10;
/// Bytes of a log that one page of a scan examines at most, but for the rest of a step; the next page goes on from there.
pub const SCAN_PAGE_BYTES_MAX: u64 = 16 << 20;
/// Steps of scans that run at a time, over all callers: the disk is there for those who read what they get.
pub const SCANS_AT_ONCE: usize = 2;
/// Durable subscriptions that may exist at a time.
pub const SUBSCRIPTIONS_MAX: usize = 100_000;
/// Expired subscriptions that somebody who watches for them need not have looked at yet.
pub const EXPIRED_UNSEEN_MAX: usize = 1000;
/// States of one subscription that can be saved.
pub const SAVED_MAX: usize = 16;
/// Bytes of a publisher's own id of a message.
pub const DEDUP_ID_BYTES_MAX: usize = 256;
/// The longest time duplicates can be found within, milliseconds: 7 days.
pub const DEDUP_WINDOW_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// How far in the future a message can be due, milliseconds: ten years.
pub const DELAY_MS_MAX: u64 = 10 * 366 * 24 * 60 * 60 * 1000;
/// Messages of the schedule, those that are due first, whose times are kept in memory; about 24 bytes each.
pub const SCHEDULE_KNOWN_MAX: usize = 1 << 18;
