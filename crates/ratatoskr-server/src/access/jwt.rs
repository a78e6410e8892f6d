//! [`Issuer`]: checks JWTs (RFC 7519) against the keys of a JWKS file (RFC 7517).
//!
//! ```text
//!   header.claims.signature ──▶ signature, by the key its `kid` names ──▶ iss, aud, exp, nbf ──▶ Claims
//! ```
//!
//! Invariants:
//! - Claims are looked at only once the signature is good.
//! - The algorithm is the key's. What the header says has to agree; it chooses nothing, so `none` and a public key taken
//!   for a shared secret are not refused here: they cannot be said.
//! - A JWT without an end is refused.
//!
//! RS256, ES256 (P-256) and `EdDSA` (Ed25519); no encrypted tokens, and nothing is fetched.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

use super::denied::JwtRefusal;

/// Bytes of a JWT; longer ones are not looked at.
const JWT_BYTES_MAX: usize = 8192;
/// Keys of a JWKS file: each may have to be tried.
const KEYS_MAX: usize = 32;
/// How far the clocks of issuer and broker may be apart, seconds.
const LEEWAY_S: u64 = 30;

/// Whose JWTs are believed.
#[derive(Debug)]
pub(super) struct Issuer {
    /// The claim `iss` has to be this.
    pub(super) name: String,
    /// The claim `aud` has to be this, or hold it.
    pub(super) audience: String,
    /// The claim that says who it is.
    pub(super) identity_claim: String,
    /// The claim that lists the roles.
    pub(super) roles_claim: String,
    /// The claim that names the namespace; every JWT then needs it.
    pub(super) namespace_claim: Option<String>,
    pub(super) keys: Vec<Key>,
}

/// What a JWT says, once it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) who: String,
    pub(super) roles: Vec<String>,
    pub(super) namespace: Option<String>,
    /// When it ends, seconds since the Unix epoch, the leeway included.
    pub(super) until_s: u64,
}

/// A public key of the issuer.
#[derive(Debug)]
pub(super) struct Key {
    /// `kid`, if it has one.
    id: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point: 4, x, y.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Issuer {
    /// Whether a text looks like a JWT rather than like a token of ours.
    pub(super) fn is_jwt(text: &str) -> bool {
        text.matches('.').count() == 2
    }

    /// Believes a JWT or says why not.
    pub(super) fn check(&self, jwt: &str, now_s: u64) -> Result<Claims, JwtRefusal> {
        if jwt.len() > JWT_BYTES_MAX {
            return Err(JwtRefusal::Malformed("longer than 8192 bytes"));
        }
        let (signed, signature) = jwt.rsplit_once('.').ok_or(JwtRefusal::Malformed("no three parts"))?;
        let (header, claims) = signed.split_once('.').ok_or(JwtRefusal::Malformed("no three parts"))?;
        let header = object(header, "header")?;
        if header.contains_key("crit") {
            return Err(JwtRefusal::Malformed("it demands extensions"));
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtRefusal::Malformed("signature"))?;
        let id = header.get("kid").and_then(Value::as_str);
        let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let is_candidate = |key: &&Key| {
            key.material.algorithm() == algorithm
                && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
        };
        let made_it = |key: &Key| key.material.has_signed(signed.as_bytes(), &signature);
        if !self.keys.iter().filter(is_candidate).any(made_it) {
            return Err(JwtRefusal::Signature);
        }
        self.look_at(&object(claims, "claims")?, now_s)
    }

    fn look_at(&self, claims: &Map<String, Value>, now_s: u64) -> Result<Claims, JwtRefusal> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.name) {
            return Err(JwtRefusal::Issuer);
        }
        let is_for_us = match claims.get("aud") {
            Some(Value::String(audience)) => *audience == self.audience,
            Some(Value::Array(audiences)) => audiences.iter().any(|one| one.as_str() == Some(&self.audience)),
            _ => false,
        };
        if !is_for_us {
            return Err(JwtRefusal::Audience);
        }
        let expires_s = seconds(claims, "exp")?.ok_or(JwtRefusal::Malformed("no exp"))?;
        let until_s = expires_s.saturating_add(LEEWAY_S);
        if now_s >= until_s {
            return Err(JwtRefusal::Expired(now_s - expires_s));
        }
        let from_s = seconds(claims, "nbf")?.unwrap_or(0);
        if now_s.saturating_add(LEEWAY_S) < from_s {
            return Err(JwtRefusal::TooEarly(from_s - now_s));
        }
        let who = claims.get(&self.identity_claim).and_then(Value::as_str).unwrap_or_default();
        if who.is_empty() {
            return Err(JwtRefusal::Malformed("no claim says who it is"));
        }
        let namespace = match &self.namespace_claim {
            None => None,
            Some(claim) => {
                Some(claims.get(claim).and_then(Value::as_str).ok_or(JwtRefusal::Namespace)?.to_owned())
            }
        };
        Ok(Claims { who: who.to_owned(), roles: words(claims.get(&self.roles_claim)), namespace, until_s })
    }
}

