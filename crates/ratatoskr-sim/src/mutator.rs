//! [`Mutator`]: bytes that are almost right, for whoever reads bytes he did not write.
//!
//! ```text
//!   Shape::Bytes   bits, bytes, numbers at the edges of their ranges; pieces cut out, doubled, taken from another input
//!   Shape::Call    13 of 16: the fields of the request, in a quarter of the cases with lengths that are not mended
//!                   2 of 16: the request as bytes
//!                   1 of 16: all of it as bytes, the call's name too
//! ```
//!
//! Most inputs are changed in one place, and each further change is half as likely: two wrongs are refused for the first. The same seed makes
//! the same inputs, so that whatever goes wrong can be played again.

use fastrand::Rng;

use crate::fields::{Fields, Lengths};

/// Changes made to one input, at most.
const CHANGES_MAX: usize = 6;
/// Numbers at which lengths and counts go wrong.
pub(crate) const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// What inputs look like, and so what is changed of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any bytes.
    Bytes,
    /// A call's name on a line of its own, and a protobuf message behind it.
    Call,
}

/// See the file's head.
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    shape: Shape,
    rng: Rng,
}

impl Mutator<'_> {
    /// Changes inputs of a corpus, which must not be empty.
    pub fn new(corpus: &[Vec<u8>], shape: Shape, seed: u64) -> Mutator<'_> {
        assert!(!corpus.is_empty(), "there is nothing to change");
        Mutator { corpus, shape, rng: Rng::with_seed(seed) }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let input = &self.corpus[self.rng.usize(..self.corpus.len())];
        let changes = 1 + (1..CHANGES_MAX).take_while(|_| self.rng.bool()).count();
        if self.shape == Shape::Bytes {
            return self.change_bytes(input, changes);
        }
        let (name, request) = split(input);
        match self.rng.u32(..16) {
            0 => self.change_bytes(input, changes),
            1 | 2 => [name, &self.change_bytes(request, changes)].concat(),
            _ => [name, &self.change_fields(request, changes)].concat(),
        }
    }

    /// As bytes if there are no fields to be read.
    fn change_fields(&mut self, request: &[u8], changes: usize) -> Vec<u8> {
        let Some(mut fields) = Fields::read(request) else { return self.change_bytes(request, changes) };
        for _ in 0..changes {
            let (_, donor) = split(&self.corpus[self.rng.usize(..self.corpus.len())]);
            if let Some(donor) = Fields::read(donor) {
                fields.change(&donor, &mut self.rng);
            }
        }
        fields.write(if self.rng.u32(..4) == 0 { Lengths::AsTheyWere } else { Lengths::Mended })
    }

    fn change_bytes(&mut self, input: &[u8], changes: usize) -> Vec<u8> {
        let mut input = input.to_vec();
        for _ in 0..changes {
            self.change(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        if input.is_empty() {
            input.push(self.rng.u8(..));
            return;
        }
        let at = self.rng.usize(..input.len());
        let end = (at + self.rng.usize(1..=32)).min(input.len());
        match self.rng.u32(..8) {
            0 => input[at] ^= 1 << self.rng.u32(..8),
            1 => input[at] = self.rng.u8(..),
            2 | 3 => {
                let edge = EDGES[self.rng.usize(..EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.rng.usize(..4)].min(input.len() - at);
                input[at..at + width].copy_from_slice(&edge[..width]);
            }
            4 => drop(input.drain(at..end)),
            5 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            6 => input.truncate(at),
            _ => {
                let other = &self.corpus[self.rng.usize(..self.corpus.len())];
                let from = self.rng.usize(..=other.len());
                let to = (from + self.rng.usize(..64)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
}

/// A call's name, with the end of its line, and the request.
fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let line = input.iter().position(|byte| *byte == b'\n').map_or(input.len(), |end| end + 1);
    input.split_at(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_another_one_others() {
        let corpus = vec![b"an input".to_vec(), b"Publish\n\x0a\x06orders\x28\x07".to_vec(), Vec::new()];
        for shape in [Shape::Bytes, Shape::Call] {
            let inputs = |seed| {
                let mut mutator = Mutator::new(&corpus, shape, seed);
                (0..100).map(|_| mutator.next_input()).collect::<Vec<_>>()
            };
            assert_eq!(inputs(1), inputs(1));
            assert_ne!(inputs(1), inputs(2));
            let distinct: std::collections::BTreeSet<_> = inputs(1).into_iter().collect();
            assert!(distinct.len() > 40, "only {} different ones", distinct.len());
        }
    }

    #[test]
    fn most_requests_keep_the_name_of_their_call() {
        let corpus = vec![b"Publish\n\x0a\x06orders\x28\x07".to_vec()];
        let mut mutator = Mutator::new(&corpus, Shape::Call, 1);
        let kept = (0..1000).filter(|_| mutator.next_input().starts_with(b"Publish\n")).count();
        assert!((900..990).contains(&kept), "{kept} of 1000");
    }
}
