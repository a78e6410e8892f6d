//! Tokens: how one is made, and the digest that stands for it in the policy file.
//!
//! A token is `rtk_` and 32 random bytes in base64url. It is shown once, when it is made; kept is its SHA-256. That it cannot be guessed is
//! why a plain digest is enough, so nothing of another form is taken for a token.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

/// What every token begins with, so that people and scanners know one when they see it.
const PREFIX: &str = "rtk_";
/// Random bytes of a token.
const RANDOM_BYTES: usize = 32;
/// Characters of a token: the prefix, and 32 bytes in base64url.
const TOKEN_CHARACTERS: usize = PREFIX.len() + 43;

/// SHA-256 of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of what a client showed; `None` if it cannot be a token of ours.
    pub fn of(token: &str) -> Option<TokenDigest> {
        if token.len() != TOKEN_CHARACTERS || !token.starts_with(PREFIX) {
            return None;
        }
        let hash = digest(&SHA256, token.as_bytes());
        Some(TokenDigest(hash.as_ref().try_into().expect("SHA-256 has 32 bytes")))
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<TokenDigest> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(TokenDigest(bytes))
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes everything");
            text
        })
    }
}

/// A token nobody has seen yet.
pub fn new_token() -> String {
    let mut bytes = [0; RANDOM_BYTES];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has random bytes");
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_known_by_its_digest_and_by_nothing_else() {
        let (one, other) = (new_token(), new_token());
        assert_ne!(one, other);
        let known = TokenDigest::of(&one).unwrap();
        assert_eq!(TokenDigest::parse(&known.to_hex()), Some(known));
        assert_ne!(TokenDigest::of(&other), Some(known));
    }

    #[test]
    fn what_somebody_made_up_is_no_token() {
        for text in ["", "secret", "rtk_short", &"x".repeat(TOKEN_CHARACTERS)] {
            assert_eq!(TokenDigest::of(text), None, "{text}");
        }
        for text in ["", "abc", &"g".repeat(64), &"a".repeat(65)] {
            assert_eq!(TokenDigest::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_digest_is_that_of_any_other_sha_256() {
        // printf rtk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA | sha256sum
        let token = format!("rtk_{}", "A".repeat(43));
        let expected = "32baa0de3b48e59882905279993135e1ff0d546a27c4b20d547833a31055c4ab";
        assert_eq!(TokenDigest::of(&token).unwrap().to_hex(), expected);
    }
}
