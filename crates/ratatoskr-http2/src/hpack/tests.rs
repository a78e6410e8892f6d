//! What the decoder refuses, what it keeps in step whatever comes, and how long it takes.
//!
//! ```text
//!  Encoder ──▶ block ──▶ Decoder       the same fields, the same table at both ends
//!  noise   ──▶ block ──▶ Decoder       an error or fields, never more memory than the limits
//! ```
//!
//! The examples of the RFC stand in `rfc_examples`, the parts with their files.

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use proptest::prelude::*;

use super::{Decoder, Encoder, Fields, HpackError, huffman};

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, HpackError> {
    let mut fields = Fields::new(65_536);
    decoder.decode(block, &mut fields)?;
    assert!(!fields.is_oversized());
    Ok(texts(&fields))
}

fn texts(fields: &Fields) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn error(block: &[u8]) -> HpackError {
    decode(&mut Decoder::new(4096), block).expect_err("the block is invalid")
}

#[test]
fn an_empty_block_is_an_empty_list() {
    let mut fields = Fields::new(100);
    assert_eq!(Decoder::new(4096).decode(&[], &mut fields), Ok(()));
    assert!(fields.is_empty() && !fields.is_oversized());
}

#[test]
fn a_block_replaces_the_fields_of_the_one_before() {
    let mut decoder = Decoder::new(4096);
    let mut fields = Fields::new(100);
    decoder.decode(&[0x82, 0x84], &mut fields).unwrap();
    decoder.decode(&[0x83], &mut fields).unwrap();
    assert_eq!((texts(&fields), fields.len()), (vec![(":method".into(), "POST".into())], 1));
}

#[test]
fn an_index_in_neither_table_is_refused() {
    assert_eq!(error(&[0x80]), HpackError::BadIndex { index: 0 });
    assert_eq!(error(&[0xbe]), HpackError::BadIndex { index: 62 });
    assert_eq!(error(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x0e]), HpackError::BadIndex { index: 0xf000_007e });
    assert_eq!(error(b"\x40\x01a\x01b\xbf"), HpackError::BadIndex { index: 63 });
    assert_eq!(error(b"\x7e\x01b"), HpackError::BadIndex { index: 62 });
    assert_eq!(error(b"\x0f\x2f\x01b"), HpackError::BadIndex { index: 62 });
}

#[test]
fn a_block_that_ends_inside_a_field_is_truncated_wherever_it_ends() {
    let mut block = b"\x40\x03abc\x85".to_vec();
    block.extend(huffman::tests::encode(b"value"));
    block[5] = 0x80 | (block.len() - 6) as u8;
    assert_eq!(decode(&mut Decoder::new(4096), &block), Ok(vec![("abc".into(), "value".into())]));
    for end in 1..block.len() {
        assert_eq!(error(&block[..end]), HpackError::Truncated, "after {end} bytes");
    }
    assert_eq!(error(&[0xff]), HpackError::Truncated);
    assert_eq!(error(&[0x3f]), HpackError::Truncated);
}

#[test]
fn an_integer_above_32_bits_is_refused_in_every_place() {
    for first in [0xff, 0x7f, 0x3f, 0x1f, 0x0f] {
        let block = [first, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(error(&block), HpackError::IntegerOverflow, "{first:#x}");
    }
    assert_eq!(error(&[0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f]), HpackError::IntegerOverflow);
}

#[test]
fn a_huffman_string_that_is_badly_padded_is_refused_as_name_and_as_value() {
    assert_eq!(error(b"\x00\x81\xff\x01v"), HpackError::BadHuffman);
    assert_eq!(error(b"\x00\x01n\x81\x18"), HpackError::BadHuffman);
    assert_eq!(error(b"\x00\x01n\x84\xff\xff\xff\xff"), HpackError::BadHuffman);
}

#[test]
fn a_table_size_above_ours_is_refused_and_one_up_to_it_is_not() {
    // 4096 is a full prefix (31) and 4065 behind it.
    assert_eq!(decode(&mut Decoder::new(4096), &[0x3f, 0xe1, 0x1f]), Ok(vec![]));
    let over = HpackError::TableSizeOverLimit { bytes: 4097, bytes_max: 4096 };
    assert_eq!(error(&[0x3f, 0xe2, 0x1f]), over);
    assert_eq!(decode(&mut Decoder::new(4097), &[0x3f, 0xe2, 0x1f]), Ok(vec![]));
    assert_eq!(decode(&mut Decoder::new(0), &[0x3f, 0xe1, 0x1f]), Ok(vec![]));
}

#[test]
fn a_table_size_update_after_a_field_is_refused_and_two_before_it_are_not() {
    assert_eq!(error(&[0x82, 0x20]), HpackError::TableSizeUpdateNotFirst);
    let block = [0x20, 0x3f, 0xe1, 0x1f, 0x82];
    assert_eq!(decode(&mut Decoder::new(4096), &block), Ok(vec![(":method".into(), "GET".into())]));
}

#[test]
fn a_table_size_of_zero_forgets_what_was_inserted() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, b"\x40\x01a\x01b").unwrap();
    assert_eq!(decode(&mut decoder, &[0xbe]), Ok(vec![("a".into(), "b".into())]));
    assert_eq!(decode(&mut decoder, &[0x20, 0xbe]), Err(HpackError::BadIndex { index: 62 }));
}

