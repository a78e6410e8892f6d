//! The audit log: who did what to what, from where, and what was denied. One JSON object a line.
//!
//! ```text
//!   record ──▶ at most 200 denials a second ──▶ queue of 4,096 lines ──▶ thread "audit" ──▶ file
//!                      └─ the rest: counted, one line      └─ full: counted as lost
//! ```
//!
//! Without a file the lines go to the log, at target `audit`. A file that cannot be written is said once in the log, shown by a
//! metric, and tried again at the next line; calls go on meanwhile, and the lines of that time are counted as lost.
//!
//! Invariants: recording never blocks a call; what whoever has no credentials can have written is bounded.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use ratatoskr_broker::limits::TOPIC_NAME_BYTES_MAX;
use ratatoskr_broker::{SubscriptionRef, shortened};
use serde::Serialize;

use crate::limits::{AUDIT_DENIALS_PER_SECOND, AUDIT_LINES_WAITING_MAX};
use crate::traffic::Count;

/// Who did what is for the owner to read.
const AUDIT_FILE_MODE: u32 = 0o600;

/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 1024;

/// Where lines that go to the log go.
const LOG_TARGET: &str = "audit";

/// Something that somebody did, or was not allowed to.
pub(crate) struct Entry<'a> {
    /// Empty if it is not known who.
    pub(crate) who: &'a str,
    /// `token`, `certificate`, `jwt`, `nobody`; empty if it is not known who.
    pub(crate) by: &'a str,
    pub(crate) peer: SocketAddr,
    /// The call, as the contract names it.
    pub(crate) call: &'static str,
    /// Empty if it concerns none.
    pub(crate) topic: &'a str,
    pub(crate) outcome: Outcome,
}

/// A durable subscription that nobody asked to have created, or deleted.
pub(crate) struct SubscriptionEntry<'a> {
    /// `created` or `expired`.
    pub(crate) outcome: &'static str,
    /// As with [`Entry`].
    pub(crate) who: &'a str,
    /// As with [`Entry`]; `broker` for what the broker does by itself.
    pub(crate) by: &'a str,
    /// `None` if no call did it.
    pub(crate) peer: Option<SocketAddr>,
    /// The call that did it; empty if none did.
    pub(crate) call: &'static str,
    pub(crate) name: &'a SubscriptionRef,
}

/// Whether it was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Allowed,
    /// With the reason.
    Denied(String),
}

/// See the file's head.
pub(crate) struct Audit {
    /// `None`: to the log.
    queue: Option<SyncSender<Line>>,
    denials: Mutex<Second>,
    figures: Arc<Figures>,
}

/// What the metrics show of it.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Lines that were not written.
    pub(crate) lost: Count,
    /// The last write failed.
    is_failing: AtomicBool,
}

enum Line {
    Text(String),
    Reopen,
}

/// How many denials one second has had.
#[derive(Default)]
struct Second {
    /// Since the Unix epoch.
    at_s: u64,
    denials: u32,
    /// Beyond the limit.
    hidden: u64,
}

#[derive(Serialize)]
struct LineFields<'a> {
    time_ms: u64,
    outcome: &'a str,
    who: &'a str,
    by: &'a str,
    peer: SocketAddr,
    call: &'a str,
    topic: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

#[derive(Serialize)]
struct SubscriptionFields<'a> {
    time_ms: u64,
    outcome: &'a str,
    who: &'a str,
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    call: &'a str,
    topic: &'a str,
    subscription: &'a str,
}

#[derive(Serialize)]
struct HiddenFields {
    time_ms: u64,
    outcome: &'static str,
    denials_not_shown: u64,
}

impl Audit {
    /// To the log, at target `audit`.
    pub(crate) fn to_log() -> Audit {
        Audit { queue: None, denials: Mutex::default(), figures: Arc::default() }
    }

