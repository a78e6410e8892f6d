//! [`Guard`]: who may come in, by what; and the files that say so, watched for changes.
//!
//! ```text
//!   once a second: what do namespaces hold?
//!                  any file changed? ─┐
//!   a subscription has expired ──▶ audit log
//!   SIGHUP: Running::reload ──────────┴─▶ read anew ─▶ good: in force from the next call or connection on
//!                                                   └▶ not: logged, counted, nothing changes
//! ```

use std::sync::Arc;

use ratatoskr_broker::{Broker, SubscriptionRef};
use tokio::sync::broadcast::error::RecvError;

use crate::access::{Access, PolicyError, SubscriptionEntry};
use crate::clients::Clients;
use crate::closing::Closing;
use crate::http::Hosts;
use crate::limits::RELOAD_INTERVAL;
use crate::tls::{Tls, TlsError};
use crate::watched_files::{Look, WatchedFiles};

/// What a policy that is not taken over means.
const POLICY_KEPT: &str = "the policy file is not taken over; the one before stays in force";
/// The same of a certificate.
const CERTIFICATE_KEPT: &str = "the certificate is not taken over; the one before stays in force";

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
    /// By which names the HTTP listener is asked for.
    pub(crate) hosts: Arc<Hosts>,
}

impl Guard {
    /// Reads all files anew, and opens the audit log again.
    pub(crate) fn reload(&self) {
        self.access.audit.reopen();
        let (policy, tls) = (self.reload_policy(), self.reload_tls());
        if policy.is_ok() && tls.is_ok() {
            tracing::info!("policy and certificates were read again: what they say is in force");
        }
        let failed = policy.err().map(|error| error.to_string());
        self.report(POLICY_KEPT, failed, (Look::Changed, &mut None));
        let failed = tls.err().map(|error| error.to_string());
        self.report(CERTIFICATE_KEPT, failed, (Look::Changed, &mut None));
    }

    /// Looks after changed files until the server shuts down.
    pub(crate) async fn watch(self, closing: Closing) {
        let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
        // Nothing is known of them yet: they may have changed since they were read for the start.
        let mut watched = Watched::default();
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
            // Not on this thread: the disk may be slow, and connections wait for it.
            let guard = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                guard.reload_changed(&mut watched);
                watched
            });
            watched = looked.await.expect("looking at files does not panic");
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

    /// Reads what has changed, or may have, and what could not be taken over: the cause may be elsewhere, such as a file that it names, or a
    /// moment without a descriptor.
    fn reload_changed(&self, watched: &mut Watched) {
        let look = watched.policy.look(self.access.files());
        if look != Look::Same || watched.policy_failed.is_some() {
            let failed = self.reload_policy().err().map(|error| error.to_string());
            self.report(POLICY_KEPT, failed, (look, &mut watched.policy_failed));
        }
        let look = watched.tls.look(self.tls.as_ref().map(|tls| tls.files()).unwrap_or_default());
        if look != Look::Same || watched.tls_failed.is_some() {
            let failed = self.reload_tls().err().map(|error| error.to_string());
            self.report(CERTIFICATE_KEPT, failed, (look, &mut watched.tls_failed));
        }
    }

    /// Counts and logs what failed; once only, if the same file is read again without having changed.
    fn report(&self, kept: &str, failed: Option<String>, (look, before): (Look, &mut Option<String>)) {
        if let Some(error) = &failed
            && (look == Look::Changed || failed != *before)
        {
            self.access.counts.reloads_failed.increment();
            tracing::error!(%error, "{kept}");
        }
        if failed.is_none() && before.is_some() {
            tracing::info!("the file that was not taken over is whole again: what it says is in force");
        }
        *before = failed;
    }

    /// Looks what the topics of namespaces hold; not on this thread, which has doors to mind.
    async fn look(&self) {
        if self.access.namespaces().bound_storage() {
            let (access, broker) = (Arc::clone(&self.access), self.broker.clone());
            let looked = tokio::task::spawn_blocking(move || access.look(&broker)).await;
            looked.expect("a look does not panic");
        }
    }

    fn reload_policy(&self) -> Result<(), PolicyError> {
        self.access.reload(|namespaces| namespaces.look(&self.broker))
    }

    fn reload_tls(&self) -> Result<(), TlsError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }
}

/// The files as they were before they were read last.
#[derive(Default)]
struct Watched {
    policy: WatchedFiles,
    /// Why the policy was not taken over, if it was not.
    policy_failed: Option<String>,
    tls: WatchedFiles,
    /// The same of the certificate.
    tls_failed: Option<String>,
}
