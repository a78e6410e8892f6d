//! Every limit of the front doors, by name. The broker's own limits are in `ratatoskr_broker`.

use std::time::Duration;

use ratatoskr_broker::limits::{BATCH_MESSAGES_MAX, SETTLEMENTS_MAX};

/// What a connection keeps, between two answers, of the buffer that it makes answers in.
pub(crate) const SCRATCH_BYTES_KEPT: usize = 16 << 10;
/// Bytes of one gRPC request. A batch of 16 MiB and its framing fit; tonic answers a larger one with
/// `OUT_OF_RANGE`, naming both figures.
pub const REQUEST_BYTES_MAX: usize = 17 << 20;
/// Bytes of one request of the reflection service, which names a file or a symbol.
pub const REFLECTION_REQUEST_BYTES_MAX: usize = 16 << 10;
/// Bytes of one gRPC response. The list of 200,000 topics with names of 255 bytes fits.
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// Calls and streams that one connection may have open. HTTP/2 stacks default to 100 or 200, which
/// would silently hold back the 201st subscriber of a connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 100_000;
/// Bytes of one HTTP/2 frame that is taken in; a frame is read whole.
pub const FRAME_BYTES_MAX: u32 = 64 << 10;
/// Bytes of requests that one connection may have sent and nobody has read yet; beyond it the client is not allowed to send more.
pub const UNREAD_BYTES_PER_CONNECTION_MAX: usize = 2 * REQUEST_BYTES_MAX;
/// Bytes of requests on one connection that have not come wholly; beyond it the call that sends on is refused. They are more than may be
/// unread, because nothing but their ends can free them: four of the largest may be on their way side by side.
pub const GATHERED_BYTES_PER_CONNECTION_MAX: usize = 4 * REQUEST_BYTES_MAX;
/// What a connection counts for in the memory that callers share, beside what it sends and is sent …
pub const CONNECTION_BYTES: usize = 4 << 10;
/// … what each open call or stream does …
pub const CALL_BYTES: usize = 8 << 10;
/// … and what it does more if it goes through tonic.
pub const SERVED_CALL_BYTES: usize = 8 << 10;
/// What callers without credentials may have of callers' memory where there are credentials, all of them together: one part of so many …
pub const UNAUTHENTICATED_SHARE: usize = 16;
/// … and of that what those of one address may: one part of so many.
pub const UNAUTHENTICATED_ADDRESS_SHARE: usize = 4;
/// Calls without credentials that may be open on one connection: a probe has one or two.
pub const UNAUTHENTICATED_CALLS_MAX: usize = 8;
/// Bytes of the request of such a call: the name of a service …
pub const UNAUTHENTICATED_REQUEST_BYTES_MAX: usize = 4 << 10;
/// … and how long it may take to come.
pub const UNAUTHENTICATED_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that begin within one turn of a connection before they are counted; otherwise they are at its end.
pub const CALLS_UNCOUNTED_MAX: u64 = 8;
/// What a connection holds is counted when it has changed by so much.
pub const HELD_STEP_BYTES: usize = 16 << 10;
/// A request that has not come wholly, and has no more bytes than this, may go on while callers' memory is used up: the acks of consumers.
pub const SMALL_REQUEST_BYTES: usize = 16 << 10;
/// While callers' memory is used up, a connection on which so many bytes are on their way …
pub const STUCK_BYTES_MIN: usize = 64 << 10;
/// … and neither gives so many back nor takes so many within a second, so many seconds in a row, is closed.
pub const STUCK_SECONDS: u64 = 10;
/// What a caller is told to wait before it tries again while memory is used up.
pub const MEMORY_RETRY: Duration = Duration::from_secs(1);
/// How often a stream looks whether memory is left for more to send.
pub const MEMORY_LOOK: Duration = Duration::from_millis(50);
/// How long a connection that we end is read on, so that what was said last is not lost to a reset …
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// … and how many bytes at most.
pub const LINGER_BYTES_MAX: u64 = 4 << 20;
/// A chunk of a request shorter than this is copied if it has to wait: it would hold on to all that was read with it.
pub const CHUNK_COPIED_BYTES_MAX: usize = 16 << 10;
/// Bytes read from a connection at a time …
pub const READ_BYTES: usize = 64 << 10;
/// … and how often in a row before it is the other connections' turn.
pub const READS_PER_TURN: usize = 4;
/// A connection on which a client has not said what HTTP/2 begins with, so long after it was opened, is closed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of one publish stream that are on their way at a time.
pub const PUBLISH_STREAM_IN_FLIGHT_MAX: usize = 1024;
/// Bytes of one publish stream that are on their way at a time. One request alone may be larger.
pub const PUBLISH_STREAM_IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// Settlements of one consumer that wait for the journal, or to be told their fates; beyond it the broker stops reading the stream.
/// A step counts as one more: the largest has room alone.
pub const SETTLEMENTS_IN_FLIGHT_MAX: usize = SETTLEMENTS_MAX + 1;
const _: () = assert!(
    ratatoskr_proto::SETTLEMENTS_MAX == SETTLEMENTS_MAX
        && ratatoskr_proto::BATCH_MESSAGES_MAX == BATCH_MESSAGES_MAX,
    "what is counted before a request is read, and after, is the same"
);
/// What a settlement counts for until its fate is told, beside the bytes it came in: as a value, as one of the broker's, and as a fate …
pub const SETTLEMENT_BYTES: usize = 256;
/// … what a message counts for that is published the long way, beside its bytes …
pub(crate) const VALUE_BYTES: usize = 400;
/// … and each entry of its metadata: two texts, each with a piece of memory of its own, and twice, as a batch is tried as a whole first …
pub(crate) const METADATA_ENTRY_BYTES: usize = 200;
/// … and what a message does that is published with settlements, for its receipt …
pub const RECEIPT_BYTES: usize = 256;
/// … and an id by which dead letters are picked, as text and as a value.
pub const PICKED_ID_BYTES: usize = 64;
/// Bytes of reasons among the fates of one step. With the tokens and codes of 100,000 it stays below the 4 MiB that stock clients take.
pub const REASONS_BYTES_MAX: usize = 512 << 10;
/// Bytes of the response of one pull, if it has several messages: what stock clients take is 4 MiB.
pub const PULL_BYTES_MAX: usize = 3 << 20;
/// A consumer gets a heartbeat when nothing else came for so long, unless it asks for another pace …
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// … which is at least this, milliseconds.
pub const HEARTBEAT_MS_MIN: i64 = 100;
/// What a name in a list of all topics counts for while it is made and sent …
pub const LISTED_NAME_BYTES: usize = 128;
/// … and what a subscription's does, with its topic's, in a list of subscriptions.
pub const LISTED_SUBSCRIPTION_BYTES: usize = 2 * LISTED_NAME_BYTES;
/// Messages one pull fetches at most.
pub const PULL_MESSAGES_MAX: u32 = 10_000;
/// Settlements in one `Settle`: as many as a `Pull` returns messages.
pub const SETTLE_SETTLEMENTS_MAX: usize = PULL_MESSAGES_MAX as usize;
/// How long one pull waits at most.
pub const PULL_WAIT_MAX: Duration = Duration::from_secs(60);
/// Topics that have metrics of their own, the first by name. More would drown a Prometheus server.
pub const TOPIC_METRICS_MAX: usize = 1000;
/// Durable subscriptions that have metrics of their own, the first by topic and name.
pub const SUBSCRIPTION_METRICS_MAX: usize = 1000;
/// Connections the kernel holds until the broker accepts them.
pub const ACCEPT_BACKLOG: i32 = 4096;
/// Rejected connections that stay open until their first call gets the error; further ones are closed at once.
pub const REFUSED_CONNECTIONS_MAX: u64 = 8;
/// Accepted connections that wait for one worker thread to take them.
pub const CONNECTIONS_WAITING_MAX: usize = 1024;
/// Threads of one worker that read old messages from disk for its subscribers. Further reads queue: hundreds
/// of slow subscribers must not become hundreds of threads.
pub const DISK_READERS_PER_WORKER: usize = 4;
/// Lines of the audit log that wait to be written; beyond it they are counted as lost.
pub const AUDIT_LINES_WAITING_MAX: usize = 4096;
/// Denials that the audit log shows of one second; the others are counted in one line. Whoever has no credentials must not be able to
/// fill a disk.
pub const AUDIT_DENIALS_PER_SECOND: u32 = 200;
/// Connections of the HTTP door; whoever comes then has the place of the oldest.
pub const HTTP_CONNECTIONS_MAX: usize = 256;
/// A connection of the HTTP door that has not sent a whole request so long after it came, or after the last answer, is closed. Scrapers ask every 15 to
/// 60 seconds.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Bytes of a request's head, and of a buffer, on the HTTP port: it takes no bodies.
pub const HTTP_BUFFER_BYTES_MAX: usize = 16 << 10;
/// How often the files of policy, keys and certificates are looked at for changes.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked at how much the topics of namespaces hold, and what a client is told to wait before it tries again where they hold
/// too much.
pub const STORED_LOOK: Duration = RELOAD_INTERVAL;
/// Worker threads; more than this is a slip of the keyboard.
pub const WORKERS_MAX: usize = 256;

/// A connection without traffic is asked for a sign of life after this time …
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// … and closed when none comes within this time, which ends its subscriptions.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls get this long to finish once the server shuts down.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: out of file descriptors, most likely.
pub const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// What a client is told to wait before it tries again on a full disk.
pub const DISK_FULL_RETRY: Duration = Duration::from_secs(5);
/// What a client is told to wait before it tries again while the log cannot open its files.
pub const LOG_BLOCKED_RETRY: Duration = Duration::from_secs(1);
/// What a client is told to wait before it subscribes again after a failed read.
pub const READ_FAILED_RETRY: Duration = Duration::from_secs(1);
/// What a client is told to wait before it tries again while a topic restarts.
pub const TOPIC_RESTART_RETRY: Duration = Duration::from_millis(100);
/// What a client is told to wait before it tries another connection when the broker stops.
pub const SHUTDOWN_RETRY: Duration = Duration::from_secs(1);
/// What a client is told to wait while as many dedup ids are remembered as may be.
pub const DEDUP_IDS_RETRY: Duration = Duration::from_secs(10);