    /// To a file, which is appended to. The thread ends, with everything written, when this is dropped.
    pub(crate) fn to_file(path: &Path) -> io::Result<(Audit, thread::JoinHandle<()>)> {
        let file = open(path)?;
        let (sender, lines) = sync_channel(AUDIT_LINES_WAITING_MAX);
        let figures = Arc::new(Figures::default());
        let mut writer = Writer { path: path.to_owned(), file: Some(file), figures: figures.clone() };
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&lines))?;
        Ok((Audit { queue: Some(sender), denials: Mutex::default(), figures }, thread))
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Writes down, soon.
    pub(crate) fn record(&self, entry: &Entry<'_>) {
        let time_ms = now_ms();
        let (outcome, reason) = match &entry.outcome {
            Outcome::Allowed => ("allowed", ""),
            Outcome::Denied(reason) if self.may_show_denial(time_ms) => ("denied", reason.as_str()),
            Outcome::Denied(_) => return,
        };
        let Entry { who, by, peer, call, topic, .. } = *entry;
        // What a caller says of itself, and a name that cannot be, may have kilobytes and megabytes.
        let reason = &*shortened(reason, REASON_BYTES_MAX);
        let (who, topic) = (&*shortened(who, TOPIC_NAME_BYTES_MAX), &*shortened(topic, TOPIC_NAME_BYTES_MAX));
        self.send(&LineFields { time_ms, outcome, who, by, peer, call, topic, reason });
    }

    /// Writes down, soon, that a subscription was created or deleted without being asked for.
    pub(crate) fn record_subscription(&self, entry: &SubscriptionEntry<'_>) {
        let SubscriptionEntry { outcome, who, by, peer, call, name } = *entry;
        let (topic, subscription) = (name.topic.as_str(), name.name.as_str());
        let who = &*shortened(who, TOPIC_NAME_BYTES_MAX);
        self.send(&SubscriptionFields {
            time_ms: now_ms(),
            outcome,
            who,
            by,
            peer,
            call,
            topic,
            subscription,
        });
    }

    /// Tells of denials that were not shown, once their second is over. To be called now and then.
    pub(crate) fn tick(&self) {
        let time_ms = now_ms();
        let hidden = {
            let mut denials = self.denials.lock();
            if denials.at_s == time_ms / 1000 { 0 } else { std::mem::take(&mut denials.hidden) }
        };
        if hidden > 0 {
            self.send(&HiddenFields { time_ms, outcome: "denied", denials_not_shown: hidden });
        }
    }

    /// Opens the file again, after somebody has moved it away.
    pub(crate) fn reopen(&self) {
        if let Some(queue) = &self.queue {
            // A full queue means that lines are lost already, and that is said.
            let _ = queue.try_send(Line::Reopen);
        }
    }

    fn may_show_denial(&self, time_ms: u64) -> bool {
        let mut denials = self.denials.lock();
        if denials.at_s != time_ms / 1000 {
            (denials.at_s, denials.denials) = (time_ms / 1000, 0);
        }
        denials.denials += 1;
        let is_shown = denials.denials <= AUDIT_DENIALS_PER_SECOND;
        denials.hidden += u64::from(!is_shown);
        is_shown
    }

    fn send(&self, fields: &impl Serialize) {
        let mut text = serde_json::to_string(fields).expect("texts and numbers make JSON");
        let Some(queue) = &self.queue else {
            tracing::info!(target: LOG_TARGET, "{text}");
            return;
        };
        text.push('\n');
        match queue.try_send(Line::Text(text)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.figures.lost.increment(),
        }
    }
}

impl Figures {
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }
}

/// The thread that writes.
struct Writer {
    path: PathBuf,
    /// `None` after a failure, until it can be opened again.
    file: Option<File>,
    figures: Arc<Figures>,
}

