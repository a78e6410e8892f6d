//! [`Mutator`]: bytes that are almost right, for whoever reads bytes he did not write.
//!
//! Inputs of a kept corpus are changed in a few places: bits, bytes, numbers at the edges of their ranges, pieces that are cut out, doubled or
//! taken from another input. The same seed makes the same inputs, so that whatever goes wrong can be played again.

use fastrand::Rng;

/// Changes made to one input, at most.
const CHANGES_MAX: usize = 6;
/// Numbers at which lengths and counts go wrong.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// See the file's head.
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    rng: Rng,
}

impl Mutator<'_> {
    /// Changes inputs of a corpus, which must not be empty.
    pub fn new(corpus: &[Vec<u8>], seed: u64) -> Mutator<'_> {
        assert!(!corpus.is_empty(), "there is nothing to change");
        Mutator { corpus, rng: Rng::with_seed(seed) }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.corpus[self.rng.usize(..self.corpus.len())].clone();
        for _ in 0..self.rng.usize(1..=CHANGES_MAX) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_another_one_others() {
        let corpus = vec![b"an input".to_vec(), b"another one".to_vec(), Vec::new()];
        let inputs = |seed| {
            let mut mutator = Mutator::new(&corpus, seed);
            (0..100).map(|_| mutator.next_input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        let distinct: std::collections::BTreeSet<_> = inputs(1).into_iter().collect();
        assert!(distinct.len() > 80, "only {} different ones", distinct.len());
    }
}
