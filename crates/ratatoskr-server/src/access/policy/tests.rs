//! What a policy file may say, what it means, and how its mistakes are told.

use std::io::Write as _;

use super::*;
use crate::access::stock::Load;
use crate::access::token::new_token;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn read(text: &str) -> Result<Policy, PolicyError> {
    let file = file(text);
    Policy::read(file.path(), 0, None)
}

fn error(text: &str) -> String {
    let file = file(text);
    let error = Policy::read(file.path(), 0, None).unwrap_err().to_string();
    error.replace(&file.path().display().to_string(), "FILE")
}

#[test]
fn an_identity_is_known_by_its_token_and_by_its_certificate() {
    let token = new_token();
    let digest = TokenDigest::of(&token).unwrap().to_hex();
    let policy = read(&format!(
        r#"
        [identities.billing]
        roles = ["consumer"]
        token_sha256 = ["{digest}"]
        certificate = ["billing.internal", "CN=billing"]

        [roles.consumer]
        allow = [{{ actions = ["subscribe"], topics = ["orders.*"] }}]
        "#
    ))
    .unwrap();
    let names = |subject: &str| ClientCertificate {
        names: ["spiffe://elsewhere", subject].map(|name| CertificateName::parse(name).unwrap()).into(),
        until_s: 100,
    };
    for caller in [policy.bearer(&token, 0).unwrap(), policy.certificate(&names("CN=billing"), 99).unwrap()] {
        assert_eq!(&**caller.who(), "billing");
        assert!(caller.may(Action::Subscribe, "orders.eu").is_ok());
        for (action, topic) in
            [(Action::Publish, "orders.eu"), (Action::Subscribe, "orders"), (Action::Manage, "orders.eu")]
        {
            let denied = caller.may(action, topic).unwrap_err();
            assert_eq!(denied, Denied::MayNot { who: "billing".into(), action, topic: topic.to_owned() });
        }
    }
    assert_eq!(policy.bearer(&new_token(), 0).unwrap_err(), Denied::UnknownToken);
    assert_eq!(policy.bearer(&digest, 0).unwrap_err(), Denied::UnknownToken, "a digest is no token");
    let denied = policy.certificate(&names("CN=other"), 0).unwrap_err();
    assert_eq!(denied, Denied::UnknownCertificate { names: "uri:spiffe://elsewhere, cn:other".to_owned() });
    let denied = policy.certificate(&names("CN=billing"), 100).unwrap_err();
    assert_eq!(denied, Denied::CertificateExpired { expired_s: 0 });
}

#[test]
fn a_name_of_another_kind_stands_for_nobody() {
    let policy = read(
        r#"
        [identities.billing]
        certificate = ["cn:billing", "dns:ledger.internal"]
        "#,
    )
    .unwrap();
    let certificate = |name: CertificateName| ClientCertificate { names: vec![name], until_s: u64::MAX };
    for known in [CertificateName::CommonName("billing".into()), CertificateName::dns("LEDGER.internal")] {
        assert_eq!(&**policy.certificate(&certificate(known), 0).unwrap().who(), "billing");
    }
    for text in ["billing", "CN=billing", "cn:billing", "ledger.internal", "dns:ledger.internal"] {
        for other in [
            CertificateName::Uri(text.to_owned()),
            CertificateName::Email(text.to_owned()),
            CertificateName::dns(&format!("cn:{text}")),
            CertificateName::CommonName(format!("CN={text}")),
        ] {
            let denied = policy.certificate(&certificate(other.clone()), 0).unwrap_err();
            assert_eq!(denied, Denied::UnknownCertificate { names: other.to_string() });
        }
    }
}

#[test]
fn a_policy_that_others_can_write_is_refused() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    let file = file("");
    std::fs::set_permissions(file.path(), Permissions::from_mode(0o666)).unwrap();
    let error = Policy::read(file.path(), 0, None).unwrap_err().to_string();
    let path = file.path().display();
    assert!(error.starts_with(&format!("policy file {path} is refused: users other than")), "{error}");
    assert!(error.ends_with(&format!("run `chmod go-w {path}`")), "{error}");
    std::fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
    Policy::read(file.path(), 0, None).unwrap();
}

