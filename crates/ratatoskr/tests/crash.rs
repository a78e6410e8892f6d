//! `kill -9` in the middle: what was acknowledged is there, and both ends go on.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[allow(dead_code, reason = "each test program uses its part")]
mod program;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use program::{Broker, numbered_lines, printed, until};

/// Enough that a broker can be killed before they are all in.
const LINES: usize = 400_000;

fn messages_held(broker: &Broker, topic: &str) -> usize {
    let stats = broker.command(&["stats", topic]).output().unwrap().stdout;
    let stats = String::from_utf8(stats).unwrap();
    stats.lines().find_map(|line| line.strip_prefix("messages\t")).map_or(0, |count| count.parse().unwrap())
}

#[test]
fn lines_published_across_two_kills_come_back_in_order_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (path, text) = numbered_lines(folder.path(), LINES);
    let mut broker = Broker::start(folder.path(), "127.0.0.1:0");
    let grpc = broker.grpc.clone();
    for mark in [LINES / 10, LINES / 2] {
        let mut command = broker.command(&[
            "pub",
            "log",
            "--lines",
            "--resume",
            "--json",
            "--file",
            path.to_str().unwrap(),
        ]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let before =
            until("the topic fills", || Some(messages_held(&broker, "log")).filter(|held| *held >= mark));
        broker.kill_nine();
        let (status, account, complaint) = printed(child);
        assert_eq!(status.code(), Some(5), "{complaint}");
        let account = String::from_utf8(account).unwrap();
        let number = |name: &str| {
            let rest = account.split_once(&format!("\"{name}\":")).unwrap().1;
            rest.split([',', '}']).next().unwrap().parse::<usize>().unwrap()
        };
        let acknowledged = number("skipped") + number("acknowledged");
        assert!(complaint.contains(&format!("--skip {acknowledged}")), "{complaint}");

        broker = Broker::start(folder.path(), &grpc);
        assert!(broker.banner.contains("the last run ended without warning"), "{}", broker.banner);
        let held = messages_held(&broker, "log");
        assert!(
            held >= acknowledged && held >= before,
            "{held} held, {acknowledged} acknowledged, {before} seen"
        );
    }
    broker.run(&["pub", "log", "--lines", "--resume", "--file", path.to_str().unwrap()]);
    let read_back = broker.run_bytes(&["sub", "log", "--from", "earliest", "--until-end", "--raw"]);
    assert!(read_back == text, "{} bytes came back of {}", read_back.len(), text.len());
}

#[test]
fn a_subscriber_goes_on_where_it_was_when_the_broker_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    let grpc = broker.grpc.clone();
    broker.run(&["pub", "news", "one"]);
    let mut command = broker.command(&["sub", "news", "--from", "earliest", "--raw", "--count", "3"]);
    let mut subscriber = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(subscriber.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    broker.kill_nine();

    let broker = Broker::start(folder.path(), &grpc);
    broker.run(&["pub", "news", "two"]);
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    assert_eq!(broker.terminate().code(), Some(0));

    let broker = Broker::start(folder.path(), &grpc);
    broker.run(&["pub", "news", "three"]);
    assert_eq!(lines.next().unwrap().unwrap(), "three");
    assert!(lines.next().is_none());
    assert!(subscriber.wait().unwrap().success());
    drop(broker);
}

#[test]
fn a_publisher_that_may_retry_rides_out_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (path, text) = numbered_lines(folder.path(), LINES);
    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    let grpc = broker.grpc.clone();
    let mut command = broker.command(&["pub", "log", "--lines", "--retry", "--file", path.to_str().unwrap()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the topic fills", || Some(()).filter(|()| messages_held(&broker, "log") >= LINES / 10));
    broker.kill_nine();
    let broker = Broker::start(folder.path(), &grpc);
    let (status, said, complaint) = printed(child);
    assert!(status.success(), "{complaint}");
    assert!(String::from_utf8(said).unwrap().starts_with(&format!("{LINES} lines acknowledged")));

    // At least once: without its repetitions, the topic is the input.
    let read_back = broker.run(&["sub", "log", "--from", "earliest", "--until-end", "--raw"]);
    let mut expected = text.split(|&byte| byte == b'\n');
    let mut next = expected.next().unwrap();
    for line in read_back.lines() {
        if line.as_bytes() == next {
            next = expected.next().unwrap();
        }
    }
    assert!(
        next.is_empty() && expected.next().is_none(),
        "the line after {:?} is missing",
        String::from_utf8_lossy(next)
    );
}
