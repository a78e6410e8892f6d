//! The loads, put to our own server: by `ratatoskr bench`, the project's own load generator, over gRPC.
//!
//! ```text
//!   probe (a small load) ─▶ rate ─▶ the load, with as many messages as fit into the time ─▶ its row of the JSON report
//! ```
//!
//! Peers are driven for a time, `bench` with a number of messages; the probe makes one of the other.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::amounts::{Amounts, BATCH, BATCH_IN_FLIGHT, MESSAGES_MAX};
use super::consume::MEMBERS;
use super::publish::CONNECTIONS;
use super::sample::{Measure, Sample};
use super::server::{Server, Setup};
use super::theirs::held;
use super::works::Work;
use crate::failed::{Failed, Outcome, While};
use crate::workshop::read;

/// Does one piece of work.
pub(crate) fn measure(setup: &Setup, server: &Server, work: Work, amounts: &Amounts) -> Outcome<Sample> {
    let run = |words: &[&str]| -> Outcome<Value> {
        let mut command = Command::new(&setup.program.path);
        command.arg("bench").args(words).args(["--durability", setup.peer.setting]);
        command.args(["--size", &amounts.size.to_string(), "--json", "--no-progress"]);
        command.args(["--server", &setup.address.to_string(), "--server-pid", &server.pid().to_string()]);
        report(&mut command)
    };
    let Some((words, probe)) = words(work, amounts) else {
        return Err(Failed::new("this is no load on a running server"));
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let report = match probe {
        Some(probe) => {
            let probed = run(&[&words[..], &["--msgs", &probe.to_string()]].concat())?;
            let messages = messages_for(&probed["rows"][0], probe, amounts.time);
            run(&[&words[..], &["--msgs", &messages.to_string()]].concat())?
        }
        None => run(&words)?,
    };
    let sample = Sample::of(values(&report["rows"][0]));
    if work != Work::Latency {
        return Ok(sample);
    }
    let delivered = report["rows"][0]["messages"].as_u64().unwrap_or(0);
    let took = Duration::from_secs_f64(report["rows"][0]["seconds"].as_f64().unwrap_or(1.0).max(1e-3));
    Ok(sample.noted(held(delivered, took, amounts.rate)))
}

/// A million messages, `kill -9`, and the start: `bench` does it with a broker of its own.
pub(crate) fn recovery(program: &Path, parent: &Path, amounts: &Amounts) -> Outcome<Sample> {
    let mut command = Command::new(program);
    command.args(["bench", "recovery", "--json", "--no-progress", "--msgs", &amounts.recovery.to_string()]);
    command.args(["--size", &amounts.size.to_string(), "--data-dir"]).arg(parent);
    let report = report(&mut command)?;
    let figure = |name: &str| {
        let figures = report["figures"].as_array().into_iter().flatten();
        let mut named =
            figures.filter(|figure| figure["name"].as_str().is_some_and(|told| told.starts_with(name)));
        named.next().and_then(|figure| figure["value"].as_f64())
    };
    let start = figure("start after kill").ok_or_else(|| Failed::new("bench recovery told no start"))?;
    let there = figure("messages there").unwrap_or(0.0);
    Ok(Sample::of([
        (Measure::StartMs, start / 1e3),
        (Measure::RssMib, figure("memory after").unwrap_or(f64::NAN)),
        (Measure::Acked, amounts.recovery as f64),
        (Measure::Lost, (amounts.recovery as f64 - there).max(0.0)),
    ]))
}

fn report(command: &mut Command) -> Outcome<Value> {
    serde_json::from_str(&read(command)?).when("reading the report of `ratatoskr bench`")
}

/// The words of `bench` for a work, and how many messages probe it; without a probe the words say how much.
fn words(work: Work, amounts: &Amounts) -> Option<(Vec<String>, Option<u64>)> {
    let words = |line: String| line.split(' ').map(str::to_owned).collect();
    let (line, probe) = match work {
        Work::Publish(in_flight) => {
            let clients = in_flight.min(CONNECTIONS);
            (
                format!("pub --in-flight {in_flight} --clients {clients}"),
                Some(200 * u64::from(in_flight.min(100))),
            )
        }
        Work::Batches => {
            let requests = BATCH_IN_FLIGHT / BATCH;
            let line =
                format!("pub --mode stream --batch {BATCH} --in-flight {requests} --clients {CONNECTIONS}");
            (line, Some(50_000))
        }
        Work::FanOut(subscribers) => {
            let clients = subscribers.min(CONNECTIONS);
            (
                format!("fanout --subscribers {subscribers} --clients {clients}"),
                Some(100 + 20_000 / u64::from(subscribers)),
            )
        }
        Work::Consume => (format!("consume --members {MEMBERS} --msgs {}", amounts.fill), None),
        Work::Latency => {
            let seconds = amounts.rate_time.as_secs().max(1);
            (format!("e2e --rate {} --seconds {seconds} --clients {CONNECTIONS}", amounts.rate), None)
        }
        Work::Start | Work::Kill | Work::Recovery | Work::Power => return None,
    };
    Some((words(line), probe))
}

/// Messages to publish so that the load takes about this time.
fn messages_for(row: &Value, probe: u64, time: Duration) -> u64 {
    let seconds = row["seconds"].as_f64().unwrap_or(1.0).max(1e-6);
    // The probe is short, and the start of a load slower than its middle: never less than it was.
    ((probe as f64 / seconds * time.as_secs_f64()) as u64).clamp(probe, MESSAGES_MAX)
}

fn values(row: &Value) -> Vec<(Measure, f64)> {
    let told = [
        (Measure::Rate, &row["messages_per_second"]),
        (Measure::P50Us, &row["latency_us"]["p50"]),
        (Measure::P99Us, &row["latency_us"]["p99"]),
        (Measure::CpuUs, &row["server_cpu_us_per_message"]),
        (Measure::LoadPercent, &row["bench_cpu_percent"]),
    ];
    told.into_iter().filter_map(|(measure, value)| Some((measure, value.as_f64()?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_probe_makes_a_number_of_messages_out_of_a_time() {
        let row = json!({"seconds": 0.5});
        assert_eq!(messages_for(&row, 1_000, Duration::from_secs(2)), 4_000);
        // Slower than hoped for: the probe again, not less.
        assert_eq!(messages_for(&json!({"seconds": 60.0}), 1_000, Duration::from_secs(1)), 1_000);
    }

    #[test]
    fn what_bench_does_not_tell_is_left_out() {
        let row = json!({"messages_per_second": 7.0, "latency_us": null, "server_cpu_us_per_message": 2.5});
        assert_eq!(values(&row), [(Measure::Rate, 7.0), (Measure::CpuUs, 2.5)]);
    }

    #[test]
    fn the_words_say_the_same_work_as_peers_get() {
        let amounts = Amounts::full(1.0);
        let line = |work| words(work, &amounts).map(|(words, _)| words.join(" "));
        assert_eq!(line(Work::Publish(1)).unwrap(), "pub --in-flight 1 --clients 1");
        assert_eq!(line(Work::Batches).unwrap(), "pub --mode stream --batch 100 --in-flight 16 --clients 8");
        assert_eq!(line(Work::Latency).unwrap(), "e2e --rate 5000 --seconds 2 --clients 8");
        assert_eq!(line(Work::Kill), None);
    }
}
