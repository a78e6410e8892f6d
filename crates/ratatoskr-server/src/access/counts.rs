//! [`Counts`]: how often somebody was not known, not allowed, or had had enough.

use super::action::Action;
use super::denied::DeniedKind;
use crate::traffic::Count;

/// Counts since the server started. Their labels are words of ours, so there are never more of them.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    no_credentials: Count,
    token: Count,
    certificate: Count,
    jwt: Count,
    denied: [Count; Action::ALL.len()],
    /// Publishes and topics that a namespace's quotas refused.
    pub(crate) exceeded: Count,
    /// Times a changed file could not be taken over.
    pub(crate) reloads_failed: Count,
}

impl Counts {
    pub(crate) fn count(&self, kind: DeniedKind) {
        match kind {
            DeniedKind::NoCredentials => self.no_credentials.increment(),
            DeniedKind::Token => self.token.increment(),
            DeniedKind::Certificate => self.certificate.increment(),
            DeniedKind::Jwt => self.jwt.increment(),
            DeniedKind::MayNot(action) => self.denied[action as usize].increment(),
            DeniedKind::Exceeded => self.exceeded.increment(),
        }
    }

    /// Calls by nobody who is known, by what they showed.
    pub(crate) fn unknown(&self) -> [(&'static str, u64); 4] {
        [
            ("none", self.no_credentials.get()),
            ("token", self.token.get()),
            ("certificate", self.certificate.get()),
            ("jwt", self.jwt.get()),
        ]
    }

    /// Calls by somebody who may not, by action.
    pub(crate) fn denied(&self) -> [(&'static str, u64); Action::ALL.len()] {
        Action::ALL.map(|action| (action.word(), self.denied[action as usize].get()))
    }
}
