//! JWTs at the real door: by RSA and by elliptic curve, their end, and new keys while it runs.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ratatoskr_proto as wire;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use serde_json::{Value, json};
use support::policy::{PolicyFile, showing, until};
use support::{message, next};
use tonic::Code;

/// The RSA key of RFC 7515, appendix A.2: everybody knows it, so it is good for nothing but this.
const RFC_KEY: [(&str, &str); 7] = [
    (
        "n",
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    ),
    (
        "d",
        "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
    ),
    (
        "p",
        "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    ),
    (
        "q",
        "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
    ),
    (
        "dp",
        "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
    ),
    (
        "dq",
        "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
    ),
    (
        "qi",
        "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
    ),
];

const POLICY: &str = r#"
[jwt]
issuer = "https://login"
audience = "ratatoskr"
jwks_file = "jwks.json"
namespace_claim = "tenant"
[roles.reader]
allow = [{ actions = ["subscribe", "publish"], topics = ["*"] }]
[namespaces.acme]
prefix = "acme."
"#;

/// Nothing of JWTs.
const ROLES_ONLY: &str = r#"
[roles.reader]
allow = [{ actions = ["subscribe", "publish"], topics = ["*"] }]
"#;

/// Makes JWTs.
enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Signer {
    fn rsa() -> Signer {
        let part = |name: &str| {
            let (_, text) = RFC_KEY.iter().find(|(known, _)| *known == name).unwrap();
            URL_SAFE_NO_PAD.decode(text).unwrap()
        };
        let public_key = PublicKeyComponents { n: part("n"), e: vec![1, 0, 1] };
        let (d, p, q) = (part("d"), part("p"), part("q"));
        let (d_p, d_q, q_inv) = (part("dp"), part("dq"), part("qi"));
        let components = KeyPairComponents { public_key, d, p, q, dP: d_p, dQ: d_q, qInv: q_inv };
        Signer::Rsa(RsaKeyPair::from_components(&components).unwrap())
    }

    fn ec() -> Signer {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Signer::Ec(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap())
    }

    fn key(&self) -> Value {
        match self {
            Signer::Rsa(_) => {
                json!({"kty": "RSA", "kid": "rsa", "use": "sig", "n": RFC_KEY[0].1, "e": "AQAB"})
            }
            Signer::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": y})
            }
        }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = match self {
            Signer::Rsa(_) => json!({"alg": "RS256", "kid": "rsa"}),
            Signer::Ec(_) => json!({"alg": "ES256", "kid": "ec"}),
        };
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", text(&header), text(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Signer::Ec(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn write_keys(policy: &PolicyFile, signers: &[&Signer]) {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.key()).collect();
    let new = policy.beside("jwks.json.new");
    std::fs::write(&new, json!({ "keys": keys }).to_string()).unwrap();
    std::fs::rename(&new, policy.beside("jwks.json")).unwrap();
}

/// Claims that are good for so many seconds more; the 30 s by which clocks may differ come on top.
fn claims(seconds: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let exp = now.saturating_add_signed(seconds);
    json!({"iss": "https://login", "aud": "ratatoskr", "sub": "ada", "roles": ["reader", "unknown"], "tenant": "acme", "exp": exp})
}

#[tokio::test]
async fn a_jwt_by_either_kind_of_key_is_an_identity_with_roles_and_a_namespace() {
    let policy = PolicyFile::new(&[], POLICY);
    let (rsa, ec) = (Signer::rsa(), Signer::ec());
    write_keys(&policy, &[&rsa, &ec]);
    let fixture = policy.serve();
    for signer in [&rsa, &ec] {
        let mut client = showing(&fixture, Some(&signer.sign(&claims(60)))).await;
        assert!(client.publish(message("acme.orders", "one")).await.unwrap().into_inner().success);
        let status = client.publish(message("orders", "one")).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().starts_with("\"ada\" may not publish"), "{status}");
        let delete = wire::DeleteTopicRequest { name: "acme.orders".into() };
        assert_eq!(client.delete_topic(delete).await.unwrap_err().code(), Code::PermissionDenied);
    }
    let mut other_tenant = claims(60);
    other_tenant["tenant"] = json!("nobody");
    for (jwt, says) in [
        (rsa.sign(&claims(-100)), "it expired 10"),
        (Signer::ec().sign(&claims(60)), "none of the keys"),
        (rsa.sign(&other_tenant), "it names no namespace"),
    ] {
        let status =
            showing(&fixture, Some(&jwt)).await.publish(message("acme.orders", "x")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(says), "{status}");
        assert!(!status.message().contains(&jwt[..20]), "{status}");
    }
}

#[tokio::test]
async fn when_a_jwt_runs_out_its_streams_end() {
    let policy = PolicyFile::new(&[], POLICY);
    let signer = Signer::ec();
    write_keys(&policy, &[&signer]);
    let fixture = policy.serve();
    // Over already, but for the clocks that may differ: it has two seconds left.
    let jwt = signer.sign(&claims(-28));
    let mut client = showing(&fixture, Some(&jwt)).await;
    client.publish(message("acme.orders", "one")).await.unwrap();
    let request = wire::SubscribeRequest { topic: "acme.orders".into(), ..Default::default() };
    let mut following = client.subscribe(request).await.unwrap().into_inner();
    let status = next(&mut following).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(status.message().contains("it expired"), "{status}");
    let status = client.publish(message("acme.orders", "two")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
}

#[tokio::test]
async fn new_keys_are_taken_over_and_old_ones_let_nobody_in_any_more() {
    let policy = PolicyFile::new(&[], POLICY);
    let (old, new) = (Signer::rsa(), Signer::ec());
    write_keys(&policy, &[&old]);
    let fixture = policy.serve();
    let (mut by_old, mut by_new) = (
        showing(&fixture, Some(&old.sign(&claims(600)))).await,
        showing(&fixture, Some(&new.sign(&claims(600)))).await,
    );
    by_old.publish(message("acme.orders", "one")).await.unwrap();
    assert_eq!(by_new.publish(message("acme.orders", "x")).await.unwrap_err().code(), Code::Unauthenticated);
    write_keys(&policy, &[&new]);
    until("the new key is good", async || by_new.publish(message("acme.orders", "x")).await.is_ok()).await;
    assert_eq!(by_old.publish(message("acme.orders", "x")).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_policy_that_names_a_file_which_comes_later_is_in_force_once_that_is_there() {
    let policy = PolicyFile::new(&[("one", "roles = [\"reader\"]")], ROLES_ONLY);
    let fixture = policy.serve();
    let mut client = policy.client(&fixture, "one").await;
    client.publish(message("acme.orders", "one")).await.unwrap();
    // Nobody has a token now, and JWTs are checked by keys that are not there yet.
    policy.write(&[], POLICY);
    let changed = std::fs::metadata(policy.path()).unwrap().modified().unwrap();
    // A file that has just changed is read again anyway.
    until("the policy file is no longer young", async || {
        changed.elapsed().is_ok_and(|age| age > std::time::Duration::from_secs(4))
    })
    .await;
    client.publish(message("acme.orders", "what was in force stays so")).await.unwrap();
    write_keys(&policy, &[&Signer::ec()]);
    until("the policy is in force", async || {
        client
            .publish(message("acme.orders", "x"))
            .await
            .is_err_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;
}