impl Material {
    /// `alg` of the JWTs it signs.
    fn algorithm(&self) -> &'static str {
        match self {
            Material::Rsa { .. } => "RS256",
            Material::P256(_) => "ES256",
            Material::Ed25519(_) => "EdDSA",
        }
    }

    fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok(),
        }
    }
}

/// The keys of a JWKS file that can sign JWTs for us; those of other kinds are passed over, as RFC 7517 asks.
pub(super) fn keys_of(jwks: &str) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_str(jwks).map_err(|error| format!("it is no JSON: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`")?;
    if keys.len() > KEYS_MAX {
        return Err(format!("it has {} keys; at most {KEYS_MAX} are allowed", keys.len()));
    }
    let mut known = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        known.extend(key_of(key).map_err(|reason| format!("its key {index} {reason}"))?);
    }
    if known.is_empty() {
        return Err("none of its keys is for RS256, ES256 or EdDSA".to_owned());
    }
    Ok(known)
}

fn key_of(key: &Value) -> Result<Option<Key>, String> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return Ok(None);
    }
    let bytes = |name: &str| {
        let encoded = text(name).ok_or_else(|| format!("has no {name}"))?;
        URL_SAFE_NO_PAD.decode(encoded).map_err(|_| format!("has a {name} that is no base64url"))
    };
    let material = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => {
            // Some issuers write a leading zero, which is not part of the number.
            let number = |name| bytes(name).map(|n| n.into_iter().skip_while(|byte| *byte == 0).collect());
            let (n, e): (Vec<u8>, Vec<u8>) = (number("n")?, number("e")?);
            if n.len() < 256 {
                return Err(format!("is an RSA key of {} bits; at least 2048 are needed", n.len() * 8));
            }
            Material::Rsa { n, e }
        }
        (Some("EC"), Some("P-256")) => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != 32 || y.len() != 32 {
                return Err("is no point of P-256: x and y have 32 bytes each".to_owned());
            }
            Material::P256([&[4], x.as_slice(), y.as_slice()].concat())
        }
        (Some("OKP"), Some("Ed25519")) => Material::Ed25519(bytes("x")?),
        _ => return Ok(None),
    };
    // Keys for other algorithms of the same kind, such as PS256.
    if text("alg").is_some_and(|algorithm| algorithm != material.algorithm()) {
        return Ok(None);
    }
    Ok(Some(Key { id: text("kid").map(str::to_owned), material }))
}

fn object(part: &str, name: &'static str) -> Result<Map<String, Value>, JwtRefusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtRefusal::Malformed(name))?;
    serde_json::from_slice(&bytes).map_err(|_| JwtRefusal::Malformed(name))
}

/// A time claim; RFC 7519 allows fractions.
fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, JwtRefusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(time) => match time.as_f64() {
            Some(time) if time >= 0.0 => Ok(Some(time as u64)),
            _ => Err(JwtRefusal::Malformed(name)),
        },
    }
}

/// A list of words, or one text with spaces between them, as OAuth writes scopes.
fn words(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
