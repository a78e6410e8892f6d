//! [`Report`]: what a run found, as tables for people or one JSON object.
//!
//! ```text
//!   pub: server own broker, durability fsync, size 256, …           parameters, one line
//!   floor: write+fdatasync of 4 KiB p50 … p99 …, TCP ping-pong p50 …
//!   ┄ messages  msg/s  MB/s  p50  p99  p99.9  max  CPU µs/msg  RSS ┄  a row per load; with rounds, a median row
//!   what                                              value         single figures
//! ```
//!
//! Rates count payload bytes. Latencies are in microseconds here and in JSON; `null` or `-` is what could not be seen. What a
//! column means stands in `docs/benchmark.md`. A report judges nothing: `missed` is filled by who knows the promise.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::floor::Floor;
use crate::latency::Percentiles;
use crate::ledger::Faults;

/// Bytes of a megabyte, as disks and networks count them.
const MB: f64 = 1e6;
/// Bytes of a mebibyte, as memory is counted.
const MIB: f64 = 1_048_576.0;

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The sub-command.
    pub workload: &'static str,
    /// Effective parameters: name and value, in the order to read them.
    pub parameters: Vec<(&'static str, String)>,
    /// The physical reference of the same run, where it matters.
    pub floor: Option<Floor>,
    /// Loads, in the order they ran.
    pub rows: Vec<Row>,
    /// Single figures.
    pub figures: Vec<Figure>,
    /// Lost, duplicated and reordered messages, if they were counted.
    pub faults: Option<Faults>,
    /// Promises that were not kept, each a sentence. Not empty: the run has failed.
    pub missed: Vec<String>,
}

/// One load and what it cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Which load.
    pub name: String,
    /// Messages that count.
    pub messages: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Payload of those messages.
    pub payload_bytes: u64,
    /// Of what, the name says.
    pub latency: Option<Percentiles>,
    /// Processor time of the broker, all cores; `None` if its process is not ours to see.
    pub server_cpu_seconds: Option<f64>,
    /// Resident memory of the broker at the end, bytes.
    pub server_rss_bytes: Option<u64>,
    /// Processor time of the load generator.
    pub bench_cpu_seconds: f64,
}

/// One figure with its unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

impl Figure {
    /// A figure.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { name: name.into(), value, unit }
    }

    /// A size in mebibytes.
    pub fn mib(name: impl Into<String>, bytes: u64) -> Figure {
        Figure::new(name, bytes as f64 / MIB, "MiB")
    }

    /// The figures of a histogram, one for each quantile.
    pub(crate) fn percentiles(name: &str, seen: Option<Percentiles>) -> Vec<Figure> {
        let Some(seen) = seen else { return Vec::new() };
        [("p50", seen.p50_us), ("p99", seen.p99_us), ("p99.9", seen.p999_us), ("max", seen.max_us)]
            .map(|(quantile, us)| Figure::new(format!("{name}, {quantile}"), us, "µs"))
            .into()
    }
}

impl Row {
    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds.max(1e-9)
    }

    fn megabytes_per_second(&self) -> f64 {
        self.payload_bytes as f64 / MB / self.seconds.max(1e-9)
    }

    fn server_cpu_us_per_message(&self) -> Option<f64> {
        self.server_cpu_seconds.map(|seconds| seconds * 1e6 / self.messages.max(1) as f64)
    }

    fn bench_cpu_percent(&self) -> f64 {
        self.bench_cpu_seconds * 100.0 / self.seconds.max(1e-9)
    }

    fn json(&self) -> Value {
        let latency = self.latency.map(|seen| percentiles_json(&seen));
        json!({
            "name": self.name,
            "messages": self.messages,
            "seconds": self.seconds,
            "messages_per_second": self.rate(),
            "megabytes_per_second": self.megabytes_per_second(),
            "latency_us": latency,
            "server_cpu_us_per_message": self.server_cpu_us_per_message(),
            "server_rss_bytes": self.server_rss_bytes,
            "bench_cpu_percent": self.bench_cpu_percent(),
        })
    }

    fn cells(&self) -> Vec<String> {
        let latency = |pick: fn(&Percentiles) -> f64| {
            self.latency.as_ref().map_or_else(|| "-".to_owned(), |seen| in_time(pick(seen)))
        };
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            self.name.clone(),
            grouped(self.messages as f64),
            grouped(self.rate()),
            format!("{:.1}", self.megabytes_per_second()),
            latency(|seen| seen.p50_us),
            latency(|seen| seen.p99_us),
            latency(|seen| seen.p999_us),
            latency(|seen| seen.max_us),
            or_dash(self.server_cpu_us_per_message().map(|us| format!("{us:.2} µs"))),
            or_dash(self.server_rss_bytes.map(|bytes| format!("{:.1} MiB", bytes as f64 / MIB))),
            format!("{:.0} %", self.bench_cpu_percent()),
        ]
    }
}

const HEADINGS: [&str; 11] =
    ["load", "messages", "msg/s", "MB/s", "p50", "p99", "p99.9", "max", "CPU/msg", "RSS", "bench CPU"];

impl Report {
    /// The line of effective parameters.
    pub fn headline(&self) -> String {
        let parameters: Vec<_> =
            self.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
        format!("bench {}: {}", self.workload, parameters.join(", "))
    }

