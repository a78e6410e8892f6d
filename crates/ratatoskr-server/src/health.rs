//! `grpc.health.v1`: what load balancers and orchestrators ask. Follows the broker's health.

use ratatoskr_broker::{Broker, Health};
use ratatoskr_proto::SERVICE_NAME;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::closing::Closing;

/// The whole server (the empty name, by the health protocol) and the one service it offers.
const SERVICES: [&str; 2] = ["", SERVICE_NAME];

/// Reports the broker's health until the server shuts down, then `NOT_SERVING` and the end of all watches.
pub(crate) async fn report(mut reporter: HealthReporter, broker: Broker, closing: Closing) {
    tokio::select! {
        () = follow(&reporter, &broker) => {}
        () = closing.closed() => {}
    }
    set_all(&reporter, ServingStatus::NotServing).await;
    // A watch never ends by itself, and would hold the shutdown up to its limit.
    for service in SERVICES {
        reporter.clear_service_status(service).await;
    }
}

/// Returns when the broker is gone.
async fn follow(reporter: &HealthReporter, broker: &Broker) {
    let mut health = broker.watch_health();
    loop {
        let failed = matches!(*health.borrow_and_update(), Health::Failed { .. });
        set_all(reporter, if failed { ServingStatus::NotServing } else { ServingStatus::Serving }).await;
        if health.changed().await.is_err() {
            return;
        }
    }
}

async fn set_all(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}
