//! The commands that talk to a broker, as people and scripts use them.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[allow(dead_code, reason = "each test program uses its part")]
mod program;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use program::{Broker, failed, numbered_lines, printed, program, until, wait};

/// A broker in a folder that is gone after the test.
fn broker() -> (tempfile::TempDir, Broker) {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    (folder, broker)
}

#[test]
fn a_topic_lives_from_create_to_delete() {
    let (_folder, broker) = broker();
    let settings = ["--retention-age", "3d", "--retention-bytes", "1GiB", "--message-bytes-max", "2MiB"];
    let created = broker.run(&[&["topic", "create", "orders"][..], &settings].concat());
    assert_eq!(created, "created topic orders\n");
    broker.run(&["topic", "create", "orders", "--if-missing"]);
    let shown = broker.run(&["topic", "show", "orders"]);
    for line in ["retention_age_ms\t259200000", "retention_bytes\t1073741824", "message_bytes_max\t2097152"] {
        assert!(shown.contains(line), "{line} is not in:\n{shown}");
    }
    let updated = broker.run(&["topic", "update", "orders", "--retention-bytes", "none", "--json"]);
    assert!(
        updated.contains("\"retention_bytes\":null") && updated.contains("\"retention_age_ms\":259200000"),
        "{updated}"
    );

    broker.run(&["pub", "orders", "x{{n}}", "--count", "10"]);
    assert_eq!(
        broker.run(&["topic", "purge", "orders", "--before", "4"]),
        "removed 4 messages of topic orders\n"
    );
    assert_eq!(broker.run(&["sub", "orders", "--from", "earliest", "--count", "1", "--raw"]), "x5\n");
    assert!(broker.run(&["topic", "ls"]).starts_with("orders\t6\t"));
    assert_eq!(broker.run(&["topic", "ls", "--quiet"]), "orders\n");
    assert_eq!(broker.run(&["topic", "ls", "--quiet", "nothing-like-it"]), "");
    assert_eq!(broker.run(&["topic", "delete", "orders"]), "deleted topic orders\n");
    assert_eq!(broker.run(&["topic", "ls"]), "");
}

#[test]
fn a_message_goes_once_or_later_or_only_to_its_place() {
    let (_folder, broker) = broker();
    let once = ["pub", "orders", "x", "--dedup-id", "order-{{n}}", "--json"];
    assert!(broker.run(&once).contains("\"duplicate\":false"));
    assert!(broker.run(&once).contains("\"duplicate\":true"));
    assert!(broker.run(&["topic", "show", "orders"]).contains("dedup_window_ms\t120000\n"));
    let (code, complaint) = broker.fail(&["pub", "orders", "y", "--expect-offset", "0"]);
    assert!(code == 4 && complaint.contains("the topic goes on at 1"), "{complaint}");
    let later = broker.run(&["pub", "orders", "later", "--delay", "200ms"]);
    assert!(later.starts_with("-\t") && later.ends_with("\tfsync\n"), "{later}");
    assert_eq!(broker.run(&["sub", "orders", "--from", "1", "--count", "1", "--raw"]), "later\n");
    assert!(broker.run(&["pub", "orders", "now", "--at", "2020-01-01T00:00:00Z"]).starts_with("2\t"));
}

#[test]
fn one_message_goes_through_with_key_and_metadata() {
    let (_folder, broker) = broker();
    let receipt =
        broker.run(&["pub", "orders", "order {{n}}", "--key", "k{{n}}", "-H", "color=red", "--json"]);
    assert!(receipt.contains("\"offset\":0") && receipt.contains("\"durability\":\"fsync\""), "{receipt}");
    let message = broker.run(&["sub", "orders", "--from", "0", "--count", "1", "--json"]);
    for part in [
        "\"payload\":\"order 1\"",
        "\"key\":\"k1\"",
        "\"metadata\":{\"color\":\"red\"}",
        "\"topic\":\"orders\"",
    ] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    let line = broker.run(&["sub", "orders", "--from", "offset:0", "--count", "1"]);
    assert!(line.starts_with("0\t") && line.ends_with("\tk1\torder 1\n"), "{line}");
}

