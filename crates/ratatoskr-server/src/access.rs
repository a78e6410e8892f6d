//! Who calls, and what they may: one function that says who, one that decides.
//!
//! ```text
//!   headers, Peer ──Visitor::caller──▶ Caller ──may(action, topic)──▶ yes, or Denied ──▶ status, count, audit line
//!                       │                 │
//!        known on this connection     known topics            both forgotten with the policy they are of
//!
//!   policy file, JWKS ──read──▶ Policy ──swapped in whole──▶ in force; streams are told (Gate::revoked)
//! ```
//!
//! Invariants:
//! - Once there is a policy, nothing is allowed that it does not allow; a policy that cannot be read changes nothing.
//! - Deciding does no I/O, and nobody waits for it.
//! - No secret leaves: tokens are digests, and neither denials nor the audit log repeat what was shown.
//!
//! What this deliberately does not do: it knows no gRPC and no HTTP beyond the value of one header, and stores nothing.
//! ADR 0012 has the reasons.

mod action;
mod audit;
mod caller;
mod counts;
mod denied;
mod gate;
mod jwt;
mod pattern;
mod peer;
mod policy;
mod quota;
mod rights;
mod section;
mod stock;
mod token;
mod visitor;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use ratatoskr_broker::{Broker, SubscriptionRef};
use tokio::sync::watch;

pub use action::Action;
pub use denied::{Denied, JwtRefusal};
pub use peer::{CertificateName, ClientCertificate, Peer};
pub use quota::Exceeded;
pub use section::PolicyError;
pub use token::{TokenDigest, new_token};

pub(crate) use audit::{Audit, SubscriptionEntry};
pub(crate) use caller::Caller;
pub(crate) use counts::Counts;
pub(crate) use gate::Gate;
pub(crate) use quota::{Namespace, Permit};
pub(crate) use rights::Namespaces;
pub(crate) use stock::Load;
pub(crate) use visitor::Visitor;

use caller::By;
use policy::Policy;

/// Who a call is by when nobody is asked.
const NOBODY: &str = "anonymous";

/// Subscriptions that are remembered; when there are more, all are forgotten.
const SUBSCRIPTIONS_KNOWN_MAX: usize = 10_000;

/// How callers are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessRule {
    /// Nobody is asked, everybody may do everything.
    #[default]
    Open,
    /// Whoever has a client certificate of a CA that is believed may do everything.
    Certificates,
    /// The policy file says.
    Policy(PathBuf),
}

/// What is in force.
enum Rules {
    Open(Arc<Caller>),
    Certificates,
    Policy(Box<Policy>),
}

/// See the file's head.
pub(crate) struct Access {
    rules: ArcSwap<Rules>,
    /// Of the rules in force. Changes after them, so that whoever sees the new number sees the new rules.
    generation: AtomicU64,
    /// The same, for whoever waits for a change.
    changed: watch::Sender<u64>,
    pub(crate) audit: Audit,
    pub(crate) counts: Counts,
    /// Subscriptions that messages were settled of, by their number, which is never given twice.
    subscriptions: RwLock<HashMap<u32, SubscriptionRef>>,
    /// Held by whoever looks what topics hold, or takes over a policy: one at a time.
    looking: Mutex<()>,
    /// Whether callers are asked who they are.
    asks: bool,
    /// Time that never goes back, for rates.
    started: Instant,
}

