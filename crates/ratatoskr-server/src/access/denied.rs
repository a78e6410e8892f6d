//! [`Denied`]: why a call may not be. Each says what to do, and none repeats a secret.

use std::sync::Arc;
use std::time::Duration;

use ratatoskr_broker::{quoted, shortened};

use super::action::Action;
use super::quota::Exceeded;
use crate::limits::STORED_LOOK;

/// Bytes of a certificate's names that are repeated: there may be many, of any length.
const NAMES_BYTES_MAX: usize = 255;

/// Why somebody is not known, may not, or has had enough.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nothing says who calls.
    #[error(
        "the call says not who makes it; send `authorization: Bearer TOKEN` (--token-file, RATATOSKR_TOKEN), or a client certificate"
    )]
    NoCredentials,
    /// An `authorization` header of another form.
    #[error("the authorization header is not of the form `Bearer TOKEN`")]
    NotBearer,
    /// A token that stands for nobody.
    #[error("the token stands for no identity of this broker; `ratatoskr access token NAME` makes one")]
    UnknownToken,
    /// A certificate that is believed, and whose names stand for nobody.
    #[error(
        "the client certificate ({}) stands for no identity of this broker; add it to the policy file",
        shortened(.names, NAMES_BYTES_MAX)
    )]
    UnknownCertificate {
        /// The names in it.
        names: String,
    },
    /// A certificate that was valid when its connection was made.
    #[error("the client certificate expired {expired_s} s ago; connect again with a renewed one")]
    CertificateExpired {
        /// How long it has been expired, seconds.
        expired_s: u64,
    },
    /// A JWT that is not believed.
    #[error("the JWT is not accepted: {0}")]
    Jwt(#[from] JwtRefusal),
    /// Known, but not allowed to.
    #[error("{} may not {} {}; a role that allows it is given in the policy file", quoted(.who), .action.word(), on(*.action, .topic))]
    MayNot {
        /// Who wants to.
        who: Arc<str>,
        /// What.
        action: Action,
        /// On which topic; empty where it is about the broker, or about topics in general.
        topic: String,
    },
    /// Allowed, but too much of it.
    #[error("namespace {namespace:?} {}", exceeded(.what))]
    Exceeded {
        /// The namespace.
        namespace: Arc<str>,
        /// What of.
        what: Exceeded,
    },
}

/// Why a JWT is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtRefusal {
    /// Not three parts, no base64url, no JSON, or without a claim that is needed.
    #[error("it is malformed ({0})")]
    Malformed(&'static str),
    /// The signature fits none of the issuer's keys.
    #[error("none of the keys in the JWKS file made its signature")]
    Signature,
    /// Of another issuer.
    #[error("it is not of the issuer in the policy file")]
    Issuer,
    /// For another audience.
    #[error("it is not for the audience in the policy file")]
    Audience,
    /// Its time is over.
    #[error("it expired {0} s ago; get a new one")]
    Expired(u64),
    /// Its time has not come.
    #[error("it is good only {0} s from now; compare the clocks")]
    TooEarly(u64),
    /// No namespace is named where one must be, or one that there is not.
    #[error("it names no namespace of the policy file")]
    Namespace,
}

/// Kinds of denials, as the metrics count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeniedKind {
    NoCredentials,
    Token,
    Certificate,
    Jwt,
    MayNot(Action),
    Exceeded,
}

impl Denied {
    pub(crate) fn kind(&self) -> DeniedKind {
        match self {
            Denied::NoCredentials => DeniedKind::NoCredentials,
            Denied::NotBearer | Denied::UnknownToken => DeniedKind::Token,
            Denied::UnknownCertificate { .. } | Denied::CertificateExpired { .. } => DeniedKind::Certificate,
            Denied::Jwt(_) => DeniedKind::Jwt,
            Denied::MayNot { action, .. } => DeniedKind::MayNot(*action),
            Denied::Exceeded { .. } => DeniedKind::Exceeded,
        }
    }

    /// After what time the same call may be allowed, if waiting helps.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Denied::Exceeded { what, .. } => what.retry_after(),
            _ => None,
        }
    }
}

fn on(action: Action, topic: &str) -> String {
    match (action, topic) {
        (Action::Admin, _) => "the broker".to_owned(),
        (Action::Publish | Action::Subscribe, "") => "to any topic".to_owned(),
        (Action::Manage, "") => "any topic".to_owned(),
        (Action::Manage, topic) => format!("topic {}", quoted(topic)),
        (_, topic) => format!("to topic {}", quoted(topic)),
    }
}

fn exceeded(what: &Exceeded) -> String {
    match what {
        Exceeded::Messages { per_second, retry_after } => {
            format!(
                "publishes more than {per_second} messages a second; try again in {} ms",
                millis(*retry_after)
            )
        }
        Exceeded::Bytes { per_second, retry_after } => {
            format!(
                "publishes more than {per_second} bytes a second; try again in {} ms",
                millis(*retry_after)
            )
        }
        Exceeded::Topics { topics_max } => {
            format!("has {topics_max} topics, as many as it may; delete one first")
        }
        Exceeded::Stored { bytes_max, bytes } => {
            format!(
                "holds {bytes} of the {bytes_max} bytes it may, and this does not fit; purge topics, shorten their retention, delete some \
                 or raise stored_bytes_max; try again in {} ms",
                millis(STORED_LOOK)
            )
        }
    }
}

/// Rounded up: whoever waits so long has waited enough.
fn millis(time: Duration) -> u128 {
    time.as_nanos().div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_who_what_and_where() {
        let denied = |action, topic: &str| {
            Denied::MayNot { who: "billing".into(), action, topic: topic.to_owned() }.to_string()
        };
        let advice = "; a role that allows it is given in the policy file";
        for (action, topic, says) in [
            (Action::Publish, "orders", "\"billing\" may not publish to topic \"orders\""),
            (Action::Subscribe, "orders", "\"billing\" may not subscribe to topic \"orders\""),
            (Action::Manage, "orders", "\"billing\" may not manage topic \"orders\""),
            (Action::Admin, "", "\"billing\" may not admin the broker"),
        ] {
            assert_eq!(denied(action, topic), format!("{says}{advice}"));
        }
    }

    #[test]
    fn what_a_caller_says_of_itself_is_repeated_in_part() {
        let long = "x".repeat(16 << 10);
        let (who, action): (Arc<str>, _) = (long.as_str().into(), Action::Subscribe);
        for denied in [
            Denied::UnknownCertificate { names: long },
            Denied::MayNot { who, action, topic: "orders".into() },
        ] {
            assert!(denied.to_string().len() < 512, "{denied}");
        }
    }

    #[test]
    fn a_rate_says_when_to_come_back_and_a_count_does_not() {
        let what = Exceeded::Messages { per_second: 10, retry_after: Duration::from_micros(1500) };
        let denied = Denied::Exceeded { namespace: "acme".into(), what };
        assert_eq!(
            denied.to_string(),
            "namespace \"acme\" publishes more than 10 messages a second; try again in 2 ms"
        );
        assert!(denied.retry_after().is_some());
        let denied = Denied::Exceeded { namespace: "acme".into(), what: Exceeded::Topics { topics_max: 3 } };
        assert_eq!(denied.retry_after(), None);
    }
}
