use super::*;

const TEXT: &str = "rustc = \"1.95.0\"\n\n[call]\ninstructions = 1000\nwhy = \"frames in, frames out\"\n";

fn count(piece: &str, instructions: u64) -> Count {
    Count { piece: piece.to_owned(), instructions }
}

/// What a table with `call` at 1000 says of other counts.
fn said(counts: &[Count], rustc: &str) -> (bool, String) {
    let report = Table::parse(TEXT).unwrap().compare(counts, rustc);
    (report.is_kept(), report.to_string())
}

#[test]
fn five_hundredths_above_are_kept_and_more_is_a_failure_with_both_counts() {
    assert!(said(&[count("call", 1050)], "1.95.0").0);
    let (is_kept, report) = said(&[count("call", 1051)], "1.95.0");
    assert!(!is_kept);
    assert!(
        report.ends_with("call           1000     1051    +5.1 %  FAILED: more than 5 % above\n"),
        "{report}"
    );
}

#[test]
fn ten_hundredths_below_ask_for_a_lower_limit_and_are_no_failure() {
    assert!(!said(&[count("call", 900)], "1.95.0").1.contains("lower"));
    let (is_kept, report) = said(&[count("call", 899)], "1.95.0");
    assert!(is_kept && report.contains("shorter: lower the limit"), "{report}");
}

#[test]
fn another_compiler_is_allowed_more_and_asks_for_nothing() {
    assert!(said(&[count("call", 1150)], "1.96.0").0);
    assert!(!said(&[count("call", 1151)], "1.96.0").0);
    let (is_kept, report) = said(&[count("call", 500)], "1.96.0");
    assert!(is_kept && !report.contains("lower"), "{report}");
    assert!(report.starts_with("counted with rustc 1.96.0; the table is of 1.95.0: 15 %"), "{report}");
}

#[test]
fn a_piece_that_only_one_side_knows_is_a_failure() {
    assert!(said(&[count("call", 1000)], "1.95.0").0);
    let (is_kept, report) = said(&[count("call", 1000), count("read", 7)], "1.95.0");
    assert!(!is_kept && report.contains("not in the table"), "{report}");
    let (is_kept, report) = said(&[], "1.95.0");
    assert!(!is_kept && report.contains("no such piece any more"), "{report}");
}

#[test]
fn new_counts_keep_what_the_old_ones_were_for_and_new_pieces_have_to_say() {
    let table = Table::parse(TEXT).unwrap().with(&[count("call", 7), count("read", 8)], "1.96.0");
    let text = table.to_string();
    assert!(text.starts_with(HEAD));
    assert_eq!(Table::parse(&text).unwrap(), table);
    assert!(text.contains("instructions = 7\nwhy = \"frames in, frames out\"\n"), "{text}");
    let report = table.compare(&[count("call", 7), count("read", 8)], "1.96.0");
    assert!(!report.is_kept() && report.to_string().contains("does not say why"), "{report}");
}

#[test]
fn a_table_without_a_compiler_or_a_count_is_refused() {
    let error = Table::parse("[call]\ninstructions = 1\nwhy = \"\"\n").unwrap_err().to_string();
    assert!(error.contains("`rustc` is missing"), "{error}");
    let error = Table::parse("rustc = \"1\"\n[call]\nwhy = \"x\"\n").unwrap_err().to_string();
    assert!(error.contains("[call] needs `instructions`"), "{error}");
}

#[test]
fn a_page_gets_the_counts_in_the_rows_of_pieces_and_nothing_else_changes() {
    let table = Table::parse(TEXT).unwrap();
    let page = "| piece | one operation | instructions |\n|---|---|---|\n| call | a call | 7 |\n\nfrom call | on | 7 |\n";
    assert_eq!(table.put_into(page), page.replace("a call | 7", "a call | 1000"));
}