impl Access {
    /// Reads the policy, if there is to be one.
    pub(crate) fn new(rule: &AccessRule, audit: Audit) -> Result<Access, PolicyError> {
        let rules = match rule {
            AccessRule::Open => Rules::Open(Arc::new(Caller::unasked(NOBODY, By::Nobody, 0))),
            AccessRule::Certificates => Rules::Certificates,
            AccessRule::Policy(path) => Rules::Policy(Box::new(Policy::read(path, 0, None)?)),
        };
        Ok(Access {
            asks: !matches!(rules, Rules::Open(_)),
            rules: ArcSwap::from_pointee(rules),
            generation: AtomicU64::new(0),
            changed: watch::channel(0).0,
            audit,
            counts: Counts::default(),
            subscriptions: RwLock::default(),
            looking: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// Reads the policy anew, and takes it over if it says something else. What was in force stays so if that fails. `look` finds out what the topics of its namespaces hold, before
    /// the first publish is held against that.
    pub(crate) fn reload(&self, look: impl FnOnce(&Namespaces)) -> Result<(), PolicyError> {
        let _alone = self.looking.lock();
        let before = self.rules.load();
        let Rules::Policy(policy) = &**before else { return Ok(()) };
        let generation = self.generation() + 1;
        let path = policy.files().first().expect("a policy is read from a file");
        let read = Policy::read(path, generation, Some(policy))?;
        if read.says_the_same_as(policy) {
            return Ok(());
        }
        let policy = read;
        look(&policy.namespaces);
        tracing::info!(path = %path.display(), holds = policy.describe(), "the policy file is in force");
        self.rules.store(Arc::new(Rules::Policy(Box::new(policy))));
        self.generation.store(generation, Ordering::Release);
        self.changed.send_replace(generation);
        Ok(())
    }

    /// Looks what the topics of namespaces hold, for those that may hold only so much. Takes as long as there are topics.
    pub(crate) fn look(&self, broker: &Broker) {
        let _alone = self.looking.lock();
        self.namespaces().look(broker);
    }

    /// The namespaces of the policy in force.
    pub(crate) fn namespaces(&self) -> Arc<Namespaces> {
        match &**self.rules.load() {
            Rules::Policy(policy) => policy.namespaces.clone(),
            Rules::Open(_) | Rules::Certificates => Arc::default(),
        }
    }

    /// The files to look at for changes.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        match &**self.rules.load() {
            Rules::Policy(policy) => policy.files().to_vec(),
            Rules::Open(_) | Rules::Certificates => Vec::new(),
        }
    }

    /// Whether callers are asked who they are.
    pub(crate) fn asks(&self) -> bool {
        self.asks
    }

    /// A subscription by its number; `None` if it is gone.
    fn subscription(&self, broker: &Broker, number: u32) -> Option<SubscriptionRef> {
        if let Some(known) = self.subscriptions.read().get(&number) {
            return Some(known.clone());
        }
        let subscription = broker.subscription_numbered(number)?;
        let mut known = self.subscriptions.write();
        if known.len() >= SUBSCRIPTIONS_KNOWN_MAX {
            known.clear();
        }
        known.insert(number, subscription.clone());
        Some(subscription)
    }

    /// Says who calls, by the value of the `authorization` header if there is one, else by the peer's certificate. This is the
    /// one place; [`Visitor::caller`] remembers its answers.
    pub(crate) fn authenticate(
        &self,
        authorization: Option<&[u8]>,
        peer: &Peer,
    ) -> Result<Arc<Caller>, Denied> {
        match (&**self.rules.load(), authorization, &peer.certificate) {
            (Rules::Open(anybody), _, _) => Ok(anybody.clone()),
            (Rules::Certificates, _, Some(certificate)) => {
                certificate.check(now_s())?;
                let name = certificate.names.first().map(CertificateName::to_string);
                let who = name.as_deref().unwrap_or("a certificate without a name");
                let caller = Caller::unasked(who, By::Nobody, self.generation());
                Ok(Arc::new(caller.by_certificate(certificate)))
            }
            (Rules::Policy(policy), Some(header), _) => policy.bearer(bearer(header)?, now_s()),
            (Rules::Policy(policy), None, Some(certificate)) => policy.certificate(certificate, now_s()),
            (Rules::Certificates, _, None) | (Rules::Policy(_), None, None) => Err(Denied::NoCredentials),
        }
    }

    /// The caller as of now: the same one, or under a policy that has come since, or nobody, also because their credential has expired.
    pub(crate) fn again(&self, caller: &Arc<Caller>) -> Result<Arc<Caller>, Denied> {
        if self.is_current(caller) {
            return Ok(caller.clone());
        }
        match &**self.rules.load() {
            Rules::Policy(policy) => policy.again(caller, now_s()),
            Rules::Open(_) => Ok(caller.clone()),
            Rules::Certificates => {
                if let By::Certificate(certificate) = caller.by() {
                    certificate.check(now_s())?;
                }
                Ok(caller.clone())
            }
        }
    }

    /// Whether nothing has changed since the caller was let in. Takes a few nanoseconds.
    pub(crate) fn is_current(&self, caller: &Caller) -> bool {
        caller.generation() == self.generation()
            && (caller.until_s() == u64::MAX || now_s() < caller.until_s())
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Nanoseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Reads a policy file as the broker would, and says in a sentence what it holds.
pub fn check_policy(path: &Path) -> Result<String, PolicyError> {
    Ok(Policy::read(path, 0, None)?.describe())
}

/// What stands after `Bearer `, RFC 6750.
fn bearer(header: &[u8]) -> Result<&str, Denied> {
    let text = std::str::from_utf8(header).map_err(|_| Denied::NotBearer)?;
    let (scheme, credential) = text.split_once(' ').ok_or(Denied::NotBearer)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(credential.trim()) } else { Err(Denied::NotBearer) }
}

/// Seconds since the Unix epoch.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests;
