//! `ratatoskr bench` against brokers it starts itself, with small loads. No figure is held against a time: machines differ. What has to
//! be there is there, nothing is lost, and the figures belong together.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[allow(dead_code, reason = "each test program uses its part")]
mod program;

use program::{Broker, failed, program};
use serde_json::Value;

/// Runs a workload on a broker of its own, and gives its report.
fn bench(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    command.arg("bench").args(arguments).args(["--json", "--data-dir"]).arg(folder.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "the broker's folder is left: {left:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Looks at a row's figures, and gives the row.
fn row(report: &Value, messages: u64) -> &Value {
    let row = &report["rows"][0];
    assert_eq!(row["messages"], messages, "{report}");
    for figure in ["seconds", "messages_per_second", "megabytes_per_second", "server_rss_bytes"] {
        assert!(row[figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
    }
    assert!(report["floor"]["fdatasync_4k_us"]["p50"].as_f64().unwrap() > 0.0, "{report}");
    row
}

/// Looks at percentiles of so many values.
fn check_latency(latency: &Value, count: u64) {
    let figure = |name: &str| latency[name].as_f64().unwrap();
    assert_eq!(latency["count"], count, "{latency}");
    assert!(
        figure("p50") > 0.0 && figure("p50") <= figure("p99") && figure("p99") <= figure("max"),
        "{latency}"
    );
}

fn check_nothing_wrong(report: &Value) {
    let faults = serde_json::json!({"lost": 0, "duplicated": 0, "reordered": 0});
    assert_eq!(report["faults"], faults, "{report}");
    assert_eq!(report["missed"], serde_json::json!([]), "{report}");
}

#[test]
fn publishing_is_measured_in_every_mode_and_loses_nothing() {
    for mode in ["unary", "batch", "stream"] {
        let load =
            ["--msgs", "2050", "--batch", "100", "--topics", "3", "--clients", "2", "--in-flight", "8"];
        let report = bench(&[&["pub", "--verify", "--mode", mode][..], &load].concat());
        check_latency(&row(&report, 2050)["latency_us"], 2050);
        check_nothing_wrong(&report);
    }
}

#[test]
fn consuming_ends_when_every_ack_is_confirmed() {
    let report = bench(&["consume", "--msgs", "3000", "--members", "3", "--verify"]);
    check_latency(&row(&report, 3000)["latency_us"], 3000);
    check_nothing_wrong(&report);
    let paced = ["consume", "--msgs", "400", "--rate", "2000", "--members", "2", "--verify"];
    check_nothing_wrong(&bench(&paced));
}

#[test]
fn latency_is_measured_at_the_rate_that_was_asked_for() {
    let report = bench(&["latency", "--rate", "500", "--seconds", "1", "--verify"]);
    check_latency(&row(&report, 500)["latency_us"], 500);
    check_nothing_wrong(&report);
    for mode in [["--mode", "unary", "--topics", "3"], ["--mode", "stream", "--topics", "1"]] {
        let report = bench(&[&["e2e", "--rate", "500", "--seconds", "1", "--verify"][..], &mode].concat());
        check_latency(&row(&report, 500)["latency_us"], 500);
        check_nothing_wrong(&report);
    }
}

#[test]
fn every_subscriber_gets_every_message() {
    let report = bench(&["fanout", "--msgs", "500", "--subscribers", "5", "--clients", "2", "--verify"]);
    row(&report, 2500);
    check_nothing_wrong(&report);
    row(&bench(&["fanout", "--msgs", "500", "--subscribers", "5"]), 2500);
    row(&bench(&["sub", "--msgs", "3000"]), 3000);
    check_nothing_wrong(&bench(&["sub", "--msgs", "3000", "--verify"]));
}

#[test]
fn messages_return_after_their_delay_and_not_before() {
    let report = bench(&["redelivery", "--msgs", "300", "--delay-ms", "150"]);
    check_latency(&row(&report, 300)["latency_us"], 300);
    check_latency(&report["rows"][1]["latency_us"], 300);
    assert_eq!(report["missed"], serde_json::json!([]), "{report}");
}

#[test]
fn a_killed_broker_is_started_again_with_all_it_had() {
    let report = bench(&["recovery", "--msgs", "2000", "--topics", "2", "--verify"]);
    check_nothing_wrong(&report);
    let report = bench(&["unsettled", "--msgs", "2000"]);
    let figures = report["figures"].as_array().unwrap();
    assert!(
        figures.iter().any(|figure| figure["name"] == "delivered and nacked: start after kill -9"),
        "{report}"
    );
}

#[test]
fn loads_on_many_topics_and_idle_ones_are_measured() {
    let report = bench(&["topics", "--counts", "1,20", "--msgs", "1000", "--verify", "--rounds", "2"]);
    check_nothing_wrong(&report);
    // Two rounds of two loads, and a median of each.
    assert_eq!(report["rows"].as_array().unwrap().len(), 6);
    let idle = ["idle", "--topics", "10", "--clients", "2", "--subscribers", "5", "--seconds", "1"];
    assert!(bench(&idle)["figures"].as_array().unwrap().len() >= 6);
}

#[test]
fn the_floor_needs_no_broker() {
    let report = bench(&["floor", "--samples", "20", "--seconds", "1"]);
    assert_eq!(report["figures"].as_array().unwrap().len(), 12);
}

#[test]
fn a_broker_somebody_else_runs_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    broker.run(&["topic", "create", "orders"]);
    let said = broker.run(&["bench", "pub", "--msgs", "100", "--verify"]);
    assert!(said.starts_with(&format!("bench pub: server {}", broker.grpc)), "{said}");
    assert!(said.contains("lost") && said.contains("0 messages"), "{said}");
    assert_eq!(broker.run(&["topic", "ls", "--quiet"]), "orders\n");
    let (exit, complaint) = broker.fail(&["bench", "recovery", "--msgs", "10"]);
    assert!(exit == 2 && complaint.contains("kills its broker"), "{exit}: {complaint}");
}

#[test]
fn a_broker_that_is_not_there_is_told_so() {
    let mut command = program();
    let output = command.args(["--server", "127.0.0.1:1", "bench", "pub", "--msgs", "10"]).output().unwrap();
    let (exit, complaint) = failed(&output);
    assert!(exit == 5 && complaint.contains("no broker answers at 127.0.0.1:1"), "{exit}: {complaint}");
}
