//! Durable subscriptions on the command line, as people and scripts use them.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[allow(dead_code, reason = "each test program uses its part")]
mod program;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

use program::{Broker, until, wait};
use rustix::process::{Pid, Signal, kill_process};

/// A broker in a folder that is gone after the test, with messages `m1` to `m{count}` in topic orders.
fn broker(count: u32) -> (tempfile::TempDir, Broker) {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    if count > 0 {
        broker.run(&["pub", "orders", "m{{n}}", "--count", &count.to_string()]);
    }
    (folder, broker)
}

fn shown(broker: &Broker, figure: &str) -> String {
    let shown = broker.run(&["subscription", "show", "orders", "billing"]);
    let line = shown.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix('\t'));
    line.unwrap_or_else(|| panic!("no {figure} in:\n{shown}")).to_owned()
}

fn id_in(object: &str) -> String {
    let object: serde_json::Value = serde_json::from_str(object.lines().next().unwrap()).unwrap();
    object["id"].as_str().unwrap().to_owned()
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

#[test]
fn a_subscription_lives_from_create_to_delete() {
    let (_folder, broker) = broker(10);
    let settings =
        ["--attempts", "7", "--lease", "10s", "--ordered", "no", "--expiry", "7d", "--filter", "size > 2"];
    let create = ["subscription", "create", "orders", "billing", "--from", "4"];
    let created = broker.run(&[&create[..], &settings].concat());
    assert_eq!(created, "created subscription orders/billing\n");
    assert_eq!(
        broker.run(&["subscription", "create", "orders", "billing", "--if-missing"]),
        "subscription orders/billing exists already\n"
    );
    for (figure, expected) in [
        ("lag_messages", "6"),
        ("attempts_max", "7"),
        ("lease_ms", "10000"),
        ("ordered", "false"),
        ("expiry_ms", "604800000"),
        ("filter", "size > 2"),
        ("state", "no_members"),
    ] {
        assert_eq!(shown(&broker, figure), expected, "{figure}");
    }
    assert_eq!(broker.run(&["subscription", "ls", "--quiet"]), "orders\tbilling\n");
    assert!(broker.run(&["subscription", "ls", "orders"]).starts_with("orders\tbilling\t6\t0\t"));
    let updated =
        broker.run(&["subscription", "update", "orders", "billing", "--attempts", "none", "--json"]);
    assert!(updated.contains("\"attempts_max\":null") && updated.contains("\"lease_ms\":10000"), "{updated}");
    assert_eq!(
        broker.run(&["subscription", "pause", "orders", "billing"]),
        "paused subscription orders/billing\n"
    );
    let why = broker.run(&["subscription", "why", "orders", "billing"]);
    assert!(
        why.contains("state\tpaused\n") && why.contains("ratatoskr subscription resume orders billing"),
        "{why}"
    );
    broker.run(&["subscription", "resume", "orders", "billing"]);
    assert!(broker.run(&["stats", "orders"]).contains("billing"));
    broker.run(&["subscription", "delete", "orders", "billing"]);
    assert_eq!(broker.run(&["subscription", "ls"]), "");
}

#[test]
fn a_subscription_moves_and_remembers_where_it_stood() {
    let (_folder, broker) = broker(10);
    broker.run(&["subscription", "create", "orders", "billing"]);
    let lag = |arguments: &[&str]| {
        broker.run(&[&["subscription", arguments[0], "orders", "billing"], &arguments[1..]].concat());
        shown(&broker, "lag_messages")
    };
    assert_eq!(lag(&["skip", "3"]), "7");
    assert_eq!(lag(&["save", "before"]), "7");
    assert_eq!(lag(&["seek", "--to", "latest"]), "0");
    assert_eq!(lag(&["seek", "--to", "@-1h"]), "10");
    assert_eq!(lag(&["seek", "--to", "8"]), "2");
    assert_eq!(lag(&["seek", "--to", "saved:before"]), "7");
    assert_eq!(
        broker.run(&["subscription", "peek", "orders", "billing", "--count", "2", "--raw"]),
        "m4\nm5\n"
    );
    assert_eq!(lag(&["forget", "before"]), "7");
    assert_eq!(broker.fail(&["subscription", "seek", "orders", "billing", "--to", "saved:before"]).0, 3);
}

#[test]
fn what_is_printed_is_acked_and_nothing_else() {
    let (_folder, broker) = broker(10);
    let consume = |arguments: &[&str]| broker.run(&[&["consume", "orders", "billing"], arguments].concat());
    assert_eq!(consume(&["--raw", "--count", "3"]), "m1\nm2\nm3\n");
    assert_eq!(shown(&broker, "acked"), "3");
    assert_eq!(consume(&["--raw", "--count", "2", "--no-ack"]), "m4\nm5\n");
    let object = consume(&["--json", "--count", "1"]);
    // What has been handed back twice already lets others go first.
    assert!(object.contains("\"payload\":\"m6\"") && object.contains("\"attempt\":1,"), "{object}");
    let rest = consume(&["--until-caught-up"]);
    let mut payloads: Vec<_> =
        rest.lines().filter_map(|line| line.rsplit_once('\t')).map(|(_, m)| m).collect();
    payloads.sort_unstable();
    assert_eq!(payloads, ["m10", "m4", "m5", "m7", "m8", "m9"], "{rest}");
    assert_eq!(consume(&["--until-caught-up"]), "");
    assert_eq!((shown(&broker, "acked"), shown(&broker, "redelivered")), ("10".into(), "0".into()));
}

#[test]
fn a_consumer_follows_the_topic_across_a_restart_and_hands_back_on_ctrl_c() {
    let (folder, broker) = broker(2);
    let door = broker.grpc.clone();
    let mut command = broker.command(&["consume", "orders", "billing", "--raw", "--member", "worker one"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!((lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()), ("m1".into(), "m2".into()));
    until("both are acked", || (shown(&broker, "acked") == "2").then_some(()));
    assert!(shown(&broker, "members").contains("worker one"));
    broker.kill_nine();
    let broker = Broker::start(folder.path(), &door);
    broker.run(&["pub", "orders", "m3"]);
    assert_eq!(lines.next().unwrap().unwrap(), "m3");
    interrupt(&child);
    assert_eq!(wait(&mut child).code(), Some(0));
    until("the member is gone", || (shown(&broker, "members") == "[]").then_some(()));
}

#[test]
fn the_end_of_a_command_settles_its_message() {
    let (_folder, broker) = broker(5);
    let create = ["subscription", "create", "orders", "billing", "--attempts", "2", "--retry-delay", "10ms"];
    broker.run(&create);
    // m1 is fine, m2 can never be, m3 fails twice, m4 at first only, m5 does not read its input.
    let command = r#"
        case $RATATOSKR_OFFSET in
            0) test "$(cat)" = m1 && test "$RATATOSKR_TOPIC/$RATATOSKR_SUBSCRIPTION" = orders/billing ;;
            1) echo "no such customer" >&2; exit 100 ;;
            2) echo first >&2; echo "the printer burns" >&2; exit 3 ;;
            3) test "$RATATOSKR_ATTEMPT" = 2 ;;
        esac"#;
    let output = broker
        .command(&["consume", "orders", "billing", "--exec", command, "--parallel", "2", "--until-caught-up"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.ends_with("3 acked, 3 nacked, 1 rejected\n"), "{said}");
    let groups = broker.run(&["dead-letters", "groups", "orders", "billing"]);
    let mut groups: Vec<_> = groups.lines().collect();
    groups.sort_unstable();
    assert_eq!(groups, ["1\texit code 100: no such customer", "1\texit code 3: the printer burns"]);
}

