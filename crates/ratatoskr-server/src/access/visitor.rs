//! [`Visitor`]: a connection's peer, and the callers that were seen on it.
//!
//! Most connections have one caller, some (a proxy's) a few. Whoever is known is found by comparing one header, without any
//! cryptography, as long as neither the policy nor the clock has moved past them.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Access;
use super::caller::{Caller, Secret};
use super::denied::Denied;
use super::peer::Peer;

/// Callers one connection remembers.
const CALLERS_KNOWN_MAX: usize = 8;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Visitor {
    peer: Peer,
    /// Never waited for: a connection stays on its thread.
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    /// The header as it came; `None` for the certificate.
    header: Option<Secret>,
    caller: Arc<Caller>,
}

impl Visitor {
    pub(crate) fn new(peer: Peer) -> Visitor {
        Visitor { peer, known: Mutex::default() }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Says who makes a call on this connection, by its `authorization` header.
    pub(crate) fn caller(
        &self,
        access: &Access,
        authorization: Option<&[u8]>,
    ) -> Result<Arc<Caller>, Denied> {
        let is_known =
            |known: &Known| known.header.as_ref().map(|header| header.expose().as_bytes()) == authorization;
        let mut known = self.known.lock();
        let place = known.iter().position(is_known);
        if let Some(place) = place {
            if access.is_current(&known[place].caller) {
                return Ok(known[place].caller.clone());
            }
            known.swap_remove(place);
        }
        let caller = access.authenticate(authorization, &self.peer)?;
        let header = authorization.map(|header| Secret::from(&*String::from_utf8_lossy(header)));
        if known.len() == CALLERS_KNOWN_MAX {
            known.remove(0);
        }
        known.push(Known { header, caller: caller.clone() });
        Ok(caller)
    }
}
