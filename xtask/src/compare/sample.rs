//! What a measurement gives, and what several rounds of it come to.
//!
//! ```text
//!   Sample (one round) ─┬─▶ Cell: median, smallest and largest of each measure ─▶ tables, plots, JSON
//!   Sample (one round) ─┘
//! ```

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What can be measured of one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    /// Messages (fan-out: deliveries) a second.
    Rate,
    P50Us,
    P99Us,
    /// Processor time of the server for each message, microseconds.
    CpuUs,
    /// Processor time of the load generator, in percent of a core: near 100 it is the limit.
    LoadPercent,
    StartMs,
    RssMib,
    /// Messages that were acknowledged.
    Acked,
    /// Of those, messages that were gone.
    Lost,
}

impl Measure {
    pub(crate) fn key(self) -> &'static str {
        match self {
            Measure::Rate => "messages_per_second",
            Measure::P50Us => "p50_us",
            Measure::P99Us => "p99_us",
            Measure::CpuUs => "server_cpu_us_per_message",
            Measure::LoadPercent => "load_generator_cpu_percent",
            Measure::StartMs => "start_ms",
            Measure::RssMib => "rss_mib",
            Measure::Acked => "acknowledged",
            Measure::Lost => "lost",
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) values: BTreeMap<Measure, f64>,
    /// What a reader has to know about it: a rate that was not held, a load that was cut short.
    pub(crate) note: Option<String>,
}

impl Sample {
    pub(crate) fn of(values: impl IntoIterator<Item = (Measure, f64)>) -> Sample {
        Sample { values: values.into_iter().filter(|(_, value)| value.is_finite()).collect(), note: None }
    }

    /// A measurement that could not be made.
    pub(crate) fn missing(why: impl Into<String>) -> Sample {
        Sample { values: BTreeMap::new(), note: Some(why.into()) }
    }

    pub(crate) fn noted(mut self, note: Option<String>) -> Sample {
        self.note = note;
        self
    }
}

/// The middle of several rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Spread { median, min, max })
    }
}

/// All rounds of one peer at one work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    pub(crate) samples: Vec<Sample>,
}

impl Cell {
    pub(crate) fn spread(&self, measure: Measure) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|sample| sample.values.get(&measure).copied()).collect())
    }

    pub(crate) fn median(&self, measure: Measure) -> Option<f64> {
        self.spread(measure).map(|spread| spread.median)
    }

    /// The notes of all rounds, each once.
    pub(crate) fn notes(&self) -> Vec<&str> {
        let mut notes: Vec<&str> = self.samples.iter().filter_map(|sample| sample.note.as_deref()).collect();
        notes.sort_unstable();
        notes.dedup();
        notes
    }

    pub(crate) fn json(&self) -> Value {
        let measures: std::collections::BTreeSet<Measure> =
            self.samples.iter().flat_map(|sample| sample.values.keys().copied()).collect();
        let mut object = serde_json::Map::new();
        for measure in measures {
            let rounds: Vec<_> =
                self.samples.iter().filter_map(|sample| sample.values.get(&measure)).collect();
            if let Some(Spread { median, min, max }) = self.spread(measure) {
                let value = json!({"median": median, "min": min, "max": max, "rounds": rounds});
                object.insert(measure.key().to_owned(), value);
            }
        }
        let notes = self.notes();
        if !notes.is_empty() {
            object.insert("notes".to_owned(), json!(notes));
        }
        Value::Object(object)
    }
}

/// Latencies of one load, in microseconds.
#[derive(Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    pub(crate) fn record(&mut self, latency: std::time::Duration) {
        self.0.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// The median and the 99th percentile.
    pub(crate) fn measures(mut self) -> Vec<(Measure, f64)> {
        self.0.sort_unstable();
        [(Measure::P50Us, 0.5), (Measure::P99Us, 0.99)]
            .into_iter()
            .filter_map(|(measure, share)| {
                let rank = ((self.0.len() as f64 * share).ceil() as usize).max(1) - 1;
                Some((measure, f64::from(*self.0.get(rank)?)))
            })
            .collect()
    }

    pub(crate) fn append(&mut self, mut other: Latencies) {
        self.0.append(&mut other.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(vec![1.0, 2.0]).unwrap().median.to_bits(), 1.5_f64.to_bits());
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut latencies = Latencies::default();
        for us in 1..=100 {
            latencies.record(std::time::Duration::from_micros(us));
        }
        assert_eq!(latencies.measures(), [(Measure::P50Us, 50.0), (Measure::P99Us, 99.0)]);
        assert_eq!(Latencies::default().measures(), []);
    }

    #[test]
    fn a_cell_tells_each_note_once_and_leaves_out_what_is_not_there() {
        let rounds = [10.0, f64::NAN, 30.0].map(|rate| Sample::of([(Measure::Rate, rate)]));
        let mut cell = Cell { samples: rounds.to_vec() };
        cell.samples[0].note = Some("cut short".into());
        cell.samples[2].note = Some("cut short".into());
        assert_eq!((cell.median(Measure::Rate), cell.notes()), (Some(20.0), vec!["cut short"]));
        assert_eq!(cell.json()["messages_per_second"]["rounds"], json!([10.0, 30.0]));
    }
}
