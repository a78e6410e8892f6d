//! Against the vectors of RFC 7515, and against JWTs made here that each break one rule.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::*;

/// RFC 7515, appendix A.2.1: the public half of its RSA key.
const RFC_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
/// The claims of A.2 and A.3: `{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}`.
const RFC_CLAIMS: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
/// A.2.1: the signature by RS256.
const RFC_RS256: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
/// A.3.1: the signature by ES256.
const RFC_ES256: &str =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const NOW_S: u64 = 1_700_000_000;

fn issuer(name: &str, keys: Vec<Key>) -> Issuer {
    Issuer {
        name: name.to_owned(),
        audience: "ratatoskr".to_owned(),
        identity_claim: "sub".to_owned(),
        roles_claim: "roles".to_owned(),
        namespace_claim: None,
        keys,
    }
}

/// A signer whose key is not in any file.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Signer {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Signer(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap())
    }

    fn key(&self, id: &str) -> Value {
        let point = self.0.public_key().as_ref();
        let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "kid": id, "x": text(&point[1..33]), "y": text(&point[33..])})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", text(header), text(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

fn good_claims() -> Value {
    json!({"iss": "https://login", "aud": "ratatoskr", "sub": "ada", "exp": NOW_S + 60, "roles": ["a", "b"]})
}

/// What becomes of claims that differ from good ones in one point.
fn with(name: &str, value: Value) -> Result<Claims, JwtRefusal> {
    let signer = Signer::new();
    let keys = keys_of(&json!({"keys": [signer.key("k")]}).to_string()).unwrap();
    let mut claims = good_claims();
    claims[name] = value;
    issuer("https://login", keys).check(&signer.sign(&json!({"alg": "ES256", "kid": "k"}), &claims), NOW_S)
}

#[test]
fn the_signatures_of_rfc_7515_are_good_and_a_changed_bit_is_not() {
    let rsa = json!({"kty": "RSA", "n": RFC_N, "e": "AQAB"});
    let ec = json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
    });
    for (header, signature, key) in
        [("eyJhbGciOiJSUzI1NiJ9", RFC_RS256, rsa), ("eyJhbGciOiJFUzI1NiJ9", RFC_ES256, ec)]
    {
        let issuer = issuer("joe", keys_of(&json!({ "keys": [key] }).to_string()).unwrap());
        let jwt = format!("{header}.{RFC_CLAIMS}.{signature}");
        // They are for nobody in particular; to find that out, the signature has to be good.
        assert_eq!(issuer.check(&jwt, 1_300_819_000), Err(JwtRefusal::Audience));
        let changed = jwt.replacen(&signature[..4], "AAAA", 1);
        assert_eq!(issuer.check(&changed, 1_300_819_000), Err(JwtRefusal::Signature));
        let changed = jwt.replacen("eyJpc3MiOiJqb2UiL", "eyJpc3MiOiJqb3UiL", 1);
        assert_eq!(issuer.check(&changed, 1_300_819_000), Err(JwtRefusal::Signature));
    }
}

#[test]
fn a_good_one_says_who_with_which_roles_and_until_when() {
    let claims = with("aud", json!(["others", "ratatoskr"])).unwrap();
    assert_eq!((claims.who.as_str(), claims.until_s), ("ada", NOW_S + 60 + LEEWAY_S));
    assert_eq!(claims.roles, ["a", "b"]);
    assert_eq!(with("roles", json!("a b")).unwrap().roles, ["a", "b"]);
    assert_eq!(with("roles", json!(null)).unwrap().roles, [""; 0]);
}

#[test]
fn one_wrong_claim_is_enough() {
    for (name, value, refusal) in [
        ("iss", json!("https://evil"), JwtRefusal::Issuer),
        ("iss", json!(null), JwtRefusal::Issuer),
        ("aud", json!("others"), JwtRefusal::Audience),
        ("aud", json!(["others"]), JwtRefusal::Audience),
        ("exp", json!(NOW_S - 100), JwtRefusal::Expired(100)),
        ("exp", json!("never"), JwtRefusal::Malformed("exp")),
        ("nbf", json!(NOW_S + 100), JwtRefusal::TooEarly(100)),
        ("sub", json!(""), JwtRefusal::Malformed("no claim says who it is")),
        ("sub", json!(7), JwtRefusal::Malformed("no claim says who it is")),
    ] {
        assert_eq!(with(name, value.clone()), Err(refusal), "{name} = {value}");
    }
    assert!(with("exp", json!(NOW_S - LEEWAY_S + 1)).is_ok(), "clocks may differ a little");
}

