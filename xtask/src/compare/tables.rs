//! Results as Markdown, which reads as well on a terminal: columns are padded.
//!
//! ```text
//!   summary    everybody, a column for each work, the main figure
//!   tables     a table for each work: figure (smallest – largest), ratio to us, latencies, processor time
//!   promises   what an ack means for whom
//! ```

use std::fmt::Write as _;

use super::peers::Promise;
use super::results::{Kind, Results};
use super::sample::Measure;
use super::works::Work;

/// Columns of a table: a heading and a measure.
type Column = (&'static str, Measure);

const LOAD: &[Column] = &[
    ("msg/s", Measure::Rate),
    ("p50", Measure::P50Us),
    ("p99", Measure::P99Us),
    ("CPU/msg", Measure::CpuUs),
    ("load CPU", Measure::LoadPercent),
];
const DELIVERIES: &[Column] =
    &[("deliveries/s", Measure::Rate), ("CPU/delivery", Measure::CpuUs), ("load CPU", Measure::LoadPercent)];
const ACKS: &[Column] =
    &[("msg/s", Measure::Rate), ("CPU/msg", Measure::CpuUs), ("load CPU", Measure::LoadPercent)];
const DELAYS: &[Column] = &[
    ("p50", Measure::P50Us),
    ("p99", Measure::P99Us),
    ("msg/s", Measure::Rate),
    ("CPU/msg", Measure::CpuUs),
];
const STARTS: &[Column] = &[("start", Measure::StartMs), ("idle memory", Measure::RssMib)];
const LOSSES: &[Column] =
    &[("lost", Measure::Lost), ("acknowledged", Measure::Acked), ("start after it", Measure::StartMs)];
const RETURNS: &[Column] = &[
    ("start after it", Measure::StartMs),
    ("memory then", Measure::RssMib),
    ("messages", Measure::Acked),
    ("lost", Measure::Lost),
];

fn columns(work: Work) -> &'static [Column] {
    match work {
        Work::Publish(_) | Work::Batches => LOAD,
        Work::FanOut(_) => DELIVERIES,
        Work::Consume => ACKS,
        Work::Latency => DELAYS,
        Work::Start => STARTS,
        Work::Kill | Work::Power => LOSSES,
        Work::Recovery => RETURNS,
    }
}

/// The main figure of everybody at everything.
pub(crate) fn summary(results: &Results) -> String {
    let works = results.works();
    let mut lines = vec![
        ["promise".to_owned(), "who".to_owned()]
            .into_iter()
            .chain(works.iter().map(|work| short(*work)))
            .collect(),
    ];
    for promise in Promise::ALL {
        for (index, row) in results.rows.iter().enumerate().filter(|(_, row)| row.promise == promise) {
            let mut line = vec![promise.word().to_owned(), emphasised(results, index)];
            for work in &works {
                let median = results.cell(index, *work).and_then(|cell| cell.median(work.main()));
                line.push(median.map_or_else(dash, |median| figure(work.main(), median)));
            }
            if row.unavailable.is_none() && line[2..].iter().any(|cell| *cell != dash()) {
                lines.push(line);
            }
        }
    }
    markdown(&lines)
}

fn short(work: Work) -> String {
    match work {
        Work::Publish(in_flight) => format!("publish, {in_flight} in flight"),
        Work::Batches => "in batches".to_owned(),
        Work::FanOut(subscribers) => format!("fan-out to {subscribers}"),
        Work::Consume => "consume, acked".to_owned(),
        Work::Latency => "p99 at 5,000/s".to_owned(),
        Work::Start => "idle memory".to_owned(),
        Work::Kill => "lost, kill -9".to_owned(),
        Work::Recovery => "start with 1 M".to_owned(),
        Work::Power => "lost, power".to_owned(),
    }
}

/// The table of one work, with what has to be known below it.
pub(crate) fn table(results: &Results, work: Work) -> String {
    let columns = columns(work);
    let mut heading = vec!["promise".to_owned(), "who".to_owned()];
    heading.extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    // Nobody is so many times better at losing nothing.
    let has_ratios = work.main() != Measure::Lost;
    if has_ratios {
        heading.extend(["us : it, same promise".to_owned(), "our fsync : it".to_owned()]);
    }
    let (mut lines, mut notes) = (vec![heading], Vec::new());
    for index in results.ranked(work) {
        let (row, Some(cell)) = (&results.rows[index], results.cell(index, work)) else { continue };
        let mut line = vec![row.promise.word().to_owned(), emphasised(results, index)];
        for (_, measure) in columns {
            let spread = cell.spread(*measure);
            line.push(spread.map_or_else(dash, |spread| {
                if *measure == work.main() && cell.samples.len() > 1 {
                    let [median, min, max] =
                        [spread.median, spread.min, spread.max].map(|value| figure(*measure, value));
                    format!("{median} ({min} – {max})")
                } else {
                    figure(*measure, spread.median)
                }
            }));
        }
        if has_ratios {
            line.extend(ratios(results, index, work));
        }
        lines.push(line);
        notes.extend(cell.notes().into_iter().map(|note| format!("- {}: {note}.", row.title)));
    }
    let mut text = markdown(&lines);
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes.join("\n"));
        text.push('\n');
    }
    text
}