#[test]
fn an_empty_file_allows_nobody_anything() {
    let policy = read("").unwrap();
    assert_eq!(policy.bearer(&new_token(), 0).unwrap_err(), Denied::UnknownToken);
    assert_eq!(policy.bearer("a.b.c", 0).unwrap_err(), Denied::UnknownToken);
}

#[test]
fn mistakes_are_told_with_their_line_and_the_nearest_right_word() {
    let digest = "a".repeat(64);
    let identity = |rest: &str| format!("[identities.x]\ntoken_sha256 = \"{digest}\"\n{rest}\n");
    for (text, says) in [
        ("[identitys.x]\n".to_owned(), "FILE:1: unknown key identitys; did you mean identities?"),
        (identity("role = []"), "FILE:3: unknown key identities.x.role; did you mean roles?"),
        (
            format!("{}[roles.writer]\n", identity("roles = [\"writter\"]")),
            "FILE:3: there is no role \"writter\"; did you mean writer?",
        ),
        (identity("namespace = \"acme\""), "FILE:3: there is no namespace \"acme\"; add [namespaces.acme]"),
        (
            "[roles.r]\nallow = [{ actions = [\"publsh\"], topics = [\"*\"] }]\n".to_owned(),
            "FILE:2: there is no action \"publsh\"; did you mean publish?",
        ),
        (
            "[roles.r]\nallow = [{ actions = [\"publish\"] }]\n".to_owned(),
            "FILE:2: a grant without topics allows nothing; give topics, `[\"*\"]` for all",
        ),
        (
            "[roles.r]\nallow = [{ topics = [\"*\"] }]\n".to_owned(),
            "FILE:2: a grant without actions allows nothing; give actions",
        ),
        (
            "[roles.r]\nallow = [{ actions = [\"publish\"], topics = [\"a b\"] }]\n".to_owned(),
            "FILE:2: topic pattern \"a b\" has ' '; allowed are letters",
        ),
        ("[namespaces.a]\n".to_owned(), "FILE:1: namespaces.a needs prefix"),
        ("[namespaces.a]\nprefix = \"a.*\"\n".to_owned(), "FILE:2: prefix \"a.*\" can begin no topic's name"),
        (
            "[namespaces.a]\nprefix = \"acme\"\n[namespaces.b]\nprefix = \"acme2.\"\n".to_owned(),
            "FILE:4: prefix \"acme\" begins prefix \"acme2.\" of another namespace by chance; let it end in",
        ),
        (
            "[namespaces.a]\nprefix = \"a.\"\ntopics_max = 0\n".to_owned(),
            "FILE:3: namespaces.a.topics_max is no whole number of 1 or more",
        ),
        (
            "[namespaces.a]\nprefix = \"a.\"\npublish_bytes_per_second = \"1 parsec\"\n".to_owned(),
            "FILE:3: namespaces.a.publish_bytes_per_second: unit \"parsec\" is unknown",
        ),
        (
            "[namespaces.a]\nprefix = \"a.\"\nstored_bytes_max = \"10 parsec\"\n".to_owned(),
            "FILE:3: namespaces.a.stored_bytes_max: unit \"parsec\" is unknown",
        ),
        (
            "[namespaces.a]\nprefix = \"a.\"\nstored_bytes_max = 0\n".to_owned(),
            "FILE:3: namespaces.a.stored_bytes_max is no size of 1 byte or more",
        ),
        (
            "[namespaces.a]\nprefix = \"a.\"\nstored_byte_max = 1\n".to_owned(),
            "FILE:3: unknown key namespaces.a.stored_byte_max; did you mean stored_bytes_max?",
        ),
        (
            "[namespaces.a]\nprefix = \"a.\"\n[namespaces.b]\nprefix = \"a.\"\n".to_owned(),
            "FILE:4: namespace \"a\" has this prefix already",
        ),
        ("[identities.x]\nroles = []\n".to_owned(), "FILE:1: identities.x needs token_sha256 or certificate"),
        (
            format!("{}[identities.y]\ntoken_sha256 = \"{digest}\"\n", identity("")),
            "FILE:5: this token stands for two identities",
        ),
        ("[jwt]\nissuer = \"x\"\n".to_owned(), "FILE:1: jwt needs jwks_file"),
        ("identities = 7\n".to_owned(), "FILE:1: identities is no table"),
        ("[identities\n".to_owned(), "FILE:1: "),
    ] {
        let error = error(&text);
        assert!(error.starts_with(says), "{text}\n{error}");
    }
}

