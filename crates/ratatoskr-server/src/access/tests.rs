//! Visitors and their gates: who is remembered, for how long; and what a decision costs.

use std::io::Write as _;
use std::time::Instant;

use super::*;

const PEER: &str = "127.0.0.1:7";

fn policy(token: &str, roles: &str) -> String {
    let digest = TokenDigest::of(token).unwrap().to_hex();
    format!(
        "[identities.billing]\nroles = [{roles}]\ntoken_sha256 = \"{digest}\"\n[roles.writer]\n\
         allow = [{{ actions = [\"publish\"], topics = [\"orders.*\", \"log.*\", \"*.dlq\", \"payments\"] }}]\n\
         [namespaces.eu]\nprefix = \"orders.eu.\"\npublish_messages_per_second = 1000000000\n"
    )
}

/// An access by a policy file, and the file.
fn access(token: &str) -> (Arc<Access>, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(policy(token, "\"writer\"").as_bytes()).unwrap();
    let rule = AccessRule::Policy(file.path().to_owned());
    (Arc::new(Access::new(&rule, Audit::to_log()).unwrap()), file)
}

#[test]
fn a_visitor_is_remembered_until_the_policy_changes() {
    let token = new_token();
    let (access, file) = access(&token);
    let visitor = Arc::new(Visitor::new(access.clone(), Peer::at(PEER.parse().unwrap())));
    let header = format!("Bearer {token}");
    let shown = Some(header.as_bytes());
    let first = visitor.caller(shown).unwrap();
    assert!(Arc::ptr_eq(&first, &visitor.caller(shown).unwrap()));
    // Others on the same connection are others.
    let other = format!("Bearer {}", new_token());
    assert_eq!(visitor.caller(Some(other.as_bytes())).unwrap_err(), Denied::UnknownToken);
    assert_eq!(visitor.caller(None).unwrap_err(), Denied::NoCredentials);

    let mut gate = Gate::enter(&visitor, shown, "Publish").unwrap();
    assert!(gate.caller().may(Action::Publish, "orders.us").is_ok());
    std::fs::write(file.path(), policy(&token, "")).unwrap();
    access.reload(|_| {}).unwrap();
    gate.renew().unwrap();
    assert!(gate.caller().may(Action::Publish, "orders.us").is_err());
    assert!(!Arc::ptr_eq(&first, &visitor.caller(shown).unwrap()));

    std::fs::write(file.path(), "").unwrap();
    access.reload(|_| {}).unwrap();
    assert_eq!(gate.renew().unwrap_err().code(), tonic::Code::Unauthenticated);
    assert_eq!(visitor.caller(shown).unwrap_err(), Denied::UnknownToken);
}

/// A connection whose certificate expires so many seconds from now.
fn with_certificate(access: &Arc<Access>, seconds: u64) -> Arc<Visitor> {
    let names = vec![CertificateName::CommonName("billing".to_owned())];
    let certificate = ClientCertificate { names, until_s: now_s() + seconds };
    let peer = Peer { address: PEER.parse().unwrap(), certificate: Some(certificate) };
    Arc::new(Visitor::new(access.clone(), peer))
}

#[tokio::test]
async fn an_expired_certificate_ends_what_its_open_connection_may() {
    let text = "[identities.billing]\ncertificate = \"cn:billing\"\nroles = [\"reader\"]\n\
                [roles.reader]\nallow = [{ actions = [\"subscribe\"], topics = [\"*\"] }]\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    for rule in [AccessRule::Policy(file.path().to_owned()), AccessRule::Certificates] {
        let access = Arc::new(Access::new(&rule, Audit::to_log()).unwrap());
        let visitor = with_certificate(&access, 2);
        let gate = Gate::enter(&visitor, None, "Subscribe").unwrap();
        gate.may(Action::Subscribe, "orders").unwrap();
        let revoked = gate.clone().revoked(Action::Subscribe, "orders".to_owned());
        let status = tokio::time::timeout(std::time::Duration::from_secs(60), revoked).await.unwrap();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        assert!(status.message().starts_with("the client certificate expired "), "{status}");
        assert!(matches!(visitor.caller(None), Err(Denied::CertificateExpired { .. })));
        assert!(Gate::enter(&with_certificate(&access, 60), None, "Subscribe").is_ok());
    }
}

#[test]
fn a_connection_remembers_a_few_callers_and_no_more() {
    let (access, _file) = access(&new_token());
    let visitor = Visitor::new(access, Peer::at(PEER.parse().unwrap()));
    for number in 0..1000 {
        visitor.caller(Some(format!("Bearer {number}").as_bytes())).unwrap_err();
    }
    assert_eq!(visitor.known_count(), 0, "strangers are not remembered");
    let open = Arc::new(Access::new(&AccessRule::Open, Audit::to_log()).unwrap());
    let visitor = Visitor::new(open, Peer::at(PEER.parse().unwrap()));
    for number in 0..1000 {
        visitor.caller(Some(format!("Bearer {number}").as_bytes())).unwrap();
        assert!(visitor.known_count() <= 8);
    }
    let token = new_token();
    let (access, _file) = self::access(&token);
    let visitor = Visitor::new(access, Peer::at(PEER.parse().unwrap()));
    for spaces in 0..100 {
        visitor.caller(Some(format!("Bearer {}{token}", " ".repeat(spaces)).as_bytes())).unwrap();
        assert_eq!(visitor.known_count(), 1, "the same caller, however the header is padded");
    }
}

/// What a publish pays where callers are asked. Prints nanoseconds; means something in an optimised build only.
#[test]
#[ignore = "a measurement: cargo test --release -p ratatoskr-server --lib -- --ignored --nocapture cost"]
fn the_cost_of_a_decision() {
    let token = new_token();
    let (access, _file) = access(&token);
    let visitor = Arc::new(Visitor::new(access.clone(), Peer::at(PEER.parse().unwrap())));
    let header = format!("Bearer {token}");
    let nanoseconds = |what: &str, mut decide: Box<dyn FnMut() + '_>| {
        let rounds = 1_000_000_u32;
        decide();
        let started = Instant::now();
        (0..rounds).for_each(|_| decide());
        let each = started.elapsed() / rounds;
        println!("{what}: {each:?}");
        each
    };
    let caller = visitor.caller(Some(header.as_bytes())).unwrap();
    let mut load = Load::default();
    load.add(256, 0, 0);
    let enter = nanoseconds(
        "enter, caller known",
        Box::new(|| {
            std::hint::black_box(Gate::enter(&visitor, Some(header.as_bytes()), "Publish").unwrap());
        }),
    );
    let may = nanoseconds(
        "may publish, topic known",
        Box::new(|| {
            caller.may_publish("orders.us", &load, 0).unwrap();
        }),
    );
    nanoseconds(
        "may publish, topic known, with a rate",
        Box::new(|| {
            caller.may_publish("orders.eu.one", &load, access.now()).unwrap();
        }),
    );
    nanoseconds(
        "authenticate, token not known to the connection",
        Box::new(|| {
            std::hint::black_box(access.authenticate(Some(header.as_bytes()), visitor.peer()).unwrap());
        }),
    );
    // Loose: other work shares the machine.
    assert!(enter.as_nanos() + may.as_nanos() < 2000, "{enter:?} and {may:?}");
}
