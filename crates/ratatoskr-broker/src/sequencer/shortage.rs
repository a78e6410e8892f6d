//! What the sequencer does while the log cannot take appends: it waits, or refuses them with the reason, and goes on once it can.
//!
//! ```text
//!   serving ──no room on the disk──▶ disk_full ──┐
//!      │  ▲                                      ├──looked at after each commit, with each append, and every sweep──▶ serving
//!      │  └──a file cannot be opened──▶ blocked ─┘
//!      └──a write or sync failed──▶ failed, for good
//! ```

use ratatoskr_log::{LogError, Pressure, Reserve};

use super::Sequencer;
use crate::broken::Broken;
use crate::command::Command;
use crate::core::Health;
use crate::error::Unavailable;

impl Sequencer {
    pub(super) fn is_held_up(&self) -> bool {
        self.core.health.borrow().is_held_up()
    }

    /// Commits what is staged if the change is of another kind, or does not fit into the journal with it: what cannot go on must not have
    /// refused what can. Answers the kind that is staged then.
    pub(super) fn make_way_for(&mut self, change: &Command, staged: Reserve) -> Reserve {
        let reserve = change.reserve();
        let shares_block = reserve == staged && reserve != Reserve::Free;
        if !shares_block || !self.log.has_room_for(change.block_bytes(), reserve) {
            self.commit();
        }
        reserve
    }

    /// Waits while memory or the journal are used up; answers why appends must be refused, if so.
    pub(super) fn wait_for_room(&mut self) -> Option<Unavailable> {
        if self.is_held_up()
            && let Err(error) = self.log.check()
        {
            return Some(self.note_failure(&error));
        }
        loop {
            match self.log.pressure() {
                Pressure::None => return None,
                Pressure::Wait => self.log.wait_for_flusher(),
                Pressure::Blocked { reason } => {
                    self.core.set_health(Health::Blocked { reason: reason.clone() });
                    return Some(Unavailable::Blocked { reason });
                }
                Pressure::Full => {
                    let detail = "the disk is full: segments cannot be written; free some space, or delete or purge topics";
                    self.core.set_health(Health::DiskFull { free_hint: detail.to_owned() });
                    return Some(Unavailable::DiskFull { detail: detail.to_owned() });
                }
            }
            if let Health::Failed { reason } = &*self.core.health.borrow() {
                return Some(Unavailable::Poisoned { reason: reason.clone() });
            }
            // A flusher that failed makes no more progress: the next write says why.
            if let Err(error) = self.log.check() {
                return Some(self.note_failure(&error));
            }
        }
    }

    /// Tells health about a failed write or sync; answers what to tell the callers.
    pub(super) fn note_failure(&mut self, error: &LogError) -> Unavailable {
        let reason = error.to_string();
        if error.is_full() && !Broken::Full.is_on() {
            let full = Health::DiskFull { free_hint: reason.clone() };
            if self.core.set_health(full) {
                tracing::warn!(%reason, "publishing waits for room on the disk");
            }
            return Unavailable::DiskFull { detail: reason };
        }
        if error.is_passing() && !Broken::Full.is_on() {
            if self.core.set_health(Health::Blocked { reason: reason.clone() }) {
                tracing::warn!(%reason, "publishing waits until the log can open its files");
            }
            return Unavailable::Blocked { reason };
        }
        if self.core.set_health(Health::Failed { reason: reason.clone() }) {
            tracing::error!(%reason, "nothing is acknowledged any more");
        }
        Unavailable::Poisoned { reason }
    }

    /// Looks whether there is room (again), and whether the flusher is well.
    pub(super) fn check(&mut self) {
        match self.log.check() {
            Ok(()) if !matches!(self.log.pressure(), Pressure::Full | Pressure::Blocked { .. }) => {
                let was_full = matches!(&*self.core.health.borrow(), Health::DiskFull { .. });
                if self.core.set_health(Health::Serving) {
                    let reason =
                        if was_full { "the disk has room again" } else { "the log can open its files again" };
                    tracing::info!("{reason}; publishing goes on");
                }
            }
            Ok(()) => {}
            Err(error) => {
                self.note_failure(&error);
            }
        }
    }
}