#[test]
fn a_command_that_takes_longer_than_the_lease_keeps_its_message() {
    let (_folder, broker) = broker(1);
    broker.run(&["subscription", "create", "orders", "billing", "--lease", "300ms"]);
    broker.run(&["consume", "orders", "billing", "--exec", "sleep 1.5", "--count", "1"]);
    assert_eq!((shown(&broker, "acked"), shown(&broker, "redelivered")), ("1".into(), "0".into()));
}

#[test]
fn an_interrupted_command_hands_its_message_back_unharmed() {
    let (folder, broker) = broker(1);
    let started = folder.path().join("started");
    let going_on = folder.path().join("going-on");
    let script = format!(
        "touch {}; until test -e {}; do sleep 0.01; done; exit 1",
        started.display(),
        going_on.display()
    );
    let mut command = broker.command(&["consume", "orders", "billing", "--exec", &script]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    until("the command runs", || started.exists().then_some(()));
    interrupt(&child);
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("stopping: 1 command still runs"), "{line}");
    std::fs::write(&going_on, "").unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(wait(&mut child).code(), Some(0), "{rest}");
    assert!(rest.ends_with("0 acked, 0 nacked, 0 rejected, 1 handed back\n"), "{rest}");
    let again = broker.run(&["consume", "orders", "billing", "--json", "--count", "1"]);
    assert!(again.contains("\"attempt\":1,"), "{again}");
}

