//! [`serve`]: connections of the HTTP door, from the handshake to the last answer.
//!
//! ```text
//!   accept ──▶ at most connections_max, else the oldest goes ──▶ handshake ──▶ request, within HTTP_IDLE_TIMEOUT ──▶ answer
//!                                                                                     ▲────────────────────────────────────┘
//! ```
//!
//! The pages are for a few scrapers and probes. Whoever opens more connections, or is slow to ask or to read, gives way to whoever comes: a
//! probe is always let in, and files and memory stay bounded.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use axum::{Extension, Router};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tonic::codegen::Service as _;

use crate::access::Visitor;
use crate::closing::Closing;
use crate::guard::Guard;
use crate::limits::{ACCEPT_RETRY_PAUSE, HTTP_BUFFER_BYTES_MAX, HTTP_IDLE_TIMEOUT};
use crate::tls::{self, Door};
use crate::traffic::Traffic;

/// What connections are served with.
#[derive(Clone)]
pub(crate) struct Reception {
    pub(crate) pages: Router,
    pub(crate) guard: Guard,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) closing: Closing,
    /// Connections at a time.
    pub(crate) connections_max: usize,
}

/// Serves until the signal, and until answers that are under way have gone.
pub(crate) async fn serve(listener: TcpListener, reception: Reception) {
    let mut visits = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    let mut closed = pin!(reception.closing.clone().closed());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut closed => break,
            Some(_) = visits.join_next(), if !visits.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                if oldest_first.len() >= reception.connections_max {
                    oldest_first.retain(|visit| !visit.is_finished());
                }
                if oldest_first.len() >= reception.connections_max
                    && let Some(oldest) = oldest_first.pop_front()
                {
                    oldest.abort();
                }
                oldest_first.push_back(visits.spawn(reception.clone().receive(socket)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }
    drop(listener);
    while visits.join_next().await.is_some() {}
}

impl Reception {
    /// Serves one connection.
    async fn receive(self, socket: TcpStream) {
        let mut closed = pin!(self.closing.closed());
        let accepted = tokio::select! {
            accepted = tls::accept(self.guard.tls.as_deref(), Door::Http, socket) => accepted,
            () = &mut closed => return,
        };
        let (wire, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                self.traffic.handshakes_failed.increment();
                return tracing::debug!(%error, "a TLS handshake failed");
            }
        };
        let visitor = Arc::new(Visitor::new(self.guard.access.clone(), peer));
        let pages = self.pages.layer(Extension(visitor));
        let answer = service_fn(move |request: Request<Incoming>| pages.clone().call(request));
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HTTP_IDLE_TIMEOUT)
                .max_buf_size(HTTP_BUFFER_BYTES_MAX)
                .serve_connection(TokioIo::new(wire), answer)
        );
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = &mut closed => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an HTTP connection ended early");
        }
    }
}
