//! The argument of `sub --from`: where to begin to read.

use jiff::Timestamp;
use ratatoskr_client::Start;
use ratatoskr_server::config::parse_duration_ms;

/// What may be given, for help and errors.
pub(crate) const FORMS: &str =
    "latest, earliest, an offset (42 or offset:42), a time (time:2026-01-31T08:00:00Z) or a time ago (@-1h)";

/// Reads the argument as of a moment.
pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Start, String> {
    match text {
        "latest" => return Ok(Start::Latest),
        "earliest" => return Ok(Start::Earliest),
        _ => {}
    }
    if let Some(ago) = text.strip_prefix("@-") {
        let ago_ms = parse_duration_ms(ago).map_err(|error| error.to_string())?;
        let now_ms = now.as_millisecond().unsigned_abs();
        return Ok(Start::Time(now_ms.saturating_sub(ago_ms)));
    }
    if let Some(time) = text.strip_prefix("time:") {
        let time: Timestamp =
            time.parse().map_err(|error| format!("{error}; expected a time such as 2026-01-31T08:00:00Z"))?;
        let time_ms =
            u64::try_from(time.as_millisecond()).map_err(|_| "the time lies before 1970".to_owned())?;
        return Ok(Start::Time(time_ms));
    }
    let offset = text.strip_prefix("offset:").unwrap_or(text);
    offset.parse().map(Start::Offset).map_err(|_| format!("expected {FORMS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        let now = Timestamp::from_millisecond(10_000_000).unwrap();
        for (text, start) in [
            ("latest", Start::Latest),
            ("earliest", Start::Earliest),
            ("42", Start::Offset(42)),
            ("offset:42", Start::Offset(42)),
            ("@-1h", Start::Time(6_400_000)),
            ("@-52w", Start::Time(0)),
            ("time:1970-01-01T00:00:01.5Z", Start::Time(1500)),
            ("time:1970-01-01T02:00:00+01:00", Start::Time(3_600_000)),
        ] {
            assert_eq!(parse(text, now), Ok(start), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_says_what_would_be() {
        let now = Timestamp::UNIX_EPOCH;
        for text in ["", "lately", "-5", "offset:x", "99999999999999999999"] {
            assert!(
                parse(text, now).unwrap_err().starts_with("expected latest, earliest, an offset"),
                "{text}"
            );
        }
        assert!(parse("time:yesterday", now).unwrap_err().contains("expected a time such as"));
        assert!(parse("@-5", now).unwrap_err().contains("allowed are ms, s, m"));
    }
}