#[test]
fn a_token_put_where_its_digest_belongs_is_not_repeated() {
    let token = new_token();
    let error = error(&format!("[identities.x]\ntoken_sha256 = \"{token}\"\n"));
    assert!(error.contains("is no SHA-256 digest"), "{error}");
    assert!(!error.contains(&token), "{error}");
}

#[test]
fn a_missing_jwks_file_is_named() {
    let error = error("[jwt]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"gone.json\"\n");
    assert!(error.contains("gone.json cannot be read"), "{error}");
}

fn load(messages: u64) -> Load {
    let mut load = Load::default();
    (0..messages).for_each(|_| load.add(1, 0, 0));
    load
}

#[test]
fn what_a_namespace_has_used_up_survives_a_new_policy() {
    let text = |rate: u64| {
        format!(
            "[namespaces.a]\nprefix = \"a.\"\npublish_messages_per_second = {rate}\n[namespaces.b]\nprefix = \"b.\"\n"
        )
    };
    let (first, same, other) = (file(&text(1)), file(&text(1)), file(&text(2)));
    let first = Policy::read(first.path(), 0, None).unwrap();
    first.namespaces.named("a").unwrap().take(&load(5), 0).unwrap();
    let same = Policy::read(same.path(), 1, Some(&first)).unwrap();
    assert!(same.namespaces.named("a").unwrap().take(&load(1), 0).is_err());
    let other = Policy::read(other.path(), 2, Some(&same)).unwrap();
    assert!(other.namespaces.named("a").unwrap().take(&load(1), 0).is_ok(), "a new rate begins anew");
}

#[test]
fn what_a_namespace_holds_stays_known_as_long_as_it_is_of_the_same_topics() {
    let text = |prefix: &str, bytes_max: u64| {
        format!("[namespaces.a]\nprefix = \"{prefix}\"\nstored_bytes_max = {bytes_max}\n")
    };
    let after = |before: Option<&Policy>, text: String| Policy::read(file(&text).path(), 0, before).unwrap();
    let first = after(None, text("a.", 1000));
    let stored = |policy: &Policy| policy.namespaces.named("a").unwrap().stored().unwrap();
    let underway = first.namespaces.named("a").unwrap().take(&load(1), 0).unwrap();
    assert!(underway.is_some());
    let (bytes, 1000) = stored(&first) else { panic!() };
    assert!(bytes > 0);
    let raised = after(Some(&first), text("a.", 2000));
    assert_eq!(stored(&raised), (bytes, 2000));
    assert_eq!(stored(&after(Some(&raised), text("b.", 2000))), (0, 2000));
}

#[test]
fn a_policy_is_told_in_a_sentence_with_its_namespaces_and_their_quotas() {
    let text = "[namespaces.a]\nprefix = \"a.\"\ntopics_max = 7\nstored_bytes_max = \"1KiB\"\n[namespaces.b]\nprefix = \"bb.\"\n";
    assert_eq!(
        read(text).unwrap().describe(),
        "0 tokens, 0 certificate names, 0 roles, namespaces b (bb.*), a (a.*, topics_max 7, stored_bytes_max 1024)"
    );
    assert_eq!(read("").unwrap().describe(), "0 tokens, 0 certificate names, 0 roles");
}
