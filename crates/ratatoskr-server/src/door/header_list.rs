//! [`HeaderList`]: the fields of a response, few enough for every client and proxy between.
//!
//! ```text
//!   status or response ─▶ fields ─▶ fits? ─▶ as it is
//!                                    └no──▶ without details ─▶ with a shorter message ─▶ its code alone
//! ```
//!
//! A header list that is longer than its reader takes does not cost the call only: stock clients reset the stream or the connection, and
//! proxies answer with errors of their own. Clients take 8 KiB unless they are told otherwise; whoever takes less says so in its settings
//! (`SETTINGS_MAX_HEADER_LIST_SIZE`). A field counts as RFC 9113, section 6.5.2, says: name, value and 32 bytes.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use tonic::Status;

/// Bytes of a response's header list, and of its trailers.
pub(super) const HEADER_LIST_BYTES_MAX: usize = 8 << 10;
/// What a field costs beside its name and value.
const FIELD_BYTES: usize = 32;
/// What stands where a message was cut: `…`, percent-encoded.
const CUT: &str = "%E2%80%A6";

const MESSAGE: &str = "grpc-message";
const CODE: &str = "grpc-status";
const CONTENT_TYPE: &str = "content-type";

/// See the file's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeaderList(Vec<(HeaderName, Bytes)>);

impl HeaderList {
    /// A response's fields beside `:status`, in at most so many bytes, and never more than [`HEADER_LIST_BYTES_MAX`].
    pub(super) fn of(headers: &HeaderMap, bytes_max: usize) -> HeaderList {
        let copy = |(name, value): (&HeaderName, &http::HeaderValue)| {
            (name.clone(), Bytes::copy_from_slice(value.as_bytes()))
        };
        let bytes_max = bytes_max.min(HEADER_LIST_BYTES_MAX).saturating_sub(field_bytes(":status", b"200"));
        if headers.iter().map(|(name, value)| field_bytes(name.as_str(), value.as_bytes())).sum::<usize>()
            <= bytes_max
        {
            return HeaderList(headers.iter().map(copy).collect());
        }
        let is_kept = |name: &HeaderName| [CODE, MESSAGE, CONTENT_TYPE].contains(&name.as_str());
        let rest: usize = headers
            .iter()
            .filter(|(name, _)| is_kept(name) && *name != MESSAGE)
            .map(|(name, value)| field_bytes(name.as_str(), value.as_bytes()))
            .sum();
        let room = bytes_max.saturating_sub(rest + field_bytes(MESSAGE, b""));
        let fields = headers.iter().filter(|(name, _)| is_kept(name)).filter_map(|(name, value)| {
            if name != MESSAGE {
                return Some(copy((name, value)));
            }
            let message = cut(value.as_bytes(), room)?;
            Some((name.clone(), message))
        });
        HeaderList(fields.collect())
    }