    /// Everything below the headline, for people.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        if let Some(floor) = &self.floor {
            text.push_str(&floor_line(floor));
        }
        if !self.rows.is_empty() {
            let mut table = plain_table();
            table.set_header(HEADINGS);
            for row in &with_medians(&self.rows) {
                table.add_row(row.cells());
            }
            text.push_str(&aligned(table));
        }
        let faults = self.faults.iter().flat_map(|faults| {
            [("lost", faults.lost), ("duplicated", faults.duplicated), ("reordered", faults.reordered)]
                .map(|(name, count)| Figure::new(name, count as f64, "messages"))
        });
        let figures: Vec<Figure> = self.figures.iter().cloned().chain(faults).collect();
        if !figures.is_empty() {
            let mut table = plain_table();
            for figure in &figures {
                table.add_row([figure.name.clone(), in_words(figure)]);
            }
            text.push_str(&aligned(table));
        }
        text
    }

    /// One JSON object.
    pub fn json(&self) -> Value {
        let parameters: serde_json::Map<_, _> =
            self.parameters.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let figures: Vec<_> = self
            .figures
            .iter()
            .map(|figure| json!({"name": figure.name, "value": figure.value, "unit": figure.unit}))
            .collect();
        json!({
            "workload": self.workload,
            "parameters": parameters,
            "floor": self.floor.map(|floor| json!({
                "fdatasync_4k_us": floor.sync.map(|seen| percentiles_json(&seen)),
                "tcp_ping_us": percentiles_json(&floor.ping),
            })),
            "rows": with_medians(&self.rows).iter().map(Row::json).collect::<Vec<_>>(),
            "figures": figures,
            "faults": self.faults.map(|faults| json!({
                "lost": faults.lost, "duplicated": faults.duplicated, "reordered": faults.reordered,
            })),
            "missed": self.missed,
        })
    }
}

fn percentiles_json(seen: &Percentiles) -> Value {
    json!({"p50": seen.p50_us, "p99": seen.p99_us, "p99.9": seen.p999_us, "max": seen.max_us, "count": seen.count})
}

fn floor_line(floor: &Floor) -> String {
    let sync = floor.sync.map_or_else(String::new, |seen| {
        format!("write+fdatasync of 4 KiB p50 {}, p99 {}; ", in_time(seen.p50_us), in_time(seen.p99_us))
    });
    format!("floor: {sync}TCP ping-pong p50 {}\n", in_time(floor.ping.p50_us))
}

/// The rows, and behind loads that ran more than once the round in the middle, by rate.
fn with_medians(rows: &[Row]) -> Vec<Row> {
    let mut names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    names.dedup();
    let mut all = rows.to_vec();
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let mut rounds: Vec<&Row> = rows.iter().filter(|row| row.name == name).collect();
        if rounds.len() < 2 {
            continue;
        }
        rounds.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
        let (slowest, fastest) = (rounds[0].rate(), rounds[rounds.len() - 1].rate());
        let middle = rounds[(rounds.len() - 1) / 2];
        let spread = (fastest - slowest) * 100.0 / middle.rate().max(1e-9);
        all.push(Row { name: format!("{name}, median (spread {spread:.0} %)"), ..middle.clone() });
    }
    all
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn aligned(mut table: Table) -> String {
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}

fn in_words(figure: &Figure) -> String {
    match figure.unit {
        "µs" => in_time(figure.value),
        unit if figure.value.fract() == 0.0 => format!("{} {unit}", grouped(figure.value)),
        unit => format!("{:.2} {unit}", figure.value),
    }
}

/// Microseconds as people read them.
fn in_time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A count with its thousands apart.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, messages: u64) -> Row {
        Row {
            name: name.to_owned(),
            messages,
            seconds: 2.0,
            payload_bytes: messages * 100,
            latency: Some(Percentiles {
                p50_us: 90.0,
                p99_us: 1500.0,
                p999_us: 2e6,
                max_us: 3e6,
                count: messages,
            }),
            server_cpu_seconds: Some(1.0),
            server_rss_bytes: Some(14 << 20),
            bench_cpu_seconds: 0.5,
        }
    }

    #[test]
    fn a_row_shows_what_a_message_cost() {
        let cells = row("unary", 1_000_000).cells();
        let expected = [
            "unary",
            "1,000,000",
            "500,000",
            "50.0",
            "90 µs",
            "1.50 ms",
            "2.00 s",
            "3.00 s",
            "1.00 µs",
            "14.0 MiB",
            "25 %",
        ];
        assert_eq!(cells, expected);
    }

    #[test]
    fn what_could_not_be_seen_is_a_dash_or_null() {
        let row = Row { latency: None, server_cpu_seconds: None, ..row("remote", 10) };
        assert_eq!((row.cells()[4].as_str(), row.cells()[8].as_str()), ("-", "-"));
        assert!(row.json()["latency_us"].is_null() && row.json()["server_cpu_us_per_message"].is_null());
    }

    #[test]
    fn rounds_end_with_the_one_in_the_middle() {
        let rows = [row("a", 100), row("b", 7), row("a", 300), row("a", 200)];
        let shown = with_medians(&rows);
        assert_eq!(shown.len(), 5);
        assert_eq!((shown[4].name.as_str(), shown[4].messages), ("a, median (spread 100 %)", 200));
    }

    #[test]
    fn json_names_the_faults_and_what_was_missed() {
        let report = Report {
            workload: "pub",
            parameters: vec![("size", "256".to_owned())],
            rows: vec![row("unary", 10)],
            faults: Some(Faults { lost: 1, ..Faults::default() }),
            missed: vec!["1 message was lost".to_owned()],
            ..Report::default()
        };
        let json = report.json();
        assert_eq!(json["faults"]["lost"], 1);
        assert_eq!(json["missed"][0], "1 message was lost");
        assert_eq!(json["rows"][0]["messages_per_second"], 5.0);
        assert_eq!(report.headline(), "bench pub: size 256");
        assert!(report.tables().contains("lost"));
    }
}
