//! Huffman strings (RFC 7541 section 5.2 and appendix B), decoded four bits at a time.
//!
//! ```text
//!  CODE_LENGTHS ──▶ codes ──▶ tree ──▶ STEPS[node][four bits] = (next node, symbol passed on the way)
//!  └────────────────────── at compile time ──────────────────────────────────────────────────────┘
//! ```
//!
//! The code is canonical: ordered by length and then by symbol, the codes count up. So the lengths of
//! appendix B are all of it. The shortest code has five bits: four bits pass at most one symbol.
//!
//! Invariants: 257 symbols make a tree of exactly 256 inner nodes, so a node fits a byte and every step
//! leads somewhere. A string may end only where nothing but up to seven 1-bits of padding is pending.
//! It does not encode; the tests do, from the same lengths.

use super::HpackError;

/// The bytes and the end-of-string symbol.
const SYMBOLS: usize = 257;
/// Must not occur in a string (RFC 7541 section 5.2).
const END_OF_STRING: usize = 256;
/// Inner nodes of a binary tree with [`SYMBOLS`] leaves; node 0 is the root.
const NODES: usize = SYMBOLS - 1;
/// In the tree, a child from here on is a leaf, for the symbol that far above it.
const FIRST_LEAF: u16 = NODES as u16;
/// The longest code, that of the end-of-string symbol.
const CODE_BITS_MAX: u8 = 30;
/// Padding is shorter than a byte.
const PADDING_BITS_MAX: usize = 7;

/// Bits of the code of each symbol: RFC 7541 appendix B.
const CODE_LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0x00
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 0x10
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, // 0x20
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, // 0x30
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 0x40
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, // 0x50
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, // 0x60
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, // 0x70
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 0x80
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 0x90
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 0xa0
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 0xb0
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 0xc0
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 0xd0
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 0xe0
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 0xf0
    30, // end of string
];

/// Where four bits lead from a node.
#[derive(Clone, Copy)]
struct Step {
    /// The node after them.
    next: u8,
    /// The symbol they completed, if `passes` says so.
    symbol: u8,
    /// What lay on the way.
    passes: Passes,
}

#[derive(Clone, Copy)]
enum Passes {
    Nothing,
    Symbol,
    EndOfString,
}

/// The inner nodes: for each bit another node, or a leaf from [`FIRST_LEAF`] on.
type Tree = [[u16; 2]; NODES];

static STEPS: [[Step; 16]; NODES] = steps();
/// Whether a string may end at a node: the root, and up to seven 1-bits from there.
static MAY_END: [bool; NODES] = may_end();

/// Appends what `string` stands for to `text`, at most 8/5 of its bytes.
pub(super) fn decode(string: &[u8], text: &mut Vec<u8>) -> Result<(), HpackError> {
    let mut node = 0;
    for &byte in string {
        for bits in [byte >> 4, byte & 0x0f] {
            let step = STEPS[usize::from(node)][usize::from(bits)];
            node = step.next;
            match step.passes {
                Passes::Nothing => {}
                Passes::Symbol => text.push(step.symbol),
                Passes::EndOfString => return Err(HpackError::BadHuffman),
            }
        }
    }
    if MAY_END[usize::from(node)] { Ok(()) } else { Err(HpackError::BadHuffman) }
}