#[test]
fn a_reader_that_has_seen_enough_costs_no_attempts() {
    let (_folder, broker) = broker(20_000);
    let mut command = broker.command(&["consume", "orders", "billing"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("0\t"), "{line}");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((wait(&mut child).code(), said.as_str()), (Some(0), ""));
    let next = broker.run(&["consume", "orders", "billing", "--json", "--count", "1"]);
    assert!(next.contains("\"attempt\":1,"), "{next}");
}

#[test]
fn dead_letters_are_listed_shown_redriven_and_dropped() {
    let (_folder, broker) = broker(4);
    broker.run(&[
        "consume",
        "orders",
        "billing",
        "--exec",
        "echo odd $RATATOSKR_OFFSET >&2; exit 100",
        "--count",
        "4",
    ]);
    let letters = |arguments: &[&str]| {
        broker.run(&[&["dead-letters", arguments[0], "orders", "billing"], &arguments[1..]].concat())
    };
    assert_eq!(letters(&["ls"]).lines().count(), 4);
    assert_eq!(letters(&["ls", "--count", "3", "--filter", "ratatoskr-dead-offset=2"]).lines().count(), 1);
    let id = id_in(&letters(&["ls", "--json"]));
    let shown_letter = letters(&["show", &id]);
    for line in ["reason\texit code 100: odd 0", "origin_offset\t0", "origin_topic\torders", "payload\tm1"] {
        assert!(shown_letter.lines().any(|shown| shown == line), "{line} is not in:\n{shown_letter}");
    }
    let (exit, said) = broker.fail(&["dead-letters", "redrive", "orders", "billing"]);
    assert!(exit == 2 && said.contains("--all"), "{exit}: {said}");
    let would = "4 dead letters of subscription orders/billing would be dropped\n";
    assert_eq!(letters(&["drop", "--all", "--dry-run"]), would);
    let redriven = "1 dead letter of subscription orders/billing redriven\n";
    assert_eq!(letters(&["redrive", "--id", &id, "--rate", "100"]), redriven);
    assert_eq!(broker.fail(&["dead-letters", "redrive", "orders", "billing", "--id", &id]).0, 3);
    let again = broker.run(&["consume", "orders", "billing", "--json", "--until-caught-up"]);
    assert!(again.contains("\"payload\":\"m1\"") && again.contains("\"attempt\":1,"), "{again}");
    // It was sent to its subscription only: others read the topic to its end without it.
    assert_eq!(
        broker.run(&["sub", "orders", "--from", "earliest", "--until-end", "--raw"]),
        "m1\nm2\nm3\nm4\n"
    );
    letters(&["drop", "--filter", "key == ''"]);
    assert_eq!(letters(&["ls"]), "");
}

#[test]
fn a_trace_tells_the_life_of_a_message() {
    let (_folder, broker) = broker(0);
    let id = id_in(&broker.run(&["pub", "orders", "x", "--json"]));
    broker.run(&["consume", "orders", "billing", "--count", "1", "--member", "worker one"]);
    let trace = broker.run(&["trace", &id]);
    for part in [
        "\tpublished to orders at offset 0",
        "\tbilling\thanded to member \"worker one\"",
        "\tbilling\tacked",
    ] {
        assert!(trace.contains(part), "{part} is not in:\n{trace}");
    }
    assert!(broker.run(&["trace", &id, "--json"]).contains("\"topic\":\"orders\""));
    assert_eq!(broker.fail(&["trace", "018bcfe5-687b-7000-8000-000000000000"]).0, 3);
}

#[test]
fn messages_past_their_time_to_live_are_passed_over_and_expressions_filter() {
    let (_folder, broker) = broker(0);
    broker.run(&["pub", "orders", "brief", "--ttl", "1ms"]);
    until("its time is over", || {
        broker.run(&["sub", "orders", "--from", "earliest", "--until-end"]).is_empty().then_some(())
    });
    broker.run(&["pub", "orders", "red one", "--ttl", "1h", "-H", "color=red"]);
    broker.run(&["pub", "orders", "blue", "-H", "color=blue"]);
    assert_eq!(
        broker.run(&["consume", "orders", "billing", "--raw", "--until-caught-up"]),
        "red one\nblue\n"
    );
    let read = |filters: &[&str]| {
        let from = ["sub", "orders", "--from", "1", "--until-end", "--raw"];
        broker.run(&[&from[..], filters].concat())
    };
    assert_eq!(read(&["--filter", "size > 4"]), "red one\n");
    assert_eq!(read(&["--filter", "color=blue", "--filter", "size > 4"]), "");
    assert_eq!(
        broker.run(&["sub", "orders", "--from", "1", "--count", "1", "--raw", "--filter", "size == 4"]),
        "blue\n"
    );
}

#[test]
fn failures_have_their_exit_codes_and_say_what_to_do() {
    let (_folder, broker) = broker(1);
    broker.run(&["subscription", "create", "orders", "billing"]);
    let cases: &[(&[&str], i32, &str)] = &[
        (&["subscription", "show", "orders", "biling"], 3, "did you mean billing?"),
        (&["subscription", "show", "odrers", "billing"], 3, "did you mean orders?"),
        (&["subscription", "create", "orders", "billing"], 4, "already has a subscription billing"),
        (&["subscription", "create", "orders", "x", "--lease", "5ms"], 4, "allowed are 100 to 43200000"),
        (&["subscription", "create", "orders", "x", "--lease", "5"], 2, "allowed are ms, s, m"),
        (&["subscription", "create", "orders", "x", "--filter", "size >"], 2, "filter column 7"),
        (&["subscription", "create", "orders", "x", "--ordered", "maybe"], 2, "expected yes or no"),
        (&["subscription", "create", "nothing-like-it", "x"], 3, "`ratatoskr topic create nothing-like-it`"),
        (&["subscription", "update", "orders", "billing"], 2, "no setting is given"),
        (&["subscription", "seek", "orders", "billing", "--to", "there"], 2, "or saved:NAME"),
        (&["subscription", "seek", "orders", "billing", "--to", "99"], 4, "99"),
        (&["consume", "orders", "x", "--must-exist"], 3, "subscription create orders x"),
        (&["consume", "nothing-like-it", "x"], 3, "nothing-like-it"),
        (&["consume", "orders", "x", "--parallel", "2"], 2, "--exec"),
        (&["consume", "orders", "x", "--lease", "1ms"], 4, "lease_ms is 1"),
        (&["dead-letters", "ls", "orders", "x"], 3, "no subscription x"),
        (&["dead-letters", "drop", "orders", "billing", "--id", "x"], 4, "no message id"),
        (&["trace", "x"], 4, "no message id"),
        (&["pub", "orders", "x", "--ttl", "0s"], 2, "1ms and above"),
        (&["sub", "orders", "--filter", "colour"], 2, "filter column 1"),
    ];
    for (arguments, code, complaint) in cases {
        let (exit, said) = broker.fail(arguments);
        assert_eq!(exit, *code, "{arguments:?}: {said}");
        assert!(said.contains(complaint), "{arguments:?}: {said}");
    }
}