#[test]
fn standard_input_and_files_are_one_message_or_one_a_line() {
    let (folder, broker) = broker();
    broker.feed(&["pub", "whole"], b"a\nb {{n}}\n");
    broker.feed(&["pub", "whole", "-"], b"\xff\x00");
    let (path, text) = numbered_lines(folder.path(), 3);
    broker.run(&["pub", "whole", "--file", path.to_str().unwrap()]);
    let expected = [&b"a\nb {{n}}\n\n\xff\x00\n"[..], &text, b"\n"].concat();
    assert_eq!(broker.run_bytes(&["sub", "whole", "--from", "earliest", "--until-end", "--raw"]), expected);

    let binary = b"one\r\n\n\xff\xfe\x00\nlast";
    let said = broker.feed(&["pub", "lines", "--lines"], binary);
    assert!(
        said.starts_with("4 lines acknowledged in ") && said.ends_with("offsets 0 to 3, fsync\n"),
        "{said}"
    );
    let read_back = broker.run_bytes(&["sub", "lines", "--from", "earliest", "--until-end", "--raw"]);
    assert_eq!(read_back, b"one\r\n\n\xff\xfe\x00\nlast\n");
}

#[test]
fn many_lines_keep_their_order_and_can_be_resumed() {
    let (folder, broker) = broker();
    let (path, text) = numbered_lines(folder.path(), 50_000);
    let path = path.to_str().unwrap();
    broker.run(&["pub", "log", "--lines", "--file", path]);
    assert_eq!(broker.run_bytes(&["sub", "log", "--from", "earliest", "--until-end", "--raw"]), text);
    let account = broker.run(&["pub", "log", "--lines", "--file", path, "--skip", "49999", "--json"]);
    assert!(account.contains("\"acknowledged\":1,") && account.contains("\"skipped\":49999"), "{account}");
    let account = broker.run(&["pub", "log", "--lines", "--file", path, "--resume", "--json"]);
    assert!(account.contains("\"acknowledged\":0,"), "{account}");
}

#[test]
fn a_refused_line_ends_the_run_with_an_exact_account() {
    let (_folder, broker) = broker();
    broker.run(&["topic", "create", "small", "--message-bytes-max", "5"]);
    let mut command = broker.command(&["pub", "small", "--lines", "--json"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"one\ntwo\nmuch too long\nfour\n").unwrap();
    let (status, out, complaint) = printed(child);
    assert_eq!(status.code(), Some(4));
    assert!(complaint.contains("payload has 13 bytes; this topic allows at most 5"), "{complaint}");
    assert!(complaint.contains("2 lines acknowledged before that, 1 after it"), "{complaint}");
    assert!(complaint.contains("with --skip 4"), "{complaint}");
    assert!(String::from_utf8(out).unwrap().contains("\"acknowledged\":2,"));
}

#[test]
fn subscribers_begin_where_they_ask_to_and_see_what_they_filter_for() {
    let (_folder, broker) = broker();
    for color in ["red", "blue", "red"] {
        broker.run(&["pub", "cars", color, "-H", &format!("color={color}")]);
    }
    let read = |arguments: &[&str]| broker.run(&[&["sub", "cars", "--raw"], arguments].concat());
    assert_eq!(read(&["--from", "1", "--until-end"]), "blue\nred\n");
    assert_eq!(read(&["--from", "@-1h", "--until-end"]), "red\nblue\nred\n");
    assert_eq!(read(&["--from", "time:2100-01-01T00:00:00Z", "--until-end"]), "");
    assert_eq!(read(&["--from", "latest", "--until-end"]), "");
    assert_eq!(read(&["--from", "earliest", "--until-end", "--filter", "color=blue"]), "blue\n");
    assert_eq!(read(&["--from", "earliest", "--count", "2", "--filter", "color=red"]), "red\nred\n");
}

#[test]
fn a_subscriber_at_the_latest_place_gets_what_comes_and_shows_it_at_once() {
    let (_folder, broker) = broker();
    broker.run(&["pub", "news", "old"]);
    let mut child = broker.command(&["sub", "news", "--raw"]).stdout(Stdio::piped()).spawn().unwrap();
    until("the subscriber is there", || {
        broker.run(&["stats", "news"]).contains("subscribers\t1").then_some(())
    });
    broker.run(&["pub", "news", "new"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "new\n");
    child.kill().unwrap();
    wait(&mut child);
    until("the subscriber is gone", || {
        broker.run(&["stats", "news"]).contains("subscribers\t0").then_some(())
    });
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (folder, broker) = broker();
    let (path, _) = numbered_lines(folder.path(), 50_000);
    broker.run(&["pub", "log", "--lines", "--file", path.to_str().unwrap()]);
    let mut command = broker.command(&["sub", "log", "--from", "earliest", "--until-end"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("0\t"), "{line}");
    assert_eq!(wait(&mut child).code(), Some(0));
}

#[test]
fn failures_have_their_exit_codes_and_say_what_to_do() {
    let (_folder, broker) = broker();
    broker.run(&["topic", "create", "orders"]);
    let cases: &[(&[&str], i32, &str)] = &[
        (&["topic", "show", "odrers"], 3, "did you mean orders?"),
        (&["sub", "nothing-like-it"], 3, "topic \"nothing-like-it\" does not exist"),
        (&["topic", "create", "orders"], 4, "topic \"orders\" exists already"),
        (&["topic", "create", "a b"], 4, "allowed are 1 to 255 bytes of letters"),
        (&["topic", "update", "orders", "--durability", "memory"], 4, "durability cannot change"),
        (&["topic", "purge", "orders", "--before", "9"], 4, "9"),
        (&["sub", "orders", "--from", "99"], 4, "99"),
        (&["sub", "orders", "--from", "lately"], 2, "expected latest, earliest, an offset"),
        (&["pub", "orders", "{{tme}}"], 2, "did you mean time?"),
        (&["pub", "orders", "x", "--count", "0"], 2, "0 is not in 1.."),
        (&["topic", "create", "x", "--retention-age", "5"], 2, "allowed are ms, s, m, h, d and w"),
        (&["topic", "update", "orders"], 2, "no setting is given"),
        (&["pub", "orders", "--file", "/nonexistent"], 1, "/nonexistent cannot be read"),
    ];
    for (arguments, code, complaint) in cases {
        let (exit, said) = broker.fail(arguments);
        assert_eq!(exit, *code, "{arguments:?}: {said}");
        assert!(said.contains(complaint), "{arguments:?}: {said}");
    }
    let output = program().args(["--server", "127.0.0.1:1", "topic", "ls"]).output().unwrap();
    let expected =
        "error: no broker answers at 127.0.0.1:1 (connection refused); start one with `ratatoskr serve`\n";
    assert_eq!(program::failed(&output), (5, expected.to_owned()));
}

#[test]
fn stats_show_the_broker_and_a_topic() {
    let (_folder, broker) = broker();
    broker.run(&["pub", "orders", "x", "--count", "7"]);
    let stats = broker.run(&["stats"]);
    for line in ["health\tserving", "topics\t1", "published_messages\t7", "default_durability\tfsync"] {
        assert!(stats.lines().any(|shown| shown == line), "{line} is not in:\n{stats}");
    }
    assert!(broker.run(&["stats", "orders", "--json"]).contains("\"messages\":7,"));
}

#[test]
fn completions_name_our_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = program().args(["completions", shell]).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("topic"), "{shell}");
    }
}

