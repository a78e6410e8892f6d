//! [`Head`]: what the door wants to know of a call's header list, read in one go.

use ratatoskr_http2::hpack::Fields;

use crate::origin::Origin;

/// The fields of a call that decide whether it is one, whose, and which way it goes. Of a field that comes twice the first counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head<'a> {
    pub(super) method: Option<&'a [u8]>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) content_type: Option<&'a [u8]>,
    pub(super) authorization: Option<&'a [u8]>,
    /// Its messages may be compressed.
    pub(super) is_compressed: bool,
    pub(super) origin: Origin<'a>,
}

impl<'a> Head<'a> {
    pub(super) fn of(fields: &'a Fields) -> Head<'a> {
        let (mut head, mut host) = (Head::default(), None);
        for (name, value) in fields.iter() {
            let place = match name {
                b":method" => &mut head.method,
                b":path" => &mut head.path,
                b":authority" => &mut head.origin.host,
                b"host" => &mut host,
                b"content-type" => &mut head.content_type,
                b"authorization" => &mut head.authorization,
                b"origin" => &mut head.origin.of_page,
                b"sec-fetch-site" => &mut head.origin.fetch_site,
                b"grpc-encoding" => {
                    head.is_compressed |= value != b"identity";
                    continue;
                }
                _ => continue,
            };
            place.get_or_insert(value);
        }
        head.origin.host = head.origin.host.or(host);
        head
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::BytesMut;
    use ratatoskr_http2::hpack::{Decoder, Encoder};

    use super::*;

    /// A header list as it comes over the wire.
    pub(in crate::door) fn received(fields: &[(&str, &str)]) -> Fields {
        let (mut encoder, mut block) = (Encoder::new(), BytesMut::new());
        encoder.begin(&mut block);
        for (name, value) in fields {
            encoder.put(name.as_bytes(), value.as_bytes(), &mut block);
        }
        let mut decoded = Fields::new(1 << 14);
        Decoder::new(4096).decode(&block, &mut decoded).unwrap();
        decoded
    }

    #[test]
    fn of_a_field_that_comes_twice_the_first_counts_and_the_authority_before_the_host() {
        let fields = received(&[
            ("host", "other"),
            (":authority", "broker"),
            ("authorization", "Bearer a"),
            ("authorization", "Bearer b"),
            ("grpc-encoding", "gzip"),
            ("grpc-encoding", "identity"),
        ]);
        let head = Head::of(&fields);
        assert_eq!(head.authorization, Some(&b"Bearer a"[..]));
        assert_eq!(head.origin.host, Some(&b"broker"[..]));
        assert!(head.is_compressed && head.path.is_none());
    }
}
