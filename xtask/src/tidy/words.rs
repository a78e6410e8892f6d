//! Names that say nothing are not used: not for files, not for types.
//!
//! Only names that *we* give are looked at: paths, and what follows `struct`, `enum`, `trait`,
//! `type`, `mod`, `class`, `message` or `service` in code. Prose, fields (`data_dir`) and the
//! names of other people's types stay free.

use super::{Finding, Tree};

/// Words that could stand for anything, with what to ask instead.
const EMPTY_WORDS: &[&str] =
    &["manager", "helper", "util", "utils", "utility", "utilities", "common", "misc", "data", "info"];

/// Words that introduce a name, by the extension of the file.
const DECLARATIONS: &[(&str, &[&str])] = &[
    ("rs", &["struct", "enum", "trait", "type", "union", "mod"]),
    ("py", &["class"]),
    ("proto", &["message", "enum", "service"]),
];

/// Reports files and types with an empty word in their name.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter() {
        let Some(extension) = path.rsplit_once('.').map(|(_, extension)| extension) else { continue };
        let Some((_, keywords)) = DECLARATIONS.iter().find(|(known, _)| *known == extension) else {
            continue;
        };
        if let Some(word) = empty_word(path) {
            findings.push(Finding::new(path, 1, advice_for("file", path, word)));
        }
        for (index, line) in text.lines().enumerate() {
            let Some(name) = declared_name(line, keywords) else { continue };
            if let Some(word) = empty_word(name) {
                findings.push(Finding::new(path, index + 1, advice_for("name", name, word)));
            }
        }
    }
    findings
}

fn advice_for(kind: &str, name: &str, word: &str) -> String {
    format!(
        "{kind} {name} says {word:?}, which could be anything; name the one thing it is (docs/glossary.md)"
    )
}

/// The name a line declares: `pub(crate) struct Name<T> {` gives `Name`.
fn declared_name<'a>(line: &'a str, keywords: &[&str]) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    let first =
        words.find(|word| !matches!(*word, "pub" | "unsafe" | "export") && !word.starts_with("pub("))?;
    // An associated type has the name that its trait gave it.
    let is_associated = first == "type" && line.starts_with(' ');
    if is_associated || !keywords.contains(&first) {
        return None;
    }
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    Some(&name[..end])
}

/// The first empty word in a path or name, split at case changes and signs.
fn empty_word(name: &str) -> Option<&'static str> {
    let mut spaced = String::with_capacity(name.len() * 2);
    for character in name.chars() {
        if character.is_uppercase() {
            spaced.push(' ');
        }
        spaced.push(if character.is_alphanumeric() { character.to_ascii_lowercase() } else { ' ' });
    }
    EMPTY_WORDS
        .iter()
        .find(|empty| spaced.split(' ').any(|word| word == **empty || word.strip_suffix('s') == Some(empty)))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::advice;

    fn findings(path: &str, text: &str) -> Vec<String> {
        advice(&check(&Tree::of(&[(path, text)])))
    }

    #[test]
    fn empty_words_in_names_are_reported_where_they_stand() {
        let text = "//! x\npub(crate) struct TopicManager<T> {\n}\nmod test_helpers {}\n";
        let found = findings("src/topic.rs", text);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("src/topic.rs:2: name TopicManager says \"manager\""));
        assert!(found[1].starts_with("src/topic.rs:4: name test_helpers says \"helper\""));
    }

    #[test]
    fn file_and_folder_names_count() {
        assert_eq!(findings("src/io_utils.rs", "").len(), 1);
        assert_eq!(findings("src/common/x.py", "").len(), 1);
        assert_eq!(findings("src/commons.rs", "").len(), 1);
    }

    #[test]
    fn words_inside_words_and_prose_and_fields_are_free() {
        let text = "/// Helper of data.\nstruct Database { data_dir: u8 }\nstruct Informed;\nlet info = 1;\nuse x::ErrorInfo;\n    type Data = Bytes;\n";
        assert_eq!(findings("src/metadata.rs", text), Vec::<String>::new());
    }

    #[test]
    fn proto_messages_and_python_classes_are_names_too() {
        assert_eq!(findings("a.proto", "message TopicInfo {\n").len(), 1);
        assert_eq!(findings("a.py", "class Helper:\n").len(), 1);
    }
}
