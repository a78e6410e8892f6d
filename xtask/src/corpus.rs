//! Real text, found on this machine: the sources of the libraries we build on.
//!
//! ```text
//! registry/src/**/*.rs, *.md, *.toml, then other text ──▶ one file, line after line ──▶ Corpus
//! ```
//!
//! No text is generated and none is taken twice. Files are taken in the order of their paths, so
//! that the same cache gives the same corpus. A file with a line longer than a message may be is
//! left out whole, and counted.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::failed::{Failed, Outcome, While};

/// 1,048,576 bytes.
pub(crate) const MEBIBYTE: u64 = 1 << 20;
/// The longest line taken: the default bound on a message's payload.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Kinds of text, by extension, most wanted first: a kind is taken only when those before it were too little.
const KINDS: &[&[&str]] = &[
    &["rs", "md", "toml"],
    &[
        "txt", "c", "h", "cc", "cpp", "hpp", "S", "s", "asm", "pl", "py", "sh", "proto", "json", "yml",
        "yaml", "lock", "html", "js", "css",
    ],
];

/// A file of lines, in memory, with where each line begins.
pub(crate) struct Corpus {
    /// Where it was written, for the command line to read.
    pub(crate) path: PathBuf,
    /// All of it; ends with a line feed.
    pub(crate) bytes: Vec<u8>,
    /// Where each line begins, and the end of the last one.
    starts: Vec<usize>,
    /// For the report: how many files of which extension.
    pub(crate) sources: String,
}

impl Corpus {
    /// Collects at least `bytes_min` bytes into `path`.
    pub(crate) fn collect(path: &Path, bytes_min: u64) -> Outcome<Corpus> {
        let roots = source_folders()?;
        let mut files = Vec::new();
        for root in &roots {
            list_files(root, &mut files)?;
        }
        files.sort();
        let mut bytes = Vec::with_capacity(bytes_min as usize + LINE_BYTES_MAX);
        let (mut taken, mut left_out) = (0, 0);
        for extensions in KINDS {
            let of_kind = files.iter().filter(|file| {
                file.extension()
                    .and_then(|extension| extension.to_str())
                    .is_some_and(|known| extensions.contains(&known))
            });
            for file in of_kind {
                if bytes.len() as u64 >= bytes_min {
                    break;
                }
                let text = fs::read(file).when(format_args!("reading {}", file.display()))?;
                if append_lines(&mut bytes, &text) { taken += 1 } else { left_out += 1 }
            }
        }
        if (bytes.len() as u64) < bytes_min {
            return Err(Failed::new(format!(
                "only {} MiB of real text were found in {roots:?}; {} MiB are wanted: run `cargo fetch`, or ask for less with --mebibytes",
                bytes.len() as u64 / MEBIBYTE,
                bytes_min / MEBIBYTE,
            )));
        }
        let mut file = BufWriter::new(File::create(path).when(format_args!("creating {}", path.display()))?);
        file.write_all(&bytes)
            .and_then(|()| file.flush())
            .when(format_args!("writing {}", path.display()))?;
        let sources = format!(
            "{taken} files of the cargo registry's cache ({left_out} empty or with a line over 1 MiB left out)"
        );
        Ok(Corpus { path: path.to_owned(), starts: line_starts(&bytes), bytes, sources })
    }

    /// How many lines there are.
    pub(crate) fn lines(&self) -> usize {
        self.starts.len() - 1
    }

    /// The bytes of lines `from..to`, line feeds included.
    pub(crate) fn slice(&self, from: usize, to: usize) -> &[u8] {
        &self.bytes[self.starts[from]..self.starts[to]]
    }

    /// The line that holds a byte.
    pub(crate) fn line_at(&self, position: usize) -> usize {
        self.starts.partition_point(|&start| start <= position) - 1
    }
}

/// Where cargo unpacks sources.
fn source_folders() -> Outcome<Vec<PathBuf>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let home = home.ok_or_else(|| {
        Failed::new("neither CARGO_HOME nor HOME is set; set one to find the registry's cache")
    })?;
    Ok(vec![home.join("registry/src")])
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(folder).when(format_args!("listing {}", folder.display()))? {
        let entry = entry.when(format_args!("listing {}", folder.display()))?;
        let kind = entry.file_type().when(format_args!("looking at {}", entry.path().display()))?;
        if kind.is_dir() {
            list_files(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Adds a file's lines, the last one ended if it was not; says whether the file was taken.
fn append_lines(bytes: &mut Vec<u8>, text: &[u8]) -> bool {
    if text.is_empty() || text.split(|&byte| byte == b'\n').any(|line| line.len() > LINE_BYTES_MAX) {
        return false;
    }
    bytes.extend_from_slice(text);
    if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    true
}

fn line_starts(bytes: &[u8]) -> Vec<usize> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(position, _)| position + 1);
    std::iter::once(0).chain(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(text: &[u8]) -> Corpus {
        Corpus {
            path: PathBuf::new(),
            bytes: text.to_vec(),
            starts: line_starts(text),
            sources: String::new(),
        }
    }

    #[test]
    fn lines_are_cut_after_line_feeds_only() {
        let corpus = corpus(b"one\r\n\ntwo\n");
        assert_eq!(corpus.lines(), 3);
        assert_eq!(corpus.slice(0, 1), b"one\r\n");
        assert_eq!(corpus.slice(1, 3), b"\ntwo\n");
        assert_eq!((corpus.line_at(0), corpus.line_at(5), corpus.line_at(6)), (0, 1, 2));
    }

    #[test]
    fn a_last_line_without_an_end_gets_one() {
        let mut bytes = Vec::new();
        assert!(append_lines(&mut bytes, b"a\nb"));
        assert_eq!(bytes, b"a\nb\n");
    }

    #[test]
    fn a_file_with_a_line_longer_than_a_message_is_left_out() {
        let mut bytes = Vec::new();
        assert!(append_lines(&mut bytes, &vec![b'x'; LINE_BYTES_MAX]));
        assert!(!append_lines(&mut bytes, &vec![b'x'; LINE_BYTES_MAX + 1]));
        assert_eq!(bytes.len(), LINE_BYTES_MAX + 1);
    }
}
