//! Amounts as people write them: `64MiB`, `100MB`, `7d`, `30s`, `1_000_000`.
//!
//! A size without a unit is in bytes; a duration has to have one, since seconds and milliseconds
//! are equally likely guesses. `MB` is 10⁶ bytes and `MiB` 2²⁰, as the standards say.

/// Why a text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// It does not begin with a whole number.
    #[error("expected {expected}")]
    NoNumber {
        /// What would have been right, with an example.
        expected: &'static str,
    },
    /// The unit is unknown or missing.
    #[error("unit {unit:?} is unknown; allowed are {allowed}")]
    Unit {
        /// What stood after the number.
        unit: String,
        /// The units there are.
        allowed: &'static str,
    },
    /// The number is larger than 64 bits hold.
    #[error("the number is too large; at most 18446744073709551615 is allowed")]
    TooLarge,
}

/// A unit's name in lower case, and how many base units it has.
type Unit = (&'static str, u64);

const SIZE_UNITS: &[Unit] = &[
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

const DURATION_UNITS: &[Unit] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// Reads a size in bytes: `104857600`, `100MiB`, `100 MB`, `2g`.
pub fn parse_bytes(text: &str) -> Result<u64, AmountError> {
    let (number, unit) = split(text, "a size such as 64MiB, 100MB or 1048576")?;
    let allowed = "B, KB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (powers of 1024)";
    scaled(&number, unit, SIZE_UNITS, allowed)
}

/// Reads a duration in milliseconds: `7d`, `12h`, `30s`, `250ms`.
pub fn parse_duration_ms(text: &str) -> Result<u64, AmountError> {
    let (number, unit) = split(text, "a duration such as 7d, 12h, 30s or 250ms")?;
    scaled(&number, unit, DURATION_UNITS, "ms, s, m, h, d and w")
}

/// Reads a whole number; `_` may separate its digits.
pub fn parse_number(text: &str) -> Result<u64, AmountError> {
    let (number, unit) = split(text, "a whole number such as 1000")?;
    scaled(&number, unit, &[("", 1)], "none: it counts things")
}

/// Digits without their separators, and what follows them.
fn split<'a>(text: &'a str, expected: &'static str) -> Result<(String, &'a str), AmountError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let digits = text[..end].replace('_', "");
    if digits.is_empty() {
        return Err(AmountError::NoNumber { expected });
    }
    Ok((digits, text[end..].trim()))
}

fn scaled(digits: &str, unit: &str, units: &[Unit], allowed: &'static str) -> Result<u64, AmountError> {
    let wanted = unit.to_ascii_lowercase();
    let Some(&(_, factor)) = units.iter().find(|(name, _)| *name == wanted) else {
        return Err(AmountError::Unit { unit: unit.to_owned(), allowed });
    };
    let number: u64 = digits.parse().map_err(|_| AmountError::TooLarge)?;
    number.checked_mul(factor).ok_or(AmountError::TooLarge)
}

/// A size in the largest unit that shows it exactly: 104857600 is `100MiB`.
pub fn bytes_in_words(bytes: u64) -> String {
    in_words(bytes, &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)], "")
}

/// A duration in the largest unit that shows it exactly: 604800000 is `7d`.
pub fn duration_in_words(duration_ms: u64) -> String {
    in_words(duration_ms, &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)], "ms")
}

fn in_words(amount: u64, units: &[Unit], smallest: &str) -> String {
    for &(name, factor) in units {
        if amount >= factor && amount.is_multiple_of(factor) {
            return format!("{}{name}", amount / factor);
        }
    }
    format!("{amount}{smallest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_systems() {
        let cases = [
            ("0", 0),
            ("1048576", 1 << 20),
            ("1_000_000", 1_000_000),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("100MB", 100_000_000),
            ("2g", 2 << 30),
            ("5 B", 5),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, duration_ms) in
            [("7d", 604_800_000), ("30s", 30_000), ("250ms", 250), ("2w", 1_209_600_000)]
        {
            assert_eq!(parse_duration_ms(text), Ok(duration_ms), "{text}");
        }
        let error = parse_duration_ms("30").unwrap_err();
        assert_eq!(error.to_string(), "unit \"\" is unknown; allowed are ms, s, m, h, d and w");
    }

    #[test]
    fn what_is_no_amount_says_what_would_be() {
        let error = parse_bytes("lots").unwrap_err();
        assert_eq!(error.to_string(), "expected a size such as 64MiB, 100MB or 1048576");
        assert!(matches!(parse_bytes("5 parsecs"), Err(AmountError::Unit { .. })));
        assert_eq!(parse_bytes("99999999999999999999"), Err(AmountError::TooLarge));
        assert_eq!(parse_bytes("99999999999 TiB"), Err(AmountError::TooLarge));
        assert!(parse_number("-1").is_err());
        assert!(parse_number("1.5").is_err());
    }

    #[test]
    fn amounts_in_words_read_back_to_themselves() {
        for bytes in [0, 1, 1023, 1024, 1 << 20, 104_857_600, 3 << 30, u64::MAX] {
            assert_eq!(parse_bytes(&bytes_in_words(bytes)), Ok(bytes));
        }
        for duration_ms in [0, 1, 999, 1000, 90_000, 604_800_000] {
            assert_eq!(parse_duration_ms(&duration_in_words(duration_ms)), Ok(duration_ms));
        }
    }
}
