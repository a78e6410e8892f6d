//! [`Latencies`]: many durations as a histogram, and the few figures people read.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Anything longer counts as this long: an hour, in nanoseconds.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// Three digits are kept: a figure is off by 0.1 % at most.
const DIGITS: u8 = 3;

/// Durations seen so far.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// The figures of a histogram, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// Half are no longer than this.
    pub p50_us: f64,
    /// 99 of 100 are no longer than this.
    pub p99_us: f64,
    /// 999 of 1,000 are no longer than this.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// How many there are.
    pub count: u64,
}

impl Latencies {
    pub(crate) fn new() -> Latencies {
        Latencies(Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("the bounds are constant and fit"))
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.0.saturating_record(took.as_nanos() as u64);
    }

    /// The same duration several times: messages of one batch share theirs.
    pub(crate) fn record_many(&mut self, took: Duration, count: u64) {
        self.0.saturating_record_n(took.as_nanos() as u64, count);
    }

    /// What people read; `None` if nothing was recorded.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let us = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        (!self.0.is_empty()).then(|| Percentiles {
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: self.0.max() as f64 / 1e3,
            count: self.0.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), None);
        latencies.record_many(Duration::from_micros(100), 990);
        latencies.record_many(Duration::from_millis(5), 10);
        let seen = latencies.percentiles().unwrap();
        assert!((seen.p50_us - 100.0).abs() < 0.2 && (seen.p99_us - 100.0).abs() < 0.2, "{seen:?}");
        assert!((seen.p999_us - 5000.0).abs() < 6.0 && (seen.max_us - 5000.0).abs() < 6.0, "{seen:?}");
        assert_eq!(seen.count, 1000);
    }

    #[test]
    fn what_takes_longer_than_an_hour_is_not_forgotten() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_secs(100_000));
        assert_eq!(latencies.percentiles().unwrap().count, 1);
    }
}
