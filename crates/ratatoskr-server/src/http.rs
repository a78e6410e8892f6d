//! The HTTP front door: is it alive, is it ready, its metrics, its version.
//!
//! `/healthz` asks whether the process answers; `/readyz` whether to send it work. A full disk leaves
//! it ready: reads go on, and publishers are told by status.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ratatoskr_broker::{Broker, Health};
use serde::Serialize;

use crate::closing::Closing;
use crate::metrics;
use crate::service::health_text;
use crate::traffic::Traffic;

const INDEX: &str = "ratatoskr

/healthz  200 while the process answers
/readyz   200 while it serves, else 503 and why not
/metrics  figures for Prometheus
/version  the version, as JSON
";

/// What the pages are made from.
#[derive(Clone)]
struct Pages {
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
pub(crate) fn router(broker: Broker, traffic: Arc<Traffic>, closing: Closing) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .route("/version", get(version))
        .with_state(Pages { broker, traffic, closing })
}

async fn readyz(State(pages): State<Pages>) -> Response {
    if pages.closing.is_closed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    let health = pages.broker.health();
    let status = match health {
        Health::Serving | Health::DiskFull { .. } => StatusCode::OK,
        Health::Failed { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", health_text(&health))).into_response()
}

async fn show_metrics(State(pages): State<Pages>) -> Response {
    let text = metrics::render(&pages.broker, &pages.traffic).await;
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn version() -> Response {
    let version = Version { name: "ratatoskr", version: crate::VERSION };
    let text = serde_json::to_string(&version).expect("two plain texts");
    ([(header::CONTENT_TYPE, "application/json")], format!("{text}\n")).into_response()
}