    /// A status as trailers.
    pub(super) fn of_status(status: &Status, bytes_max: usize) -> HeaderList {
        let mut headers = HeaderMap::new();
        if status.add_header(&mut headers).is_err() {
            // Its message or metadata cannot be said in a header; its code can.
            headers = HeaderMap::from_iter([(HeaderName::from_static(CODE), (status.code() as i32).into())]);
        }
        HeaderList::of(&headers, bytes_max)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// As HTTP/2 takes trailers.
    pub(super) fn into_trailers(self) -> Vec<(Bytes, Bytes)> {
        self.0.into_iter().map(|(name, value)| (Bytes::copy_from_slice(name.as_ref()), value)).collect()
    }
}

fn field_bytes(name: &str, value: &[u8]) -> usize {
    name.len() + value.len() + FIELD_BYTES
}

/// The beginning of a percent-encoded message, with a mark that it was cut; nothing if not even that fits.
fn cut(message: &[u8], bytes_max: usize) -> Option<Bytes> {
    if message.len() <= bytes_max {
        return Some(Bytes::copy_from_slice(message));
    }
    let mut end = bytes_max.checked_sub(CUT.len())?;
    // Neither within %XX …
    while end > 0 && message[end.saturating_sub(2)..end].contains(&b'%') {
        end -= 1;
    }
    // … nor within a character: what follows is not one of its later bytes, %80 to %BF.
    while end >= 3 && is_later_byte(&message[end..]) {
        end -= 3;
    }
    Some([&message[..end], CUT.as_bytes()].concat().into())
}

fn is_later_byte(rest: &[u8]) -> bool {
    matches!(rest, [b'%', b'8' | b'9' | b'a' | b'A' | b'b' | b'B', _, ..])
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    const DETAILS: &str = "grpc-status-details-bin";

    fn size(list: &HeaderList) -> usize {
        list.iter().map(|(name, value)| field_bytes(name, value)).sum()
    }

    fn message_of(list: &HeaderList) -> Option<String> {
        let value = list.iter().find(|(name, _)| *name == MESSAGE)?.1;
        let decoded = percent_decoded(value);
        Some(String::from_utf8(decoded).expect("cut at a character"))
    }

    fn percent_decoded(text: &[u8]) -> Vec<u8> {
        let (mut decoded, mut rest) = (Vec::new(), text);
        while let [first, tail @ ..] = rest {
            rest = tail;
            if *first == b'%' {
                let digits = std::str::from_utf8(&tail[..2]).unwrap();
                decoded.push(u8::from_str_radix(digits, 16).expect("a whole escape"));
                rest = &tail[2..];
            } else {
                decoded.push(*first);
            }
        }
        decoded
    }

    fn status(message: &str) -> Status {
        let details = ErrorDetails::with_bad_request_violation("field", message);
        Status::with_error_details(Code::NotFound, message, details)
    }

    #[test]
    fn a_short_status_is_sent_whole() {
        let list = HeaderList::of_status(&status("no such topic"), usize::MAX);
        assert_eq!(message_of(&list).as_deref(), Some("no such topic"));
        assert!(list.iter().any(|(name, _)| name == DETAILS));
    }

    #[test]
    fn a_long_status_loses_its_details_before_its_message_and_is_cut_at_a_character() {
        for unit in ["a", "ü", "\u{301}a", "🐿", "%", " €"] {
            let message = unit.repeat(9000);
            for bytes_max in (0..400).chain([1000, 4096, HEADER_LIST_BYTES_MAX, usize::MAX]) {
                let list = HeaderList::of_status(&status(&message), bytes_max);
                let code = list.iter().find(|(name, _)| *name == CODE).expect("a code, always").1;
                assert_eq!(&code[..], b"5");
                assert!(!list.iter().any(|(name, _)| name == DETAILS));
                assert!(size(&list) <= bytes_max.clamp(field_bytes(CODE, b"5"), HEADER_LIST_BYTES_MAX));
                if let Some(shown) = message_of(&list) {
                    let shown = shown.strip_suffix('…').expect("a mark that it was cut");
                    assert!(message.starts_with(shown), "{unit} in {bytes_max}");
                }
            }
        }
        let medium = "m".repeat(4000);
        let list = HeaderList::of_status(&status(&medium), usize::MAX);
        assert_eq!(message_of(&list), Some(medium), "the message fits, only the details do not");
    }

    #[test]
    fn what_anything_else_adds_to_a_response_goes_first() {
        let mut headers = HeaderMap::new();
        status("no such topic").add_header(&mut headers).unwrap();
        headers.insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
        headers.insert("x-echo", "e".repeat(HEADER_LIST_BYTES_MAX).parse().unwrap());
        let list = HeaderList::of(&headers, usize::MAX);
        let names: Vec<_> = list.iter().map(|(name, _)| name).collect();
        assert!(names.contains(&CONTENT_TYPE) && !names.contains(&"x-echo"), "{names:?}");
        assert_eq!(message_of(&list).as_deref(), Some("no such topic"));
    }
}