#[test]
fn an_indexed_name_survives_the_eviction_of_its_own_entry() {
    let mut decoder = Decoder::new(4096);
    // The table is set to 40 bytes: one entry, which the next one evicts while it takes its name.
    decode(&mut decoder, b"\x3f\x09\x40\x04name\x01a").unwrap();
    assert_eq!(decode(&mut decoder, b"\x7e\x02bc"), Ok(vec![("name".into(), "bc".into())]));
    assert_eq!(decode(&mut decoder, &[0xbe]), Ok(vec![("name".into(), "bc".into())]));
}

#[test]
fn a_list_of_exactly_the_limit_is_kept() {
    // ":method" and "GET" are 10 bytes and count 42.
    for (bytes_max, kept) in [(84, 2), (83, 1), (42, 1), (41, 0), (0, 0)] {
        let mut fields = Fields::new(bytes_max);
        Decoder::new(4096).decode(&[0x82, 0x82], &mut fields).unwrap();
        assert_eq!((fields.len(), fields.is_oversized()), (kept, kept < 2), "limit {bytes_max}");
    }
}

#[test]
fn nothing_is_kept_behind_the_first_field_that_does_not_fit() {
    let mut fields = Fields::new(100);
    let mut block = b"\x82\x00\x01a\x64".to_vec();
    block.extend([b'x'; 100]);
    block.push(0x82);
    Decoder::new(4096).decode(&block, &mut fields).unwrap();
    assert_eq!((fields.len(), fields.is_oversized()), (1, true));
}

#[test]
fn an_oversized_list_leaves_the_table_in_step_and_the_buffers_small() {
    let mut decoder = Decoder::new(4096);
    let mut fields = Fields::new(50);
    // Far more than the limit, of which two fields are for the table.
    let mut block = b"\x40\x01a\x01b".to_vec();
    for _ in 0..100 {
        block.extend(b"\x00\x01n\x7f\x81\x01");
        block.extend([b'x'; 256]);
    }
    block.extend(b"\x40\x01c\x01d");
    decoder.decode(&block, &mut fields).unwrap();
    assert!(fields.is_oversized());
    assert_eq!(texts(&fields), [("a".into(), "b".into())]);
    fields.draft().resize(100_000, 0);
    fields.clear();
    assert!(fields.draft().capacity() <= 50, "what the oversized list took is given back");
    let table = vec![("a".into(), "b".into()), ("c".into(), "d".into())];
    assert_eq!(decode(&mut decoder, &[0xbf, 0xbe]), Ok(table));
}

#[test]
fn an_encoder_after_a_table_size_change_is_still_understood_and_inserts_no_more() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    for (peer_table_bytes, table_bytes) in [(4096, 42), (0, 0), (4096, 0)] {
        encoder.set_peer_table_bytes(peer_table_bytes);
        for _ in 0..2 {
            let mut block = BytesMut::new();
            encoder.begin(&mut block);
            encoder.put_known(b"te", b"trailers", &mut block);
            assert_eq!(decode(&mut decoder, &block), Ok(vec![("te".into(), "trailers".into())]));
            assert_eq!(decoder.table.bytes(), table_bytes);
        }
    }
}

/// How the encoder is asked to write a field.
#[derive(Clone, Copy, Debug)]
enum How {
    Known,
    Passing,
    Secret,
}

/// A block to write: fields, and what the peer allows before it.
type Written = (Option<u32>, Vec<(How, Vec<u8>, Vec<u8>)>);