impl Writer {
    fn run(&mut self, lines: &Receiver<Line>) {
        for line in lines {
            let written = match line {
                Line::Text(text) => self.write(&text),
                Line::Reopen => open(&self.path).map(|file| self.file = Some(file)),
            };
            let is_failing = written.is_err();
            let was_failing = self.figures.is_failing.swap(is_failing, Ordering::Relaxed);
            match written {
                Err(error) if !was_failing => {
                    tracing::error!(path = %self.path.display(), %error, "the audit log cannot be written");
                }
                Ok(()) if was_failing => {
                    let lost = self.figures.lost.get();
                    tracing::warn!(path = %self.path.display(), lost, "the audit log is written again");
                }
                _ => {}
            }
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let written = match self.file.take() {
            Some(file) => Ok(file),
            None => open(&self.path),
        }
        .and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file));
        match written {
            Ok(file) => {
                self.file = Some(file);
                Ok(())
            }
            Err(error) => {
                self.figures.lost.increment();
                Err(error)
            }
        }
    }
}

/// Opens the file, which only its owner can read if it is a new one.
fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(AUDIT_FILE_MODE).open(path)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, Instant};

    use super::*;

    fn entry(outcome: Outcome) -> Entry<'static> {
        let peer = "10.0.0.1:5".parse().unwrap();
        Entry { who: "billing", by: "token", peer, call: "DeleteTopic", topic: "orders", outcome }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_says_who_what_whence_and_whether_it_was_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (audit, thread) = Audit::to_file(&path).unwrap();
        audit.record(&entry(Outcome::Allowed));
        audit.record(&entry(Outcome::Denied("not \"yours\"\nat all".to_owned())));
        drop(audit);
        thread.join().unwrap();
        let lines = lines(&path);
        assert_eq!(lines.len(), 2, "a line break in a reason makes no line");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "who did what is for its owner to read");
        for (name, value) in [
            ("who", "billing"),
            ("by", "token"),
            ("peer", "10.0.0.1:5"),
            ("call", "DeleteTopic"),
            ("topic", "orders"),
            ("outcome", "allowed"),
        ] {
            assert_eq!(lines[0][name], value);
        }
        assert!(lines[0]["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
        assert_eq!(lines[1]["outcome"], "denied");
        assert_eq!(lines[1]["reason"], "not \"yours\"\nat all");
    }

    #[test]
    fn a_flood_of_denials_is_counted_and_hides_no_management() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (audit, thread) = Audit::to_file(&path).unwrap();
        let flood = 2000;
        for _ in 0..flood {
            audit.record(&entry(Outcome::Denied("no".to_owned())));
        }
        audit.record(&entry(Outcome::Allowed));
        // So that the second is over, whenever it began.
        audit.denials.lock().at_s = 0;
        audit.tick();
        audit.tick();
        drop(audit);
        thread.join().unwrap();
        let lines = lines(&path);
        let shown = lines.iter().filter(|line| line["reason"] == "no").count() as u64;
        let hidden: u64 = lines.iter().filter_map(|line| line["denials_not_shown"].as_u64()).sum();
        assert_eq!(shown + hidden, flood);
        // The flood may have gone past the turn of a second, or two.
        assert!(shown <= 3 * u64::from(AUDIT_DENIALS_PER_SECOND), "{shown}");
        assert_eq!(lines.iter().filter(|line| line["outcome"] == "allowed").count(), 1);
        assert_eq!(lines.iter().filter(|line| line["denials_not_shown"].is_u64()).count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_and_written_again_when_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (audit, thread) = Audit::to_file(&path).unwrap();
        let figures = audit.figures.clone();
        let wait = |is_failing: bool| {
            let started = Instant::now();
            while figures.is_failing() != is_failing {
                assert!(started.elapsed() < Duration::from_secs(20), "is_failing never became {is_failing}");
                thread::yield_now();
            }
        };
        // A folder in its place cannot be opened for writing.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        audit.reopen();
        wait(true);
        std::fs::remove_dir(&path).unwrap();
        audit.reopen();
        wait(false);
        audit.record(&entry(Outcome::Allowed));
        drop(audit);
        thread.join().unwrap();
        assert_eq!(lines(&path).len(), 1);
    }
}
