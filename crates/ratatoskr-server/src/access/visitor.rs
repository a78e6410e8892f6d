//! [`Visitor`]: a connection's peer, and the callers that were seen on it.
//!
//! Most connections have one caller, some (a proxy's) a few. Whoever is known is found by comparing one header, without any
//! cryptography, as long as neither the policy nor the clock has moved past them. What is found belongs to this connection, so
//! that threads do not contend for its count.

use std::sync::Arc;

use parking_lot::Mutex;

use super::caller::{Caller, Secret};
use super::denied::Denied;
use super::peer::Peer;
use super::{Access, bearer};

/// Callers one connection remembers.
const CALLERS_KNOWN_MAX: usize = 8;
/// A longer credential is verified with each call.
const CREDENTIAL_BYTES_KEPT_MAX: usize = 4096;

/// See the file's head.
pub(crate) struct Visitor {
    access: Arc<Access>,
    peer: Peer,
    /// Never waited for: a connection stays on its thread.
    known: Mutex<Vec<Known>>,
}

struct Known {
    /// What stands behind `Bearer` in the header, without the spaces that may stand around it: many headers, one entry. `None` for the
    /// certificate.
    credential: Option<Secret>,
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
        let credential = authorization.and_then(|header| bearer(header).ok()).map(str::as_bytes);
        if credential.is_some() != authorization.is_some() {
            return self.authenticate(authorization);
        }
        let is_known = |known: &Known| known.credential.as_ref().map(Secret::bytes) == credential;
        let mut known = self.known.lock();
        if let Some(place) = known.iter().position(is_known) {
            if self.access.is_current(&known[place].caller) {
                return Ok(known[place].caller.clone());
            }
            known.swap_remove(place);
        }
        let caller = self.authenticate(authorization)?;
        if credential.is_some_and(|credential| credential.len() > CREDENTIAL_BYTES_KEPT_MAX) {
            return Ok(caller);
        }
        if known.len() == CALLERS_KNOWN_MAX {
            known.remove(0);
        }
        known.push(Known { credential: credential.map(Secret::from), caller: caller.clone() });
        Ok(caller)
    }

    fn authenticate(&self, authorization: Option<&[u8]>) -> Result<Arc<Caller>, Denied> {
        Ok(Arc::new(Caller::clone(&*self.access.authenticate(authorization, &self.peer)?)))
    }
}
