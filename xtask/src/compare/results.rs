//! Everything a comparison found: rows (who), works (what), cells, and the conditions it was found under.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::peers::{Peer, Promise};
use super::sample::{Cell, Measure, Sample};
use super::works::Work;

/// Whose figures a row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Theirs,
    /// The machine without a broker.
    Floor,
}

/// One row of the tables.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) title: String,
    pub(crate) promise: Promise,
    /// What an ack means.
    pub(crate) ack: String,
    pub(crate) kind: Kind,
    pub(crate) version: String,
    /// Why there are no figures: it could not be installed.
    pub(crate) unavailable: Option<String>,
}

/// What was found.
#[derive(Default)]
pub(crate) struct Results {
    /// Effective parameters and the machine, in the order to read them.
    pub(crate) conditions: Vec<(&'static str, String)>,
    /// In the order of the tables.
    pub(crate) rows: Vec<Row>,
    /// By row and work.
    cells: BTreeMap<(usize, Work), Cell>,
}

impl Row {
    pub(crate) fn of_peer(peer: &Peer, version: String, unavailable: Option<String>) -> Row {
        let (promise, ack) = peer.promise_of(&version);
        let kind = if peer.tongue == super::peers::Tongue::Ours { Kind::Ours } else { Kind::Theirs };
        Row {
            key: peer.key.to_owned(),
            title: peer.title.to_owned(),
            promise,
            ack: ack.to_owned(),
            kind,
            version,
            unavailable,
        }
    }

