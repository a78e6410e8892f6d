//! What a life does: a fixed script that goes everywhere, and others drawn from a seed.

use fastrand::Rng;

/// The names topics have. `quick` promises only `written`.
pub(crate) const NAMES: [&str; 4] = ["orders", "quick", "mail", "scratch"];

/// One step of a life.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Stages a new topic.
    Create { name: &'static str, settings: &'static str },
    /// Stages `count` records of `bytes` bytes each.
    Append { name: &'static str, count: u64, bytes: usize },
    /// Stages other settings.
    Update { name: &'static str, settings: &'static str },
    /// Stages a trim that leaves so many of the records that are visible.
    Trim { name: &'static str, keep: u64 },
    /// Stages a deletion.
    Delete { name: &'static str },
    /// Writes, and syncs if need be, what was staged.
    Commit,
    /// What an idle writer does.
    Seal,
    /// Lets the flusher do what is queued.
    Flusher,
    /// Leaves so many bytes free on the disk, or all it needs.
    Room(Option<u64>),
    /// Sets the clock.
    ClockTo(u64),
    /// Compares what readers see with what is promised.
    Look,
}

/// The first settings of a topic.
pub(crate) fn settings_of(name: &str) -> &'static str {
    if name == "quick" { "written" } else { "synced" }
}

fn create(name: &'static str) -> Step {
    Step::Create { name, settings: settings_of(name) }
}

/// Goes everywhere once: topics come, are filled, updated, trimmed, deleted and come back; blocks for one and for many,
/// synced and only written; the journal rotates, checkpoints retire its files, segments fill.
pub(crate) fn tour() -> Vec<Step> {
    let append = |name, count, bytes| Step::Append { name, count, bytes };
    let mut steps = vec![
        create("orders"),
        Step::Commit,
        append("orders", 3, 100),
        Step::Commit,
        create("quick"),
        create("mail"),
        append("mail", 1, 0),
        Step::Commit,
        append("quick", 2, 700),
        Step::Commit,
        Step::Seal,
        Step::ClockTo(50),
        append("orders", 1, 5000),
        append("quick", 1, 10),
        append("mail", 4, 300),
        Step::Commit,
        Step::Look,
        Step::Flusher,
    ];
    for round in 0..6 {
        for n in 0..3 {
            steps.extend([
                append("orders", 2, 900 + 100 * n),
                Step::Commit,
                append("quick", 3, 1500),
                Step::Commit,
            ]);
        }
        steps.extend(match round {
            0 => vec![Step::Update { name: "mail", settings: "synced, but other" }, Step::Commit, Step::Seal],
            1 => vec![Step::Trim { name: "orders", keep: 5 }, append("orders", 1, 1), Step::Commit],
            2 => vec![Step::Delete { name: "mail" }, Step::Commit, create("mail"), Step::Commit],
            3 => vec![Step::Trim { name: "quick", keep: 0 }, Step::Commit],
            4 => vec![
                append("mail", 1, 12_000),
                Step::Delete { name: "quick" },
                create("scratch"),
                Step::Commit,
            ],
            _ => vec![append("mail", 7, 30), Step::Commit],
        });
        steps.extend([Step::Flusher, Step::Look]);
    }
    steps
}

/// Steps drawn from a seed. Most lives begin with the topics there are already.
pub(crate) fn random(rng: &mut Rng) -> Vec<Step> {
    let length = if rng.bool() { rng.usize(0..60) } else { rng.usize(60..250) };
    let mut steps = Vec::new();
    for _ in 0..length {
        let name = NAMES[rng.usize(0..NAMES.len())];
        steps.push(match rng.u32(0..100) {
            0..12 => create(name),
            12..55 => Step::Append { name, count: rng.u64(1..5), bytes: random_bytes(rng) },
            55..58 => Step::Trim { name, keep: rng.u64(0..20) },
            58..60 => Step::Delete { name },
            60..62 => Step::Update { name, settings: other_settings(name, rng) },
            62..88 => Step::Commit,
            88..90 => Step::Seal,
            90..94 => Step::Flusher,
            94..96 => Step::Room(random_room(rng)),
            96..97 => Step::ClockTo(rng.u64(0..1_000_000)),
            _ => Step::Look,
        });
    }
    steps.push(Step::Commit);
    steps
}

/// No bound most of the time; else about as much as segments, or a journal file, may need.
fn random_room(rng: &mut Rng) -> Option<u64> {
    match rng.u32(0..4) {
        0 => Some(rng.u64(0..40_000)),
        1 => Some(rng.u64(0..2_000_000)),
        _ => None,
    }
}

fn random_bytes(rng: &mut Rng) -> usize {
    match rng.u32(0..10) {
        0 => 0,
        1..7 => rng.usize(1..600),
        7..9 => rng.usize(600..5000),
        _ => rng.usize(5000..20_000),
    }
}

fn other_settings(name: &str, rng: &mut Rng) -> &'static str {
    match (name, rng.bool()) {
        ("quick", true) => "written, but other",
        ("quick", false) => "written",
        (_, true) => "synced, but other",
        (_, false) => "synced",
    }
}
