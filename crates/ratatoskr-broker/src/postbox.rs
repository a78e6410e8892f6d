//! [`Postbox`]: where one thread finds the receipts of all that it published, told once for each commit.
//!
//! ```text
//!   submit(draft, ticket) ──▶ inbox ──▶ sequencer ──commit──▶ [ t7 ok, t8 ok, t9 ok … ] ──one wake──▶ the thread
//! ```
//!
//! A future for each publish would be woken from the sequencer's thread, one system call each. Here a commit that answers a thousand
//! callers of one thread wakes it once. Whoever submits gives away a [`Ticket`] with a number of its own; it comes back with the outcome,
//! whatever happens: a submission that is dropped is answered with why. It cannot come back twice, for a ticket can be neither copied nor
//! made anew: whoever has it in hand is the only one.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::command::{AppendError, Appended};
use crate::core::Core;
use crate::error::{PublishError, Unavailable};

/// See the file's head.
pub struct Postbox {
    /// Knows why the broker takes nothing more.
    core: Weak<Core>,
    post: Mutex<Vec<Posted>>,
    /// Rung when a commit is done.
    bell: Notify,
}

impl std::fmt::Debug for Postbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postbox").field("posted", &self.post.lock().len()).finish_non_exhaustive()
    }
}

/// What a submission is known by. There is one of it: it is given away with the submission, and comes back with the outcome.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// A ticket with a number that means something to whoever submits. Only one of the same number may be away at a time.
    pub fn new(number: u64) -> Ticket {
        Ticket(number)
    }

    /// The number.
    pub fn number(&self) -> u64 {
        self.0
    }
}

/// An outcome.
#[derive(Debug)]
pub struct Posted {
    /// What the submission was given.
    pub ticket: Ticket,
    /// Where its messages are, once they are as safe as their topic's durability says, or why they are not.
    pub outcome: Result<Published, PublishError>,
}

/// Messages of one submission that are published: what [`crate::Broker::receipt_of`] makes receipts of.
#[derive(Clone, Debug)]
pub struct Published(pub(crate) Appended);

impl Postbox {
    /// Waits until there is post, and takes all of it.
    pub async fn take(&self, posted: &mut Vec<Posted>) {
        loop {
            // A ring between two looks is remembered.
            std::mem::swap(posted, &mut *self.post.lock());
            if !posted.is_empty() {
                return;
            }
            self.bell.notified().await;
        }
    }

    fn put(&self, posted: Posted) {
        self.post.lock().push(posted);
    }

    fn ring(&self) {
        if !self.post.lock().is_empty() {
            self.bell.notify_one();
        }
    }
}

/// All postboxes of a broker.
#[derive(Debug, Default)]
pub(crate) struct Postboxes(Mutex<Vec<Weak<Postbox>>>);

impl Postboxes {
    pub(crate) fn open(&self, core: Weak<Core>) -> Arc<Postbox> {
        let postbox = Arc::new(Postbox { core, post: Mutex::default(), bell: Notify::new() });
        let mut all = self.0.lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&postbox));
        postbox
    }

    /// A commit is done: wakes those who have post.
    pub(crate) fn ring(&self) {
        self.0.lock().iter().filter_map(Weak::upgrade).for_each(|postbox| postbox.ring());
    }
}

/// The way back into a postbox. Dropped without an answer, it says that the broker takes nothing more.
pub(crate) struct Return {
    postbox: Arc<Postbox>,
    /// `None` once it is given back.
    ticket: Option<Ticket>,
}

impl Return {
    pub(crate) fn new(postbox: &Arc<Postbox>, ticket: Ticket) -> Return {
        Return { postbox: postbox.clone(), ticket: Some(ticket) }
    }

    /// Puts the answer in; it is noticed with the next ring.
    pub(crate) fn answer(mut self, answer: Result<Appended, AppendError>) {
        let Some(ticket) = self.ticket.take() else { return };
        let outcome = answer.map(Published).map_err(PublishError::from);
        self.postbox.put(Posted { ticket, outcome });
    }

    /// Nothing was submitted: the ticket goes back to where it came from.
    pub(crate) fn take_back(mut self) -> Option<Ticket> {
        self.ticket.take()
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let reason = self.postbox.core.upgrade().map_or(Unavailable::ShuttingDown, |core| core.closed());
            let outcome = Err(reason.into());
            self.postbox.put(Posted { ticket, outcome });
            self.postbox.ring();
        }
    }
}
