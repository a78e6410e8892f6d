//! Content keeps its promises, checked against whole copies of the file after every step.

use proptest::prelude::*;

use fastrand::Rng;

use super::*;

fn bytes_of(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; content.len() as usize];
    assert_eq!(content.read(&mut bytes, 0), bytes.len());
    bytes
}

#[test]
fn synced_bytes_survive_and_others_may_not() {
    let mut content = Content::default();
    content.write(&[1; 1000], 0);
    content.sync();
    content.write(&[2; 600], 300);
    let mut expected = vec![1; 1000];
    assert_eq!(bytes_of(&content.surviving_nothing()), expected);
    expected[300..900].fill(2);
    assert_eq!(bytes_of(&content.surviving_everything()), expected);
}

#[test]
fn every_mix_of_two_sectors_comes_up() {
    let mut content = Content::default();
    content.write(&[1; 1024], 0);
    content.sync();
    content.write(&[2; 1024], 0);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let bytes = bytes_of(&content.surviving_some(&mut Rng::with_seed(seed)));
        seen.insert((bytes[0], bytes[511], bytes[512], bytes[1023]));
    }
    let all = [(1, 1, 1, 1), (1, 1, 2, 2), (2, 2, 1, 1), (2, 2, 2, 2)];
    assert_eq!(seen, all.into_iter().collect());
}

#[test]
fn after_a_failed_sync_the_bytes_are_read_but_never_durable() {
    let mut content = Content::default();
    content.write(&[1; 512], 0);
    content.sync();
    content.write(&[2; 512], 0);
    content.drop_unsynced();
    content.write(&[3; 512], 512);
    content.sync();
    assert_eq!(bytes_of(&content), [[2; 512], [3; 512]].concat());
    assert_eq!(bytes_of(&content.surviving_everything()), [[1; 512], [3; 512]].concat());
}

#[test]
fn what_a_failed_sync_dropped_becomes_durable_when_it_is_written_again() {
    let mut content = Content::default();
    content.write(&[1; 512], 0);
    content.drop_unsynced();
    content.write(&[1; 512], 0);
    content.sync();
    assert_eq!(bytes_of(&content.surviving_nothing()), [1; 512]);
}

#[test]
fn a_cut_file_shows_zeros_when_it_grows_again() {
    let mut content = Content::default();
    content.write(&[7; 1024], 0);
    content.set_len(100);
    content.set_len(600);
    let bytes = bytes_of(&content);
    assert_eq!((bytes[99], bytes[100], bytes[599], bytes.len()), (7, 0, 0, 600));
}

#[test]
fn holes_take_no_room_and_zeros_do() {
    let mut content = Content::default();
    content.set_len(4096);
    assert_eq!((content.allocated_bytes(), content.missing_bytes(0, 4096)), (0, 4096));
    content.write(&[0; 1024], 0);
    assert_eq!((content.allocated_bytes(), content.missing_bytes(0, 4096)), (1024, 3072));
}

/// What the naive model does to a file: whole copies, kept after every step.
#[derive(Clone, Debug)]
enum Step {
    Write { position: u16, length: u16, byte: u8 },
    SetLen(u16),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3000u16, 0..1500u16, any::<u8>())
            .prop_map(|(position, length, byte)| Step::Write { position, length, byte }),
        1 => (0..3000u16).prop_map(Step::SetLen),
        1 => Just(Step::Sync),
    ]
}

fn apply(step: &Step, content: &mut Content, history: &mut Vec<Vec<u8>>) {
    let mut naive = history.last().cloned().unwrap_or_default();
    match step {
        Step::Write { position, length, byte } => {
            let (from, to) = (usize::from(*position), usize::from(position + length));
            content.write(&vec![*byte; to - from], from as u64);
            if to > naive.len() && to > from {
                naive.resize(to, 0);
            }
            if to > from {
                naive[from..to].fill(*byte);
            }
        }
        Step::SetLen(len) => {
            content.set_len((*len).into());
            naive.resize((*len).into(), 0);
        }
        Step::Sync => {
            content.sync();
            history.clear();
        }
    }
    history.push(naive);
}

/// A sector of a whole copy, with zeros behind its end.
fn sector(bytes: &[u8], number: usize) -> Vec<u8> {
    let mut sector: Vec<u8> = bytes.iter().copied().skip(number * SECTOR_BYTES).take(SECTOR_BYTES).collect();
    sector.resize(SECTOR_BYTES, 0);
    sector
}

proptest! {
    #[test]
    fn what_survives_is_a_mix_of_moments_since_the_sync(
        steps in proptest::collection::vec(step(), 0..20),
        seed in any::<u64>(),
    ) {
        let (mut content, mut history) = (Content::default(), vec![Vec::new()]);
        for step in &steps {
            apply(step, &mut content, &mut history);
        }
        prop_assert_eq!(&bytes_of(&content), history.last().expect("never empty"));
        prop_assert_eq!(&bytes_of(&content.surviving_nothing()), &history[0]);
        prop_assert_eq!(&bytes_of(&content.surviving_everything()), history.last().expect("never empty"));

        let survived = bytes_of(&content.surviving_some(&mut Rng::with_seed(seed)));
        let lengths = history.iter().map(Vec::len);
        prop_assert!(survived.len() >= lengths.clone().min().unwrap_or(0));
        prop_assert!(survived.len() <= lengths.max().unwrap_or(0));
        for number in 0..survived.len().div_ceil(SECTOR_BYTES) {
            let mut here = sector(&survived, number);
            here.truncate(survived.len() - number * SECTOR_BYTES);
            let known = history.iter().any(|moment| sector(moment, number).starts_with(&here));
            prop_assert!(known, "sector {} is nothing the file ever held", number);
        }
    }
}
