//! [`Arrivals`]: connections of the HTTP door, after their handshakes.

use std::sync::Arc;
use std::{fmt, io};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::access::Visitor;
use crate::guard::Guard;
use crate::limits::{ACCEPT_RETRY_PAUSE, HANDSHAKES_MAX};
use crate::tls::{self, Door, Wire};
use crate::traffic::Traffic;

/// See the file's head.
pub(crate) struct Arrivals {
    pub(crate) listener: TcpListener,
    pub(crate) guard: Guard,
    pub(crate) traffic: Arc<Traffic>,
    /// Handshakes under way: a slow one holds up nobody.
    pub(crate) shaking: FuturesUnordered<BoxFuture<'static, io::Result<(Wire, Arrived)>>>,
}

/// Who came in.
#[derive(Clone)]
pub(crate) struct Arrived(pub(crate) Arc<Visitor>);

// axum asks for it.
impl fmt::Debug for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.peer().fmt(f)
    }
}

impl Arrivals {
    fn begin(&self, stream: TcpStream) {
        let guard = self.guard.clone();
        self.shaking.push(Box::pin(async move {
            let (wire, peer) = tls::accept(guard.tls.as_deref(), Door::Http, stream).await?;
            Ok((wire, Arrived(Arc::new(Visitor::new(guard.access, peer)))))
        }));
    }
}

impl Listener for Arrivals {
    type Io = Wire;
    type Addr = Arrived;

    async fn accept(&mut self) -> (Wire, Arrived) {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.shaking.len() < HANDSHAKES_MAX => match accepted {
                    Ok((stream, _)) => self.begin(stream),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(ACCEPT_RETRY_PAUSE).await;
                    }
                },
                Some(shaken) = self.shaking.next(), if !self.shaking.is_empty() => match shaken {
                    Ok(arrived) => return arrived,
                    Err(error) => {
                        self.traffic.handshakes_failed.increment();
                        tracing::debug!(%error, "a TLS handshake failed");
                    }
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Arrived> {
        let peer = crate::access::Peer::at(self.listener.local_addr()?);
        Ok(Arrived(Arc::new(Visitor::new(self.guard.access.clone(), peer))))
    }
}

impl Connected<IncomingStream<'_, Arrivals>> for Arrived {
    fn connect_info(stream: IncomingStream<'_, Arrivals>) -> Arrived {
        stream.remote_addr().clone()
    }
}
