//! `timestamp("…")` and `duration("…")`: texts that become milliseconds when a filter is parsed.

use std::ops::Range;

/// Milliseconds since the Unix epoch of an RFC 3339 time such as `2026-01-02T03:04:05Z`, with at most three digits of
/// a second's fraction and an offset like `+01:00` instead of `Z` if wanted. `None` for any other text: also for
/// days that no month has, leap seconds, and finer fractions, which milliseconds cannot tell.
pub(super) fn timestamp_ms(text: &str) -> Option<i64> {
    let mark = |at: usize, mark: &str| text.get(at..at + 1).filter(|&found| found == mark);
    let (year, month, day) = (digits(text, 0..4)?, digits(text, 5..7)?, digits(text, 8..10)?);
    let (hour, minute, second) = (digits(text, 11..13)?, digits(text, 14..16)?, digits(text, 17..19)?);
    for (at, expected) in [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")] {
        mark(at, expected)?;
    }
    let in_range = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_ms, zone) = fraction(text.get(19..)?)?;
    let minutes = (days_since_epoch(year, month, day) * 24 + hour) * 60 + minute - zone_minutes(zone)?;
    Some((minutes * 60 + second) * 1000 + fraction_ms)
}

/// Milliseconds of a length of time such as `5m`, `1h30m` or `-250ms`: whole numbers with the units h, m, s, ms.
pub(super) fn duration_ms(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut total_ms: i64 = 0;
    loop {
        let number = leading(rest, |c| c.is_ascii_digit());
        let after = &rest[number.len()..];
        let unit = leading(after, |c| c.is_ascii_alphabetic());
        let unit_ms: i64 = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        let part_ms = number.parse::<i64>().ok()?.checked_mul(unit_ms)?;
        total_ms = total_ms.checked_add(part_ms)?;
        rest = &after[unit.len()..];
        if rest.is_empty() {
            return Some(sign * total_ms);
        }
    }
}

fn leading(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !belongs(c)).unwrap_or(text.len())]
}

/// The number that these bytes are the decimal digits of.
fn digits(text: &str, range: Range<usize>) -> Option<i64> {
    let part = text.get(range)?;
    if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    part.parse().ok()
}

/// Splits `.678Z` into 678 and `Z`; no fraction is 0.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(text) = text.strip_prefix('.') else { return Some((0, text)) };
    let part = leading(text, |c| c.is_ascii_digit());
    let unit_ms = match part.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    Some((digits(part, 0..part.len())? * unit_ms, &text[part.len()..]))
}

/// How far a zone is ahead of UTC: `Z` is 0, `+01:30` is 90.
fn zone_minutes(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = match zone.get(0..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = (digits(zone, 1..3)?, digits(zone, 4..6)?);
    let valid = zone.len() == 6 && zone.get(3..4) == Some(":") && hours <= 23 && minutes <= 59;
    valid.then_some(sign * (hours * 60 + minutes))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar, negative before. Years begin in March here, so that the leap day
/// is the last of its year; the algorithm is Howard Hinnant's `days_from_civil`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_milliseconds_since_the_epoch() {
        for (text, expected_ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2026-01-02T03:04:05Z", 1_767_323_045_000),
            ("2026-01-02T03:04:05.6Z", 1_767_323_045_600),
            ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
            ("2026-01-02T04:34:05+01:30", 1_767_323_045_000),
            ("2026-01-01T22:04:05-05:00", 1_767_323_045_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2000-03-01T00:00:00Z", 951_868_800_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(timestamp_ms(text), Some(expected_ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-01-02",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05z",
            "2026-01-02T03:04:05ZZ",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05.6789Z",
            "2026-01-02T03:04:05+0100",
            "2026-01-02T03:04:05+01:00:00",
            "2026-13-02T03:04:05Z",
            "2026-00-02T03:04:05Z",
            "2026-02-29T03:04:05Z",
            "1900-02-29T03:04:05Z",
            "2026-04-31T03:04:05Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T23:59:60Z",
            "+026-01-02T03:04:05Z",
            "2026-01-02T03:04:0５Z",
        ] {
            assert_eq!(timestamp_ms(text), None, "{text}");
        }
    }

    #[test]
    fn durations_add_up_their_parts() {
        for (text, expected_ms) in [
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2s", 2000),
            ("0s", 0),
            ("-250ms", -250),
            ("1m1ms", 60_001),
        ] {
            assert_eq!(duration_ms(text), Some(expected_ms), "{text}");
        }
        for text in ["", "-", "5", "m", "5 m", "1.5h", "1d", "5M", "--5m", "9223372036854775807h", "5mm"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }
}
