//! [`Guard`]: who may come in, by what; and the files that say so, watched for changes.
//!
//! ```text
//!   once a second: what do namespaces hold?
//!                  any file changed? ─┐
//!   a subscription has expired ──▶ audit log
//!   SIGHUP: Running::reload ──────────┴─▶ read anew ─▶ good: in force from the next call or connection on
//!                                                   └▶ not: logged, counted, nothing changes
//! ```

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use ratatoskr_broker::{Broker, SubscriptionRef};
use tokio::sync::broadcast::error::RecvError;

use crate::access::{Access, SubscriptionEntry};
use crate::clients::Clients;
use crate::closing::Closing;
use crate::limits::RELOAD_INTERVAL;
use crate::tls::Tls;

/// See the file's head. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Guard {
    /// Whose topics namespaces are made of.
    pub(crate) broker: Broker,
    pub(crate) access: Arc<Access>,
    /// `None`: without TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Who is here, and how much each may have.
    pub(crate) clients: Arc<Clients>,
}

/// What tells one state of a file from another: when it was written, its length, and which file it is, for links that
/// are pointed elsewhere.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Guard {
    /// Reads all files anew, and opens the audit log again.
    pub(crate) fn reload(&self) {
        self.access.audit.reopen();
        self.reload_policy();
        self.reload_tls();
    }

    /// Looks after changed files until the server shuts down.
    pub(crate) async fn watch(self, closing: Closing) {
        let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
        let (mut policy, mut tls) = (stamps(&self.access.files()), self.tls_stamps());
        let mut expired = self.broker.watch_expired_subscriptions();
        let mut closed = Box::pin(closing.closed());
        loop {
            tokio::select! {
                () = &mut closed => return,
                expired = expired.recv() => {
                    self.note_expired(expired);
                    continue;
                }
                _ = ticks.tick() => {}
            }
            self.access.audit.tick();
            self.look().await;
            let now = stamps(&self.access.files());
            if std::mem::replace(&mut policy, now.clone()) != now {
                self.reload_policy();
                // A new policy may name another file.
                policy = stamps(&self.access.files());
            }
            let now = self.tls_stamps();
            if std::mem::replace(&mut tls, now.clone()) != now {
                self.reload_tls();
            }
        }
    }

    /// Writes down what the broker deleted because nobody used it.
    fn note_expired(&self, expired: Result<SubscriptionRef, RecvError>) {
        let audit = &self.access.audit;
        match expired {
            Ok(name) => audit.record_subscription(&SubscriptionEntry {
                outcome: "expired",
                who: "",
                by: "broker",
                peer: None,
                call: "",
                name: &name,
            }),
            Err(RecvError::Lagged(missed)) => audit.figures().lost.add(missed),
            Err(RecvError::Closed) => {}
        }
    }

    /// Looks what the topics of namespaces hold; not on this thread, which has doors to mind.
    async fn look(&self) {
        if self.access.namespaces().bound_storage() {
            let (access, broker) = (Arc::clone(&self.access), self.broker.clone());
            let looked = tokio::task::spawn_blocking(move || access.look(&broker)).await;
            looked.expect("a look does not panic");
        }
    }

    fn reload_policy(&self) {
        if let Err(error) = self.access.reload(|namespaces| namespaces.look(&self.broker)) {
            self.access.counts.reloads_failed.increment();
            tracing::error!(%error, "the policy file is not taken over; the one before stays in force");
        }
    }

    fn reload_tls(&self) {
        if let Some(Err(error)) = self.tls.as_ref().map(|tls| tls.reload()) {
            self.access.counts.reloads_failed.increment();
            tracing::error!(%error, "the certificate is not taken over; the one before stays in force");
        }
    }

    fn tls_stamps(&self) -> Vec<Stamp> {
        stamps(&self.tls.as_ref().map(|tls| tls.files()).unwrap_or_default())
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    files.iter().map(stamp).collect()
}
