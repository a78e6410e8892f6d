//! The examples of RFC 7541 appendix C: whole blocks, the lists they mean, and the table after each.
//!
//! ```text
//!  bytes of the block ──▶ one decoder per section ──▶ fields, table (newest first), table size
//! ```
//!
//! C.1 (integers) stands with the integers.

use super::{Decoder, Fields};

type Pair = (&'static str, &'static str);

/// One block of an example, its fields, and the table behind it.
struct Example {
    /// Hexadecimal, as the RFC prints it.
    block: &'static str,
    /// The list it decodes to.
    fields: &'static [Pair],
    /// The dynamic table after it, newest first.
    table: &'static [Pair],
    /// The size of that table.
    table_bytes: usize,
}

const DATE_21: &str = "Mon, 21 Oct 2013 20:13:21 GMT";
const DATE_22: &str = "Mon, 21 Oct 2013 20:13:22 GMT";
const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
const LOCATION: Pair = ("location", "https://www.example.com");
const AUTHORITY: Pair = (":authority", "www.example.com");

/// What C.3 and C.4 decode to: the same three requests, plain and with Huffman.
const REQUESTS: [(&[Pair], &[Pair], usize); 3] = [
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), AUTHORITY], &[AUTHORITY], 57),
    (
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), AUTHORITY, ("cache-control", "no-cache")],
        &[("cache-control", "no-cache"), AUTHORITY],
        110,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            AUTHORITY,
            ("custom-key", "custom-value"),
        ],
        &[("custom-key", "custom-value"), ("cache-control", "no-cache"), AUTHORITY],
        164,
    ),
];

/// What C.5 and C.6 decode to: the same three responses, plain and with Huffman.
const RESPONSES: [(&[Pair], &[Pair], usize); 3] = [
    (
        &[(":status", "302"), ("cache-control", "private"), ("date", DATE_21), LOCATION],
        &[LOCATION, ("date", DATE_21), ("cache-control", "private"), (":status", "302")],
        222,
    ),
    (
        &[(":status", "307"), ("cache-control", "private"), ("date", DATE_21), LOCATION],
        &[(":status", "307"), LOCATION, ("date", DATE_21), ("cache-control", "private")],
        222,
    ),
    (
        &[
            (":status", "200"),
            ("cache-control", "private"),
            ("date", DATE_22),
            LOCATION,
            ("content-encoding", "gzip"),
            ("set-cookie", COOKIE),
        ],
        &[("set-cookie", COOKIE), ("content-encoding", "gzip"), ("date", DATE_22)],
        215,
    ),
];

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hexadecimal.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn as_bytes(pairs: &[Pair]) -> Vec<(&'static [u8], &'static [u8])> {
    pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

fn check(decoder: &mut Decoder, example: &Example) {
    let mut fields = Fields::new(4096);
    decoder.decode(&bytes(example.block), &mut fields).expect("the RFC's block is valid");
    assert_eq!(fields.iter().collect::<Vec<_>>(), as_bytes(example.fields), "{}", example.block);
    assert_eq!(decoder.table.fields(), as_bytes(example.table), "{}", example.block);
    assert_eq!(decoder.table.bytes(), example.table_bytes, "{}", example.block);
    let list_bytes: usize = example.fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    let mut tight = Fields::new(list_bytes - 1);
    for (name, value) in as_bytes(example.fields) {
        tight.push(name, value);
    }
    assert!(tight.is_oversized() && !fields.is_oversized());
}

fn check_in_turn(
    decoder: &mut Decoder,
    blocks: [&'static str; 3],
    meant: [(&'static [Pair], &'static [Pair], usize); 3],
) {
    for (block, (fields, table, table_bytes)) in blocks.into_iter().zip(meant) {
        check(decoder, &Example { block, fields, table, table_bytes });
    }
}

#[test]
fn c2_each_form_of_a_field_is_decoded() {
    let inserted = Example {
        block: "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        fields: &[("custom-key", "custom-header")],
        table: &[("custom-key", "custom-header")],
        table_bytes: 55,
    };
    let not_indexed = Example {
        block: "040c 2f73 616d 706c 652f 7061 7468",
        fields: &[(":path", "/sample/path")],
        table: &[],
        table_bytes: 0,
    };
    let never_indexed = Example {
        block: "1008 7061 7373 776f 7264 0673 6563 7265 74",
        fields: &[("password", "secret")],
        table: &[],
        table_bytes: 0,
    };
    let indexed = Example { block: "82", fields: &[(":method", "GET")], table: &[], table_bytes: 0 };
    for example in [inserted, not_indexed, never_indexed, indexed] {
        check(&mut Decoder::new(4096), &example);
    }
}

#[test]
fn c3_requests_without_huffman_are_decoded() {
    let blocks = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    check_in_turn(&mut Decoder::new(4096), blocks, REQUESTS);
}

#[test]
fn c4_requests_with_huffman_are_decoded() {
    let blocks = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    check_in_turn(&mut Decoder::new(4096), blocks, REQUESTS);
}

/// The examples run with a table of 256 bytes; the peer says so in a block of its own.
fn decoder_of_256_bytes() -> Decoder {
    let mut decoder = Decoder::new(4096);
    decoder.decode(&[0x3f, 0xe1, 0x01], &mut Fields::new(0)).expect("a size update is a block");
    decoder
}

#[test]
fn c5_responses_without_huffman_are_decoded_with_evictions() {
    let blocks = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
         3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    check_in_turn(&mut decoder_of_256_bytes(), blocks, RESPONSES);
}

#[test]
fn c6_responses_with_huffman_are_decoded_with_evictions() {
    let blocks = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    check_in_turn(&mut decoder_of_256_bytes(), blocks, RESPONSES);
}
