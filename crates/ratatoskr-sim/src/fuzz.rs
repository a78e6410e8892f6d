//! [`fuzz`]: a target gets inputs that are almost right, and each is judged.
//!
//! ```text
//!   kept inputs (tests/fuzz/TARGET/*) ──as they are──▶ judge        the judge panics over one that is not taken well:
//!   corpus + kept ──Mutator, seeded by a number──────▶ judge        it is kept in a file, and its number is said
//! ```
//!
//! | variable | plays |
//! |---|---|
//! | – | so many inputs as the target says, the same ones each time |
//! | `RATATOSKR_FUZZ_INPUTS=n` | n of them |
//! | `RATATOSKR_FUZZ_SECONDS=n` | as many as there is time for, from a number on that nobody has chosen |
//! | `RATATOSKR_FUZZ_INPUT=n` | number n alone |
//!
//! A file with a failing input becomes part of the corpus by being moved to `tests/fuzz/TARGET`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Mutator, Shape};

/// What is given inputs.
pub struct Target<'a> {
    /// Its name: that of its folder of kept inputs.
    pub name: &'a str,
    /// The package's folder, `env!("CARGO_MANIFEST_DIR")`.
    pub package: &'a str,
    /// Inputs that are right; at least one.
    pub corpus: Vec<Vec<u8>>,
    /// What its inputs look like.
    pub shape: Shape,
    /// How many inputs are tried when nobody says otherwise.
    pub inputs: u64,
}

/// Gives a target its inputs; answers how many there were. The judge panics over one that is not taken well.
pub fn fuzz(mut target: Target<'_>, mut judge: impl FnMut(&[u8])) -> u64 {
    let kept = kept(&target);
    for input in &kept {
        judge(input);
    }
    target.corpus.extend(kept);
    let seconds = number_from("RATATOSKR_FUZZ_SECONDS").map(Duration::from_secs);
    let (first, count) = match (number_from("RATATOSKR_FUZZ_INPUT"), seconds) {
        (Some(number), _) => (number, 1),
        (None, Some(_)) => (fastrand::u64(..1 << 48), u64::MAX >> 1),
        (None, None) => (0, number_from("RATATOSKR_FUZZ_INPUTS").unwrap_or(target.inputs)),
    };
    let started = Instant::now();
    let mut played = 0;
    for number in first..first + count {
        if seconds.is_some_and(|seconds| started.elapsed() >= seconds) {
            break;
        }
        let input = Mutator::new(&target.corpus, target.shape, number).next_input();
        let _named = Named { target: &target, number, input: &input };
        judge(&input);
        played += 1;
    }
    let rate = played as f64 / started.elapsed().as_secs_f64();
    println!("fuzz {}: {played} inputs from number {first} on, {rate:.0} a second", target.name);
    played
}

/// Says which input it was when the judge panics over it.
struct Named<'a> {
    target: &'a Target<'a>,
    number: u64,
    input: &'a [u8],
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let (Target { name, .. }, number) = (self.target, self.number);
        let folder = std::env::temp_dir().join("ratatoskr-fuzz").join(name);
        let path = folder.join(number.to_string());
        let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, self.input));
        println!("fuzz {name}: input {number} failed; RATATOSKR_FUZZ_INPUT={number} plays it again");
        match kept {
            Ok(()) => println!("  it is in {}; kept for good in tests/fuzz/{name}", path.display()),
            Err(error) => println!("  it cannot be kept in {}: {error}", path.display()),
        }
    }
}

/// Inputs that failed once, and others worth keeping.
fn kept(target: &Target<'_>) -> Vec<Vec<u8>> {
    let folder = Path::new(target.package).join("tests/fuzz").join(target.name);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        std::fs::read(path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}; it takes a number")))
}