/// Against our row of the same promise, and against our safe default; the latter is marked where promises are unequal.
fn ratios(results: &Results, index: usize, work: Work) -> [String; 2] {
    let row = &results.rows[index];
    if row.kind != Kind::Theirs {
        return [dash(), dash()];
    }
    let mark = if row.promise == Promise::Fsync { "" } else { " ≠" };
    [
        results.ratio(row.promise, index, work).map_or_else(dash, ratio),
        results
            .ratio(Promise::Fsync, index, work)
            .map_or_else(dash, |value| format!("{}{mark}", ratio(value))),
    ]
}

/// What an ack means for whom, and whose figures are missing.
pub(crate) fn promises(results: &Results) -> String {
    let mut lines = vec![["promise", "who", "version", "an ack means"].map(str::to_owned).to_vec()];
    for promise in Promise::ALL {
        for (index, row) in results.rows.iter().enumerate().filter(|(_, row)| row.promise == promise) {
            let ack = row
                .unavailable
                .as_ref()
                .map_or_else(|| row.ack.clone(), |why| format!("not measured: {why}"));
            lines.push(vec![promise.word().to_owned(), emphasised(results, index), row.version.clone(), ack]);
        }
    }
    markdown(&lines)
}

fn emphasised(results: &Results, row: usize) -> String {
    let row = &results.rows[row];
    match row.kind {
        Kind::Ours => format!("**{}**", row.title),
        Kind::Theirs => row.title.clone(),
        Kind::Floor => format!("*{}*", row.title),
    }
}

fn dash() -> String {
    "–".to_owned()
}

/// Below 1 we lose, and it is marked.
fn ratio(ratio: f64) -> String {
    let digits = if ratio >= 10.0 {
        0
    } else if ratio >= 1.0 {
        1
    } else {
        2
    };
    format!("{ratio:.digits$}×{}", if ratio < 1.0 { " ▼" } else { "" })
}

/// A figure as people read it.
pub(crate) fn figure(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Rate | Measure::Acked | Measure::Lost => grouped(value),
        Measure::P50Us | Measure::P99Us => time(value),
        Measure::StartMs => time(value * 1e3),
        Measure::CpuUs => format!("{value:.*} µs", if value < 10.0 { 2 } else { 0 }),
        Measure::LoadPercent => format!("{value:.0} %"),
        Measure::RssMib => format!("{value:.0} MiB"),
    }
}

fn time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e4 => format!("{:.1} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// A count with its thousands apart; from ten thousand on three digits are all that is meant.
fn grouped(value: f64) -> String {
    let unit = if value >= 1e4 { 10_f64.powi(value.log10() as i32 - 2) } else { 1.0 };
    let digits = format!("{:.0}", (value / unit).round() * unit);
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A Markdown table with padded columns; all but the first two are aligned to the right, unless they are sentences.
fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3);
    let is_text = |column: usize| column < 2 || lines.iter().any(|line| line[column].chars().count() > 40);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = (0..columns)
            .map(|column| {
                let (cell, width) = (&line[column], width(column));
                let pad = " ".repeat(width - cell.chars().count());
                if is_text(column) { format!("{cell}{pad}") } else { format!("{pad}{cell}") }
            })
            .collect();
        writeln!(text, "| {} |", cells.join(" | ")).expect("a String takes every write");
        if index == 0 {
            let rules: Vec<String> = (0..columns)
                .map(|column| {
                    let rule = "-".repeat(width(column) - 1);
                    if is_text(column) { format!("-{rule}") } else { format!("{rule}:") }
                })
                .collect();
            writeln!(text, "| {} |", rules.join(" | ")).expect("a String takes every write");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::sample_results;
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0.0, 999.0, 9_999.0, 12_345.0, 1_234_567.0].map(grouped),
            ["0", "999", "9,999", "12,300", "1,230,000"]
        );
        assert_eq!([15.0, 1_500.0, 15_000.0, 1.5e6].map(time), ["15 µs", "1.5 ms", "15 ms", "1.5 s"]);
        assert_eq!([0.456, 2.34, 45.6].map(ratio), ["0.46× ▼", "2.3×", "46×"]);
    }

    #[test]
    fn unequal_promises_are_marked_and_compared_with_our_default() {
        let table = table(&sample_results(), Work::Publish(64));
        let line = |who: &str| table.lines().find(|line| line.contains(who)).unwrap().to_owned();
        assert!(line("fair").contains("5.0×") && !line("fair").contains('≠'), "{table}");
        assert!(line("fast").contains("0.50× ▼ ≠"), "{table}");
        assert!(line("**ours**").contains(" 500 |"), "{table}");
    }

    #[test]
    fn the_summary_has_a_column_for_each_work_that_was_done() {
        let summary = summary(&sample_results());
        assert!(summary.starts_with("| promise | who      | publish, 64 in flight |\n"), "{summary}");
        assert_eq!(summary.lines().count(), 6);
    }
}
