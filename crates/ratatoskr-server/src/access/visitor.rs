//! [`Visitor`]: a connection's peer, and the callers that were seen on it.
//!
//! Most connections have one caller, some (a proxy's) a few. Whoever is known is found by comparing one header, without any
//! cryptography, as long as neither the policy nor the clock has moved past them. What is found belongs to this connection, so
//! that threads do not contend for its count.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Access;
use super::caller::{Caller, Secret};
use super::denied::Denied;
use super::peer::Peer;

/// Callers one connection remembers.
const CALLERS_KNOWN_MAX: usize = 8;

/// See the file's head.
pub(crate) struct Visitor {
    access: Arc<Access>,
    peer: Peer,
    /// Never waited for: a connection stays on its thread.
    known: Mutex<Vec<Known>>,
}

struct Known {
    /// The header as it came; `None` for the certificate.
    header: Option<Secret>,
    caller: Arc<Caller>,
}

impl Visitor {
    pub(crate) fn new(access: Arc<Access>, peer: Peer) -> Visitor {
        Visitor { access, peer, known: Mutex::default() }
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    #[cfg(test)]
    pub(super) fn known_count(&self) -> usize {
        self.known.lock().len()
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Says who makes a call on this connection, by its `authorization` header.
    pub(crate) fn caller(&self, authorization: Option<&[u8]>) -> Result<Arc<Caller>, Denied> {
        let is_known = |known: &Known| known.header.as_ref().map(Secret::bytes) == authorization;
        let mut known = self.known.lock();
        if let Some(place) = known.iter().position(is_known) {
            if self.access.is_current(&known[place].caller) {
                return Ok(known[place].caller.clone());
            }
            known.swap_remove(place);
        }
        let caller = Arc::new(Caller::clone(&*self.access.authenticate(authorization, &self.peer)?));
        if known.len() == CALLERS_KNOWN_MAX {
            known.remove(0);
        }
        known.push(Known { header: authorization.map(Secret::from), caller: caller.clone() });
        Ok(caller)
    }
}
