//! [`Caller`]: somebody who has said who they are, and what they may.

use std::fmt;
use std::sync::Arc;

use ratatoskr_broker::limits::TOPIC_NAME_BYTES_MAX;

use super::action::Action;
use super::denied::Denied;
use super::peer::ClientCertificate;
use super::quota::Namespace;
use super::rights::Rights;
use super::stock::{Load, Underway};
use super::token::TokenDigest;

/// What is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<[u8]>);

impl Secret {
    /// For checking, not for showing.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Secret {
        Secret(bytes.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// By what somebody is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Token(TokenDigest),
    Certificate(ClientCertificate),
    /// Kept, because a changed policy is asked about it again.
    Jwt(Secret),
    /// Nobody is asked.
    Nobody,
}

impl By {
    /// The word for it in the audit log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            By::Token(_) => "token",
            By::Certificate(_) => "certificate",
            By::Jwt(_) => "jwt",
            By::Nobody => "nobody",
        }
    }
}

/// See the file's head.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    who: Arc<str>,
    by: By,
    /// `None`: everything is allowed, because nobody is asked.
    rights: Option<Arc<Rights>>,
    /// When the JWT or certificate ends, seconds since the Unix epoch.
    until_s: u64,
    /// Of the policy that knows this caller.
    generation: u64,
}

impl Caller {
    pub(super) fn known(who: Arc<str>, by: By, rights: Arc<Rights>, generation: u64) -> Caller {
        Caller { who, by, rights: Some(rights), until_s: u64::MAX, generation }
    }

    /// Somebody who may do everything.
    pub(super) fn unasked(who: &str, by: By, generation: u64) -> Caller {
        Caller { who: who.into(), by, rights: None, until_s: u64::MAX, generation }
    }

    pub(super) fn until(mut self, until_s: u64) -> Caller {
        self.until_s = until_s;
        self
    }

    /// The same, known by this certificate and only as long as it is valid.
    pub(super) fn by_certificate(mut self, certificate: &ClientCertificate) -> Caller {
        self.until_s = certificate.until_s;
        self.by = By::Certificate(certificate.clone());
        self
    }

    pub(crate) fn who(&self) -> &Arc<str> {
        &self.who
    }

    pub(crate) fn by(&self) -> &By {
        &self.by
    }

    pub(crate) fn until_s(&self) -> u64 {
        self.until_s
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether this may be done to a topic.
    pub(crate) fn may(&self, action: Action, topic: &str) -> Result<(), Denied> {
        match &self.rights {
            Some(rights) if !rights.on(topic).actions.contains(action) => Err(self.denied(action, topic)),
            _ => Ok(()),
        }
    }

    /// Whether this may be done to the broker, or to some topic.
    pub(crate) fn may_anywhere(&self, action: Action) -> Result<(), Denied> {
        match &self.rights {
            Some(rights) if !rights.anywhere(action) => Err(self.denied(action, "")),
            _ => Ok(()),
        }
    }

    /// Whether so much may be published to a topic now; if so, it is charged to the topic's namespace.
    pub(crate) fn may_publish(&self, topic: &str, load: &Load, now: u64) -> Result<Option<Underway>, Denied> {
        let Some(rights) = &self.rights else { return Ok(None) };
        let standing = rights.on(topic);
        if !standing.actions.contains(Action::Publish) {
            return Err(self.denied(Action::Publish, topic));
        }
        match standing.namespace {
            None => Ok(None),
            Some(namespace) => namespace
                .take(load, now)
                .map_err(|what| Denied::Exceeded { namespace: namespace.settings.name.clone(), what }),
        }
    }

    /// Whether a topic may be looked at: whoever may do anything to it may.
    pub(crate) fn may_see(&self, topic: &str) -> Result<(), Denied> {
        let sees = self.rights.as_ref().is_none_or(|rights| !rights.on(topic).actions.is_empty());
        if sees { Ok(()) } else { Err(self.denied(Action::Subscribe, topic)) }
    }

    /// The same for lists: what is looked at here is not remembered.
    pub(crate) fn sees(&self, topic: &str) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.sees(topic))
    }

    /// The namespace a topic is in, if it counts for this caller.
    pub(crate) fn namespace_of(&self, topic: &str) -> Option<Arc<Namespace>> {
        self.rights.as_ref().and_then(|rights| rights.on(topic).namespace)
    }

    fn denied(&self, action: Action, topic: &str) -> Denied {
        // A name that cannot be may be of any length, and would be in answer and audit log.
        let end = topic.len().min(TOPIC_NAME_BYTES_MAX);
        let end = (0..=end).rev().find(|&end| topic.is_char_boundary(end)).unwrap_or(0);
        Denied::MayNot { who: self.who.clone(), action, topic: topic[..end].to_owned() }
    }
}