#[test]
fn without_an_end_or_a_namespace_it_is_refused() {
    let signer = Signer::new();
    let keys = keys_of(&json!({"keys": [signer.key("k")]}).to_string()).unwrap();
    let mut issuer = issuer("https://login", keys);
    let header = json!({"alg": "ES256"});
    let mut endless = good_claims();
    endless.as_object_mut().unwrap().remove("exp");
    assert_eq!(issuer.check(&signer.sign(&header, &endless), NOW_S), Err(JwtRefusal::Malformed("no exp")));
    issuer.namespace_claim = Some("tenant".to_owned());
    assert_eq!(issuer.check(&signer.sign(&header, &good_claims()), NOW_S), Err(JwtRefusal::Namespace));
    let mut claims = good_claims();
    claims["tenant"] = json!("acme");
    let claims = issuer.check(&signer.sign(&header, &claims), NOW_S).unwrap();
    assert_eq!(claims.namespace.as_deref(), Some("acme"));
}

#[test]
fn only_the_key_it_names_may_have_signed_it_and_only_by_that_keys_algorithm() {
    let (ours, other) = (Signer::new(), Signer::new());
    let keys = keys_of(&json!({"keys": [ours.key("ours"), other.key("other")]}).to_string()).unwrap();
    let issuer = issuer("https://login", keys);
    let check = |signer: &Signer, header: Value| issuer.check(&signer.sign(&header, &good_claims()), NOW_S);
    assert!(check(&ours, json!({"alg": "ES256", "kid": "ours"})).is_ok());
    assert!(check(&other, json!({"alg": "ES256"})).is_ok());
    for header in [
        json!({"alg": "ES256", "kid": "other"}),
        json!({"alg": "ES256", "kid": "unknown"}),
        json!({"alg": "none", "kid": "ours"}),
        json!({"alg": "HS256", "kid": "ours"}),
        json!({"kid": "ours"}),
    ] {
        assert_eq!(check(&ours, header.clone()), Err(JwtRefusal::Signature), "{header}");
    }
    assert_eq!(check(&Signer::new(), json!({"alg": "ES256"})), Err(JwtRefusal::Signature));
    let demanding = json!({"alg": "ES256", "crit": ["b64"], "b64": false});
    assert!(matches!(check(&ours, demanding), Err(JwtRefusal::Malformed(_))));
}

#[test]
fn an_unsigned_one_is_refused_whatever_it_says() {
    let issuer =
        issuer("https://login", keys_of(&json!({"keys": [Signer::new().key("k")]}).to_string()).unwrap());
    let text = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", text(json!({"alg": "none"})), text(good_claims()));
    assert_eq!(issuer.check(&unsigned, NOW_S), Err(JwtRefusal::Signature));
    for garbage in ["..", "a.b.c", "!.!.!", &"x.".repeat(5000)] {
        assert!(matches!(issuer.check(garbage, NOW_S), Err(JwtRefusal::Malformed(_))), "{garbage}");
    }
}

#[test]
fn ed25519_is_known_too() {
    let random = SystemRandom::new();
    let pair = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
    let key =
        json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref())});
    let issuer = issuer("https://login", keys_of(&json!({ "keys": [key] }).to_string()).unwrap());
    let text = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", text(json!({"alg": "EdDSA"})), text(good_claims()));
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()).as_ref());
    assert_eq!(issuer.check(&format!("{signed}.{signature}"), NOW_S).unwrap().who, "ada");
}

#[test]
fn a_key_file_says_what_is_wrong_with_it() {
    let errors = [
        ("no json", "it is no JSON"),
        ("{}", "no list `keys`"),
        (r#"{"keys": []}"#, "none of its keys"),
        (r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#, "none of its keys"),
        (r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}"#, "key 0 is no point"),
        (r#"{"keys": [{"kty": "RSA", "e": "AQAB"}]}"#, "key 0 has no n"),
        (r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#, "an RSA key of 24 bits"),
    ];
    for (file, says) in errors {
        let error = keys_of(file).unwrap_err();
        assert!(error.contains(says), "{file}: {error}");
    }
    let for_encryption = json!({"keys": [{"kty": "RSA", "n": RFC_N, "e": "AQAB", "use": "enc"}]});
    assert!(keys_of(&for_encryption.to_string()).unwrap_err().contains("none of its keys"));
}
