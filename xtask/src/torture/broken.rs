//! Brokers that break their word on purpose, and who has to notice: a check that cannot fail shows nothing.
//!
//! What each word does stands in `crates/ratatoskr-broker/src/broken.rs`, under the same name.

use crate::failed::{Failed, Outcome};

/// A way to break the broker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// What `E2E_BROKEN` is set to.
    pub(super) word: &'static str,
    /// The fault that has to notice.
    pub(super) noticed_by: &'static str,
    /// What its complaint has to say: one about something else would not be about what is broken.
    pub(super) complaint: &'static str,
}

/// All of them.
pub(crate) const ALL: &[Broken] = &[
    Broken { word: "late", noticed_by: "kill", complaint: "lost" },
    Broken {
        word: "drain",
        noticed_by: "terminate",
        complaint: "after a clean stop there was something to recover",
    },
    Broken { word: "stall", noticed_by: "stalled", complaint: "with exit status: 1" },
    Broken {
        word: "lock",
        noticed_by: "second-broker",
        complaint: "a second broker serves the same data directory",
    },
    Broken { word: "sync", noticed_by: "disk-error", complaint: "lost" },
    Broken { word: "full", noticed_by: "full-disk", complaint: "reading while the disk is full" },
    Broken { word: "alone", noticed_by: "slow-disk", complaint: "syncs are not shared" },
    Broken { word: "inbox", noticed_by: "hanging-disk", complaint: "memory grew by" },
    Broken { word: "leases", noticed_by: "cut-off", complaint: "lost" },
    Broken { word: "duplicates", noticed_by: "reset", complaint: "lost" },
    Broken { word: "tail", noticed_by: "slow-reader", complaint: "slow readers cost" },
    Broken { word: "buffers", noticed_by: "idle-connections", complaint: "each costs" },
    Broken { word: "budget", noticed_by: "hoard", complaint: "memory grew by" },
    Broken { word: "stuck", noticed_by: "hoard", complaint: "nobody was closed" },
    Broken { word: "leavers", noticed_by: "storm", complaint: "until those who went are gone" },
    Broken { word: "doctor", noticed_by: "doctor", complaint: TEST_FAILED },
    Broken { word: "wall", noticed_by: "panic", complaint: TEST_FAILED },
    Broken { word: "format", noticed_by: "formats", complaint: TEST_FAILED },
    Broken { word: "thread", noticed_by: "thread", complaint: TEST_FAILED },
    Broken { word: "clock", noticed_by: "clock", complaint: TEST_FAILED },
    Broken { word: "quotes", noticed_by: "fuzz-requests", complaint: TEST_FAILED },
];

/// Cargo's words: it says something else of what cannot be built.
pub(crate) const TEST_FAILED: &str = "error: test failed";

/// The first one of that name.
pub(super) fn find(word: &str) -> Result<&'static Broken, String> {
    ALL.iter().find(|broken| broken.word == word).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|broken| broken.word).collect();
        format!("a broker cannot be broken by {word:?}; ways are {}", known.join(", "))
    })
}

impl Broken {
    /// What a run says of it: good when it was noticed, and for the right reason.
    pub(super) fn judge(&self, verdict: Outcome) -> Outcome {
        let Broken { word, noticed_by, complaint } = self;
        match verdict {
            Ok(()) => {
                Err(Failed::new(format!("a broker with broken {word} was not noticed by {noticed_by}")))
            }
            Err(failed) if failed.to_string().contains(complaint) => {
                println!("noticed, as it should be, that {word} is broken: {failed}");
                Ok(())
            }
            Err(failed) => {
                Err(Failed::new(format!("{noticed_by} failed, and not over what {word} breaks: {failed}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_has_to_be_noticed_for_the_right_reason() {
        let late = find("late").unwrap();
        assert!(late.judge(Err(Failed::new("kill -9: 3 lost"))).is_ok());
        assert!(late.judge(Err(Failed::new("kill -9: no free port"))).is_err());
        assert!(late.judge(Ok(())).is_err());
        assert!(find("early").unwrap_err().contains("ways are late, drain, "));
    }
}
