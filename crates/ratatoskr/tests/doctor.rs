//! `ratatoskr doctor` as a person runs it.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[allow(dead_code, reason = "each test program uses its part")]
mod program;

use std::os::unix::fs::FileExt as _;

use program::{Broker, failed, program};
use serde_json::Value;

#[test]
fn the_doctor_respects_a_running_broker_and_finds_damage_once_it_has_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    broker.run(&["pub", "orders", "number {{n}}", "--count", "3"]);
    let doctor = |more: &[&str]| {
        program().args(["doctor", "data"]).args(more).current_dir(folder.path()).output().unwrap()
    };
    let (code, complaint) = failed(&doctor(&[]));
    assert_eq!(code, 5);
    assert!(complaint.contains("data/lock is locked by another running broker"), "{complaint}");
    assert_eq!(broker.terminate().code(), Some(0));

    let sound = doctor(&[]);
    assert_eq!(sound.status.code(), Some(0));
    let told = String::from_utf8(sound.stdout).unwrap();
    assert!(
        told.ends_with("looked at 1 topics, 3 records in 1 segments, 0 blocks of journal: all is well\n"),
        "{told}"
    );

    let segment = folder.path().join("data/topics/00000001-orders/00000000000000000000.segment");
    let file = std::fs::File::options().write(true).read(true).open(&segment).unwrap();
    file.write_all_at(b"X", 64 + 30).unwrap();
    let damaged = doctor(&["--json"]);
    let object: Value = serde_json::from_slice(&damaged.stdout).unwrap();
    let (code, complaint) = failed(&damaged);
    assert_eq!(code, 1);
    assert!(complaint.contains("data: findings that need somebody: 1"), "{complaint}");
    let finding = &object["findings"][0];
    assert_eq!((&finding["offset"], &finding["position"]), (&Value::from(0), &Value::from(64)));
    assert_eq!((&object["worst"], &object["records"]), (&Value::from("loss"), &Value::from(2)));
    assert!(finding["path"].as_str().unwrap().ends_with("00000000000000000000.segment"));

    // The broker is of the same opinion: one record is refused, its neighbours are served.
    let broker = Broker::start(folder.path(), "127.0.0.1:0");
    let (_, complaint) = broker.fail(&["sub", "orders", "--from", "0", "--count", "1"]);
    assert!(complaint.contains("offset 0 is damaged"), "{complaint}");
    assert_eq!(
        broker.run(&["sub", "orders", "--from", "1", "--count", "2", "--raw"]),
        "number 2\nnumber 3\n"
    );
}

#[test]
fn what_is_no_folder_is_refused() {
    let output = program().args(["doctor", "/nowhere/at/all"]).output().unwrap();
    let (code, complaint) = failed(&output);
    assert_eq!(code, 2);
    assert!(complaint.contains("/nowhere/at/all is no folder"), "{complaint}");
}