/// The code of each symbol, in its lowest [`CODE_LENGTHS`] bits.
const fn codes() -> [u32; SYMBOLS] {
    let mut codes = [0; SYMBOLS];
    let mut code = 0;
    let mut length = 1;
    while length <= CODE_BITS_MAX {
        code <<= 1;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if CODE_LENGTHS[symbol] == length {
                codes[symbol] = code;
                code += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    codes
}

const fn tree() -> Tree {
    let codes = codes();
    // The root is nobody's child, so 0 means: not there yet.
    let mut tree: Tree = [[0; 2]; NODES];
    let mut nodes = 1;
    let mut symbol = 0;
    while symbol < SYMBOLS {
        let mut node = 0;
        let mut bits_left = CODE_LENGTHS[symbol];
        while bits_left > 1 {
            bits_left -= 1;
            let bit = (codes[symbol] >> bits_left & 1) as usize;
            if tree[node][bit] == 0 {
                tree[node][bit] = nodes;
                nodes += 1;
            }
            node = tree[node][bit] as usize;
        }
        tree[node][(codes[symbol] & 1) as usize] = FIRST_LEAF + symbol as u16;
        symbol += 1;
    }
    assert!(nodes == FIRST_LEAF, "the code lengths make a complete tree");
    tree
}

const fn steps() -> [[Step; 16]; NODES] {
    let tree = tree();
    let mut steps = [[Step { next: 0, symbol: 0, passes: Passes::Nothing }; 16]; NODES];
    let mut node = 0;
    while node < NODES {
        let mut bits = 0;
        while bits < 16 {
            steps[node][bits] = step(&tree, node, bits);
            bits += 1;
        }
        node += 1;
    }
    steps
}

/// Walks four bits down from `node`, and on from the root behind a leaf.
const fn step(tree: &Tree, node: usize, bits: usize) -> Step {
    let mut step = Step { next: 0, symbol: 0, passes: Passes::Nothing };
    let mut at = node;
    let mut bits_left = 4;
    while bits_left > 0 {
        bits_left -= 1;
        let child = tree[at][bits >> bits_left & 1];
        if child < FIRST_LEAF {
            at = child as usize;
            continue;
        }
        let symbol = (child - FIRST_LEAF) as usize;
        step.passes = if symbol == END_OF_STRING { Passes::EndOfString } else { Passes::Symbol };
        step.symbol = symbol as u8;
        at = 0;
    }
    step.next = at as u8;
    step
}

const fn may_end() -> [bool; NODES] {
    let tree = tree();
    let mut may_end = [false; NODES];
    let mut node = 0;
    let mut padding_bits = 0;
    while padding_bits <= PADDING_BITS_MAX {
        may_end[node] = true;
        node = tree[node][1] as usize;
        padding_bits += 1;
    }
    may_end
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Huffman-encodes `text`, padded with ones.
    pub(in super::super) fn encode(text: &[u8]) -> Vec<u8> {
        let codes = codes();
        let mut bits = Vec::new();
        for &byte in text {
            push_code(&mut bits, codes[usize::from(byte)], CODE_LENGTHS[usize::from(byte)]);
        }
        while bits.len() % 8 != 0 {
            bits.push(1);
        }
        bits.chunks(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
    }

    fn push_code(bits: &mut Vec<u8>, code: u32, length: u8) {
        bits.extend((0..length).rev().map(|place| (code >> place & 1) as u8));
    }

    fn decoded(string: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut text = Vec::new();
        decode(string, &mut text).map(|()| text)
    }

    #[test]
    fn the_codes_are_those_of_appendix_b() {
        let codes = codes();
        for (symbol, code) in [
            (0, 0x1ff8),
            (usize::from(b'\n'), 0x3fff_fffc),
            (usize::from(b'0'), 0x0),
            (usize::from(b'a'), 0x3),
            (usize::from(b'z'), 0x7b),
            (usize::from(b'~'), 0x1ffd),
            (127, 0xfff_fffc),
            (195, 0x7_fff1),
            (255, 0x3ff_ffee),
            (END_OF_STRING, 0x3fff_ffff),
        ] {
            assert_eq!(codes[symbol], code, "symbol {symbol}");
        }
    }

    #[test]
    fn every_byte_returns_alone_and_behind_every_other() {
        for first in 0..=u8::MAX {
            assert_eq!(decoded(&encode(&[first])), Ok(vec![first]));
            for second in 0..=u8::MAX {
                assert_eq!(decoded(&encode(&[first, second])), Ok(vec![first, second]));
            }
        }
    }

    #[test]
    fn an_empty_string_is_empty() {
        assert_eq!(decoded(&[]), Ok(Vec::new()));
    }

    #[test]
    fn padding_of_a_whole_byte_is_refused() {
        assert_eq!(decoded(&[0xff]), Err(HpackError::BadHuffman));
        let mut padded = encode(b"a");
        padded.push(0xff);
        assert_eq!(decoded(&padded), Err(HpackError::BadHuffman));
    }

    #[test]
    fn padding_with_a_zero_in_it_is_refused() {
        // 'a' is 00011; the three bits behind it must be 111.
        assert_eq!(decoded(&[0b0001_1111]), Ok(vec![b'a']));
        for padding in 0b000..0b111 {
            assert_eq!(decoded(&[0b0001_1000 | padding]), Err(HpackError::BadHuffman));
        }
    }

    #[test]
    fn the_end_of_string_symbol_is_refused() {
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(HpackError::BadHuffman));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc, 0x00]), Err(HpackError::BadHuffman));
    }
}