fn written() -> impl Strategy<Value = Written> {
    let how = prop_oneof![4 => Just(How::Known), 1 => Just(How::Passing), 1 => Just(How::Secret)];
    let name = prop_oneof![
        Just(b":status".to_vec()),
        Just(b":path".to_vec()),
        Just(b"te".to_vec()),
        Just(b"user-agent".to_vec()),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    let value = prop_oneof![
        Just(b"200".to_vec()),
        Just(b"/".to_vec()),
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..600),
    ];
    let peer_table_bytes = prop::sample::select(vec![0, 100, 4095, 4096, 8192]);
    (prop::option::weighted(0.1, peer_table_bytes), prop::collection::vec((how, name, value), 0..20))
}

proptest! {
    #[test]
    fn what_the_encoder_writes_the_decoder_reads(blocks in prop::collection::vec(written(), 0..8)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        let mut fields = Fields::new(1 << 20);
        for (peer_table_bytes, list) in blocks {
            if let Some(bytes) = peer_table_bytes {
                encoder.set_peer_table_bytes(bytes);
            }
            let mut block = BytesMut::new();
            encoder.begin(&mut block);
            for (how, name, value) in &list {
                match how {
                    How::Known => encoder.put_known(name, value, &mut block),
                    How::Passing => encoder.put(name, value, &mut block),
                    How::Secret => encoder.put_secret(name, value, &mut block),
                }
            }
            prop_assert_eq!(decoder.decode(&block, &mut fields), Ok(()));
            let expected: Vec<_> = list.iter().map(|(_, name, value)| (&name[..], &value[..])).collect();
            prop_assert_eq!(fields.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn noise_never_panics_and_never_outgrows_the_limits(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        list_bytes_max in 0_usize..500,
    ) {
        let mut decoder = Decoder::new(4096);
        let mut fields = Fields::new(list_bytes_max);
        for block in blocks {
            // Going on after an error is what a connection must not do; it must be safe all the same.
            let _ = decoder.decode(&block, &mut fields);
            let list_bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
            prop_assert!(list_bytes <= list_bytes_max);
            prop_assert!(fields.draft().len() <= list_bytes_max + block.len() * 8 / 5 + 4096);
            prop_assert!(decoder.table.bytes() <= 4096 && decoder.table.text_bytes() <= 2 * 4096);
        }
    }

    #[test]
    fn huffman_strings_return_whatever_they_hold(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoded = Vec::new();
        prop_assert_eq!(huffman::decode(&huffman::tests::encode(&text), &mut decoded), Ok(()));
        prop_assert_eq!(decoded, text);
    }
}

/// The fields of a unary call as a Rust client sends them.
const CALL: [(&str, &str); 10] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/ratatoskr.v1.Ratatoskr/Publish"),
    (":authority", "broker-0.broker.default.svc:7654"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "tonic/0.14.2"),
    ("grpc-encoding", "identity"),
    ("grpc-accept-encoding", "gzip, zstd"),
    ("grpc-timeout", "5S"),
];

/// Run with `cargo test --release -p ratatoskr-http2 timing -- --ignored --nocapture`.
#[test]
#[ignore = "measures, and says nothing about right or wrong"]
fn timing_of_a_typical_call() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    let mut fields = Fields::new(16_384);
    let mut block = BytesMut::new();
    for _ in 0..2 {
        block.clear();
        encoder.begin(&mut block);
        for (name, value) in CALL {
            encoder.put_known(name.as_bytes(), value.as_bytes(), &mut block);
        }
        decoder.decode(&block, &mut fields).unwrap();
    }
    assert_eq!((block.len(), fields.len()), (CALL.len(), CALL.len()), "every field is indexed");
    measure("decode, all indexed", || decoder.decode(black_box(&block), &mut fields).unwrap());
    let mut with_path = b"\x04".to_vec();
    let path = huffman::tests::encode(CALL[2].1.as_bytes());
    with_path.push(0x80 | path.len() as u8);
    with_path.extend(path);
    with_path.extend_from_slice(&block);
    measure("decode, with a Huffman path", || decoder.decode(black_box(&with_path), &mut fields).unwrap());
    measure("encode, all known", || {
        block.clear();
        encoder.begin(&mut block);
        for (name, value) in black_box(&CALL) {
            encoder.put_known(name.as_bytes(), value.as_bytes(), &mut block);
        }
    });
}

fn measure(what: &str, mut work: impl FnMut()) {
    const ROUNDS: u32 = 2_000_000;
    for _ in 0..ROUNDS / 10 {
        work();
    }
    let start = Instant::now();
    for _ in 0..ROUNDS {
        work();
    }
    println!("{what}: {:.1} ns", start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS));
}
