//! Header lists: how we write them, and which of a peer's are well formed (RFC 9113, section 8).

use bytes::BytesMut;

use crate::hpack::{Encoder, Fields};

use super::Role;

/// Writes the fields of one header list. Pseudo fields (`:status`) come first; names are lower case.
pub struct HeadersWriter<'a> {
    pub(super) encoder: &'a mut Encoder,
    pub(super) out: &'a mut BytesMut,
}

impl std::fmt::Debug for HeadersWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadersWriter").finish_non_exhaustive()
    }
}

impl HeadersWriter<'_> {
    /// A field whose value comes again and again: one byte from the second time on.
    pub fn known(&mut self, name: &str, value: &str) -> &mut Self {
        self.encoder.put_known(name.as_bytes(), value.as_bytes(), self.out);
        self
    }

    /// A field whose value differs each time.
    pub fn put(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.encoder.put(name.as_bytes(), value.as_ref(), self.out);
        self
    }
}

/// Which pseudo fields have been seen.
#[derive(Default)]
struct Pseudo {
    method: u8,
    scheme: u8,
    path: u8,
    authority: u8,
    status: u8,
    protocol: u8,
}

/// What is wrong with a header list that begins a request or a response, if anything is.
pub(super) fn check_head(role: Role, fields: &Fields) -> Result<(), &'static str> {
    let mut seen = Pseudo::default();
    let mut is_regular = false;
    for (name, value) in fields.iter() {
        if name.first() != Some(&b':') {
            is_regular = true;
            check_field(name, value)?;
            continue;
        }
        if is_regular {
            return Err("a pseudo header field comes after a regular one");
        }
        check_value(value)?;
        let count = match name {
            b":method" => &mut seen.method,
            b":scheme" => &mut seen.scheme,
            b":path" if !value.is_empty() => &mut seen.path,
            b":authority" => &mut seen.authority,
            b":status" => &mut seen.status,
            b":protocol" => &mut seen.protocol,
            _ => return Err("a pseudo header field is unknown, or empty"),
        };
        *count = count.saturating_add(1);
    }
    let is_right = match role {
        Role::Server => {
            (seen.method, seen.scheme, seen.path) == (1, 1, 1)
                && seen.authority <= 1
                && (seen.status, seen.protocol) == (0, 0)
        }
        Role::Client => {
            seen.status == 1 && (seen.method, seen.scheme, seen.path, seen.authority) == (0, 0, 0, 0)
        }
    };
    if is_right { Ok(()) } else { Err("pseudo header fields are missing, doubled or not for this") }
}

/// The same for trailers.
pub(super) fn check_trailers(fields: &Fields) -> Result<(), &'static str> {
    for (name, value) in fields.iter() {
        if name.first() == Some(&b':') {
            return Err("trailers have a pseudo header field");
        }
        check_field(name, value)?;
    }
    Ok(())
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    let is_name = |byte: &u8| matches!(byte, 0x21..=0x7e) && !byte.is_ascii_uppercase() && *byte != b':';
    if name.is_empty() || !name.iter().all(is_name) {
        return Err("a header field's name is empty, or has a character that names cannot have");
    }
    check_value(value)?;
    match name {
        b"connection" | b"transfer-encoding" | b"upgrade" | b"keep-alive" | b"proxy-connection" => {
            Err("a header field is about the connection, which HTTP/2 does not have")
        }
        b"te" if value != b"trailers" => Err("header field te is other than trailers"),
        _ => Ok(()),
    }
}

fn check_value(value: &[u8]) -> Result<(), &'static str> {
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        return Err("a header field's value has a line end or a zero byte");
    }
    Ok(())
}
