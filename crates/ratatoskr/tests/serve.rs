//! The broker as a program: its banner, its signals, its refusals to start.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[allow(dead_code, reason = "each test program uses its part")]
mod program;

use program::{Broker, failed, program};

#[test]
fn the_banner_says_where_it_listens_what_it_holds_and_what_an_ack_means() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    assert!(broker.banner.starts_with("ratatoskr 0."), "{}", broker.banner);
    assert!(!broker.grpc.ends_with(":0"), "{}", broker.banner);
    assert!(broker.banner.contains("data       ./data (no topics yet)"), "{}", broker.banner);
    assert!(
        broker.banner.contains("on disk and survives a power cut (durability fsync)"),
        "{}",
        broker.banner
    );
    assert_eq!(broker.run(&["topic", "ls"]), "");
}

#[test]
fn a_broker_that_is_asked_to_stop_ends_with_0_and_finds_everything_again() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    broker.run(&["pub", "orders", "one"]);
    assert_eq!(broker.terminate().code(), Some(0));

    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    assert!(broker.banner.contains("data       ./data (1 topic, 1 message)"), "{}", broker.banner);
    assert!(broker.banner.contains("recovery   none needed"), "{}", broker.banner);
    assert_eq!(broker.run(&["sub", "orders", "--from", "earliest", "--count", "1", "--raw"]), "one\n");
}

#[test]
fn a_second_broker_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Broker::start(folder.path(), "127.0.0.1:0");
    let second = program()
        .args(["serve", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let (code, complaint) = failed(&second);
    assert_eq!(code, 1);
    assert!(complaint.contains("./data"), "{complaint}");
    assert_eq!(first.run(&["topic", "ls"]), "");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Broker::start(folders[0].path(), "127.0.0.1:0");
    let second = program()
        .args(["serve", "--grpc-addr", &first.grpc])
        .current_dir(folders[1].path())
        .output()
        .unwrap();
    let (code, complaint) = failed(&second);
    assert_eq!(code, 1);
    assert!(complaint.contains(&format!("gRPC cannot listen on {}", first.grpc)), "{complaint}");
}

#[test]
fn a_wrong_configuration_is_told_before_anything_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ratatoskr.toml"), "threads = 1\nretention_aeg = \"1d\"\n").unwrap();
    let output = program().arg("serve").current_dir(folder.path()).output().unwrap();
    let expected =
        "error: unknown setting \"retention_aeg\" (ratatoskr.toml:2); did you mean retention_age?\n";
    assert_eq!(failed(&output), (2, expected.to_owned()));
    assert!(!folder.path().join("data").exists());

    let output = program().args(["serve", "--grpc-addr", "0.0.0.0:0"]).output().unwrap();
    let (code, complaint) = failed(&output);
    assert_eq!(code, 2);
    assert!(complaint.contains("--insecure-listen"), "{complaint}");
}

#[test]
fn config_shows_every_value_and_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ratatoskr.toml"), "segment_bytes = \"8MiB\"\n").unwrap();
    let mut command = program();
    command.args(["config", "--threads", "3"]).env("RATATOSKR_LOG_LEVEL", "warn").current_dir(folder.path());
    let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
    for line in [
        "threads\t3\t--threads",
        "segment_bytes\t8MiB\tratatoskr.toml:1",
        "log_level\twarn\tRATATOSKR_LOG_LEVEL",
        "retention_age\t7d\tdefault",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in:\n{shown}");
    }
}

#[test]
fn the_flags_of_serve_reach_the_topics_it_creates() {
    let folder = tempfile::tempdir().unwrap();
    let config = "durability = \"written\"\nretention_age = \"2h\"\nmessage_bytes_max = \"10\"\n";
    std::fs::write(folder.path().join("ratatoskr.toml"), config).unwrap();
    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    assert!(broker.banner.contains("durability written"), "{}", broker.banner);
    broker.run(&["pub", "by-publish", "x"]);
    broker.run(&["topic", "create", "by-hand"]);
    for topic in ["by-publish", "by-hand"] {
        let shown = broker.run(&["topic", "show", topic]);
        for line in ["durability\twritten", "retention_age_ms\t7200000", "message_bytes_max\t10"] {
            assert!(shown.contains(line), "{topic}: {line} is not in:\n{shown}");
        }
    }
}