#[test]
fn a_new_token_comes_alone_and_its_digest_makes_a_good_policy_file() {
    let folder = tempfile::tempdir().unwrap();
    let made = program().args(["access", "token", "bill.ing"]).output().unwrap();
    let (token, advice) = (String::from_utf8(made.stdout).unwrap(), String::from_utf8(made.stderr).unwrap());
    let token = token.trim_end();
    assert!(token.starts_with("rtk_") && !token.contains(char::is_whitespace), "{token}");
    assert!(!advice.contains(token), "{advice}");
    let (_, lines) = advice.split_once("\n\n").unwrap();
    let path = folder.path().join("access.toml");
    std::fs::write(&path, lines).unwrap();
    let checked = program().args(["access", "check"]).arg(&path).output().unwrap();
    let says = String::from_utf8(checked.stdout).unwrap();
    assert!(says.ends_with("is good: 1 tokens, 0 certificate names, 0 roles\n"), "{says}");

    std::fs::write(&path, format!("{lines}role = \"x\"\n")).unwrap();
    let checked = program().args(["access", "check"]).arg(&path).output().unwrap();
    let (code, complaint) = failed(&checked);
    assert_eq!(code, 2);
    assert!(
        complaint.contains("access.toml:4: unknown key identities.bill.ing.role; did you mean roles?"),
        "{complaint}"
    );
}

#[test]
fn credentials_that_cannot_be_are_told_before_anything_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    for (arguments, says) in [
        (&["--token-file", "/nonexistent/token"][..], "the token file /nonexistent/token cannot be read"),
        (&["--token-file", empty], "the token is empty"),
        (&["--tls-ca", empty], "has no certificate in PEM format"),
        (&["--client-cert", empty], "--client-cert needs --client-key"),
    ] {
        let output = program().args(["topic", "ls"]).args(arguments).output().unwrap();
        let (code, complaint) = failed(&output);
        assert_eq!(code, 2, "{complaint}");
        assert!(complaint.contains(says), "{complaint}");
    }
    let output = program().args(["topic", "ls"]).env("RATATOSKR_TOKEN", "no token").output().unwrap();
    let (_, complaint) = failed(&output);
    assert!(complaint.contains("RATATOSKR_TOKEN: the token is empty, or has white space"), "{complaint}");
    assert!(!complaint.contains("no token\""), "{complaint}");
}
