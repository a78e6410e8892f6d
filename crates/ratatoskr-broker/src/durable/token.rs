//! [`Token`]: what a member shows to settle a delivery. Opaque to it, and of use only while that very lease lasts.

use std::fmt;

/// Bytes of a token on the wire.
pub const TOKEN_BYTES: usize = 24;

/// Names one lease: of this subscription, of this start of the broker, of this offset, this time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    pub(crate) subscription: u32,
    /// Which start of the broker gave it out: an earlier one's leases are all over.
    pub(crate) start: u32,
    pub(crate) offset: u64,
    pub(crate) lease: u64,
}

impl Token {
    /// The bytes for the wire.
    pub fn to_bytes(self) -> [u8; TOKEN_BYTES] {
        let mut bytes = [0; TOKEN_BYTES];
        bytes[0..4].copy_from_slice(&self.subscription.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lease.to_le_bytes());
        bytes
    }

    /// The number of the subscription it is of; [`Broker::subscription_numbered`](crate::Broker::subscription_numbered) knows more.
    pub fn subscription(self) -> u32 {
        self.subscription
    }

    /// Reads a token; `None` if the length is wrong. Whether it is of use is found out when it is used.
    pub fn parse(bytes: &[u8]) -> Option<Token> {
        let bytes: &[u8; TOKEN_BYTES] = bytes.try_into().ok()?;
        let (words, tail) = bytes.as_chunks::<8>();
        debug_assert!(tail.is_empty());
        let word = |n: usize| u64::from_le_bytes(words[n]);
        Some(Token {
            subscription: word(0) as u32,
            start: (word(0) >> 32) as u32,
            offset: word(1),
            lease: word(2),
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}/{}/{}/{})", self.subscription, self.start, self.offset, self.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_wire() {
        let token = Token { subscription: 7, start: u32::MAX, offset: 1 << 40, lease: u64::MAX - 3 };
        assert_eq!(Token::parse(&token.to_bytes()), Some(token));
        assert_eq!(Token::parse(&token.to_bytes()[1..]), None);
    }
}
