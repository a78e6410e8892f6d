//! The HTTP front door: is it alive, is it ready, its metrics, its version.
//!
//! `/healthz` asks whether the process answers; `/readyz` whether to send it work. A full disk leaves
//! it ready: reads go on, and publishers are told by status.

mod hosts;
mod visits;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use ratatoskr_broker::{Broker, Health, quoted};
use serde::Serialize;
use tonic::Code;

use crate::access::{Action, Gate, Visitor};
use crate::closing::Closing;
use crate::guard::Guard;
use crate::metrics;
use crate::origin::Origin;
use crate::service::health_text;
use crate::traffic::Traffic;

pub(crate) use hosts::Hosts;
pub(crate) use visits::{Reception, serve};

const INDEX: &str = "ratatoskr

/healthz  200 while the process answers
/readyz   200 while it serves, else 503 and why not
/metrics  figures for Prometheus
/version  the version, as JSON
";

/// What the pages are made from.
#[derive(Clone)]
struct Pages {
    // Who may see them.
    guard: Guard,
    // The figures and the health.
    broker: Broker,
    // The figures of the front doors.
    traffic: Arc<Traffic>,
    // Whether the server is on its way down.
    closing: Closing,
}

/// The answer of `/version`.
#[derive(Serialize)]
struct Version {
    // Always `ratatoskr`.
    name: &'static str,
    // Such as 0.1.0.
    version: &'static str,
}

/// All pages.
pub(crate) fn router(broker: Broker, traffic: Arc<Traffic>, guard: Guard, closing: Closing) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/version", get(version))
        .route_layer(axum::middleware::from_fn(ask));
    Router::new()
        .route("/", get(async || INDEX))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .merge(guarded)
        .layer(axum::middleware::from_fn_with_state(guard.hosts.clone(), refuse_other_sites))
        .with_state(Pages { guard, broker, traffic, closing })
}

/// Lets a request for a page about the whole broker pass, if its caller may have that.
async fn ask(Extension(visitor): Extension<Arc<Visitor>>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    let entered =
        Gate::enter(&visitor, authorization, "GET").and_then(|gate| gate.may_anywhere(Action::Admin));
    match entered {
        Ok(()) => next.run(request).await,
        Err(status) if status.code() == Code::Unauthenticated => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, format!("{}\n", status.message())).into_response()
        }
        Err(status) => (StatusCode::FORBIDDEN, format!("{}\n", status.message())).into_response(),
    }
}

/// Refuses what web pages of other sites ask for, also those whose site has a name that leads here.
async fn refuse_other_sites(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let stranger = request.headers().get_all(header::HOST).iter().find(|host| !hosts.has(host.as_bytes()));
    if let Some(host) = stranger {
        let host = String::from_utf8_lossy(host.as_bytes());
        let text = format!(
            "this server is not known as {}; ask for it by its address, or add the name to `http_hosts`\n",
            quoted(&host)
        );
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    if is_of_other_site(&request) {
        return (StatusCode::FORBIDDEN, "a web page of another site made this request\n").into_response();
    }
    next.run(request).await
}

/// Links on other sites' pages may lead here: then the browser shows our page, and theirs is gone.
fn is_of_other_site(request: &Request) -> bool {
    let value = |name: &str| request.headers().get(name).map(header::HeaderValue::as_bytes);
    let origin =
        Origin { fetch_site: value("sec-fetch-site"), of_page: value("origin"), host: value("host") };
    let is_visit = request.method() == Method::GET
        && value("sec-fetch-mode") == Some(b"navigate")
        && value("sec-fetch-dest") == Some(b"document");
    origin.is_cross_site() && !is_visit
}

async fn readyz(State(pages): State<Pages>) -> Response {
    if pages.closing.is_closed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    let health = pages.broker.health();
    let status = match health {
        Health::Serving | Health::DiskFull { .. } | Health::Blocked { .. } => StatusCode::OK,
        Health::Failed { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", health_text(&health))).into_response()
}

async fn show_metrics(State(pages): State<Pages>) -> Response {
    let text = metrics::render(&pages.broker, &pages.traffic, &pages.guard).await;
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn version() -> Response {
    let version = Version { name: "ratatoskr", version: crate::VERSION };
    let text = serde_json::to_string(&version).expect("two plain texts");
    ([(header::CONTENT_TYPE, "application/json")], format!("{text}\n")).into_response()
}