    /// The machine itself, for a promise.
    pub(crate) fn of_floor(promise: Promise) -> Row {
        let ack = match promise {
            Promise::Fsync => "sent over loopback, written, `fdatasync`, answered: no broker",
            Promise::Written => "sent over loopback, written, answered: no broker",
            Promise::Memory => "sent over loopback, answered: no broker",
        };
        Row {
            key: format!("floor-{}", promise.word()),
            title: "the machine itself".to_owned(),
            promise,
            ack: ack.to_owned(),
            kind: Kind::Floor,
            version: String::new(),
            unavailable: None,
        }
    }
}

impl Results {
    /// Nothing found yet.
    pub(crate) fn under(conditions: Vec<(&'static str, String)>) -> Results {
        Results { conditions, ..Results::default() }
    }

    pub(crate) fn add(&mut self, row: usize, work: Work, sample: Sample) {
        self.cells.entry((row, work)).or_default().samples.push(sample);
    }

    pub(crate) fn cell(&self, row: usize, work: Work) -> Option<&Cell> {
        self.cells.get(&(row, work))
    }

    /// Works somebody was asked to do, in order.
    pub(crate) fn works(&self) -> Vec<Work> {
        Work::ALL.into_iter().filter(|work| self.cells.keys().any(|(_, done)| done == work)).collect()
    }

    /// Rows with a cell for a work, grouped by promise: the floor, ours, theirs by how well they did.
    pub(crate) fn ranked(&self, work: Work) -> Vec<usize> {
        let mut rows: Vec<usize> =
            (0..self.rows.len()).filter(|row| self.cell(*row, work).is_some()).collect();
        let main = work.main();
        rows.sort_by(|a, b| {
            let place = |row: usize| {
                let kind = match self.rows[row].kind {
                    Kind::Floor => 0,
                    Kind::Ours => 1,
                    Kind::Theirs => 2,
                };
                (self.rows[row].promise, kind)
            };
            // Better first; who has no figure last.
            let value = |row: usize| {
                let median = self.cell(row, work).and_then(|cell| cell.median(main));
                median.map_or(f64::INFINITY, |median| if main.is_better_high() { -median } else { median })
            };
            place(*a).cmp(&place(*b)).then(value(*a).total_cmp(&value(*b)))
        });
        rows
    }

    /// Our row for a promise that has a figure for a work.
    pub(crate) fn ours(&self, promise: Promise, work: Work) -> Option<usize> {
        (0..self.rows.len()).find(|row| {
            let is_ours = self.rows[*row].kind == Kind::Ours && self.rows[*row].promise == promise;
            is_ours && self.cell(*row, work).is_some()
        })
    }

    /// How many times better our row of a promise is than a row, in the main measure of a work; below 1 we lose.
    pub(crate) fn ratio(&self, promise: Promise, row: usize, work: Work) -> Option<f64> {
        let main = work.main();
        let median = |row| self.cell(row, work).and_then(|cell| cell.median(main));
        let (ours, theirs) = (median(self.ours(promise, work)?)?, median(row)?);
        let ratio = if main.is_better_high() { ours / theirs } else { theirs / ours };
        ratio.is_finite().then_some(ratio)
    }

    pub(crate) fn json(&self) -> Value {
        let conditions: serde_json::Map<_, _> =
            self.conditions.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let rows: Vec<_> = (0..self.rows.len())
            .map(|index| {
                let row = &self.rows[index];
                let works: serde_json::Map<_, _> = Work::ALL
                    .into_iter()
                    .filter_map(|work| Some((work.key(), self.cell(index, work)?.json())))
                    .collect();
                json!({
                    "key": row.key, "title": row.title, "promise": row.promise.word(), "ack": row.ack,
                    "version": row.version, "unavailable": row.unavailable, "works": works,
                })
            })
            .collect();
        json!({"conditions": conditions, "rows": rows})
    }
}

impl Work {
    /// The measure that ranks it.
    pub(crate) fn main(self) -> Measure {
        match self {
            Work::Publish(_) | Work::Batches | Work::FanOut(_) | Work::Consume => Measure::Rate,
            Work::Start => Measure::RssMib,
            Work::Latency => Measure::P99Us,
            Work::Kill | Work::Power => Measure::Lost,
            Work::Recovery => Measure::StartMs,
        }
    }
}

impl Measure {
    /// Whether more is better.
    pub(crate) fn is_better_high(self) -> bool {
        matches!(self, Measure::Rate | Measure::Acked)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Our fsync row, and three of theirs.
    pub(crate) fn sample_results() -> Results {
        let row = |key: &str, promise, kind| Row {
            key: key.to_owned(),
            title: key.to_owned(),
            promise,
            ack: "ack".to_owned(),
            kind,
            version: "1.0".to_owned(),
            unavailable: None,
        };
        let mut results = Results {
            conditions: vec![("machine", "test".to_owned())],
            rows: vec![
                row("fast", Promise::Memory, Kind::Theirs),
                row("ours", Promise::Fsync, Kind::Ours),
                row("slow", Promise::Fsync, Kind::Theirs),
                row("fair", Promise::Fsync, Kind::Theirs),
            ],
            cells: BTreeMap::new(),
        };
        for (row, rate) in [(0, 1000.0), (1, 500.0), (2, 50.0), (3, 100.0)] {
            let values = [(Measure::Rate, rate), (Measure::P50Us, 1e6 / rate)];
            results.add(row, Work::Publish(64), Sample::of(values));
        }
        results
    }

    #[test]
    fn equal_promises_stand_together_ours_first_then_the_better_ones() {
        let results = sample_results();
        let keys: Vec<_> =
            results.ranked(Work::Publish(64)).iter().map(|row| results.rows[*row].key.as_str()).collect();
        assert_eq!(keys, ["ours", "fair", "slow", "fast"]);
    }

    #[test]
    fn a_ratio_above_one_means_that_we_are_better() {
        let mut results = sample_results();
        assert_eq!(results.ratio(Promise::Fsync, 3, Work::Publish(64)), Some(5.0));
        assert_eq!(results.ratio(Promise::Fsync, 0, Work::Publish(64)), Some(0.5));
        assert_eq!(results.ratio(Promise::Memory, 0, Work::Publish(64)), None);
        results.add(1, Work::Latency, Sample::of([(Measure::P99Us, 10.0)]));
        results.add(2, Work::Latency, Sample::of([(Measure::P99Us, 40.0)]));
        assert_eq!(results.ratio(Promise::Fsync, 2, Work::Latency), Some(4.0));
    }
}
