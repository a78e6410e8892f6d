//! [`Registration`]: a member's place in its subscription, from before it is asked for until it is given up.
//!
//! ```text
//!   Registration::new ──ask──▶ Join ─┐
//!                                    ├─▶ dispatcher, in this order
//!   drop, at whatever point ─▶ Leave ┘
//! ```
//!
//! Invariant: whoever asks the dispatcher to add a member owns the value whose drop takes it away again. A caller that gives up while it is
//! being let in leaves nobody behind that messages could be leased to.

use ratatoskr_state::SubscriptionSettings;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::event::{Leaving, Window};
use super::member::MemberQueue;
use super::request::Request;
use super::token::Token;
use crate::core::Core;
use crate::error::Unavailable;

/// See the file's head.
pub(crate) struct Registration {
    pub(crate) core: Arc<Core>,
    pub(crate) subscription: u32,
    pub(crate) member_queue: Arc<MemberQueue>,
    /// How it ends. Until there is a member that could have seen a message: unharmed.
    pub(crate) leaving: Leaving,
    /// Deliveries taken out of the member queue that nobody saw.
    pub(crate) unseen: Vec<Token>,
}

impl Registration {
    pub(crate) fn new(core: Arc<Core>, subscription: u32, member_queue: MemberQueue) -> Registration {
        let (member_queue, leaving, unseen) = (Arc::new(member_queue), Leaving::Unharmed, Vec::new());
        Registration { core, subscription, member_queue, leaving, unseen }
    }

    /// Asks for the place. `None` when the subscription is gone.
    pub(crate) async fn ask(&self, window: Window) -> Result<Option<Arc<SubscriptionSettings>>, Unavailable> {
        let Registration { core, subscription, member_queue, .. } = self;
        let (reply, answer) = oneshot::channel();
        let request =
            Request::Join { subscription: *subscription, member_queue: member_queue.clone(), window, reply };
        core.dispatcher.push(request).map_err(|_| core.closed())?;
        answer.await.map_err(|_| core.closed())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let (subscription, member, leaving) = (self.subscription, self.member_queue.id, self.leaving);
        let unseen = std::mem::take(&mut self.unseen);
        // A closed inbox means the broker stops: nobody holds anything any more.
        let _ = self.core.dispatcher.push(Request::Leave { subscription, member, leaving, unseen });
    }
}
