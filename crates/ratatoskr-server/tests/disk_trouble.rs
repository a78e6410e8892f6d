//! What clients and operators see while the disk is full, while the log has no file descriptors, and once the disk has failed.
#![allow(clippy::unwrap_used)] // a test may end here

mod support;

use std::sync::Arc;
use std::time::Duration;

use ratatoskr_proto::start_position::Position;
use ratatoskr_proto::{CreateTopicRequest, StartPosition, SubscribeRequest};
use ratatoskr_sim::{SimClock, SimDisk};
use support::{Fixture, PATIENCE, message, payloads, publish, subscribe};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

fn from_earliest() -> SubscribeRequest {
    let start = Some(StartPosition { position: Some(Position::Earliest(true)) });
    SubscribeRequest { topic: "orders".into(), start, ..SubscribeRequest::default() }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

#[tokio::test]
async fn a_full_disk_refuses_publishes_serves_reads_and_goes_on_once_there_is_room() {
    let (disk, clock) = (Arc::new(SimDisk::new()), Arc::new(SimClock::at(1_700_000_000_000)));
    let fixture = Fixture::start_on(&disk, &clock);
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "first").await;
    disk.set_capacity(Some(disk.used_bytes()));

    // Room that the journal has set aside beforehand is used up first.
    let filling = async {
        loop {
            if let Err(status) = client.publish(message("orders", vec![0; 1 << 20])).await {
                return status;
            }
        }
    };
    let status = timeout(PATIENCE, filling).await.unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "DISK_FULL"), "{status}");
    assert!(status.get_details_retry_info().is_some());
    let stream = tokio_stream::iter([ratatoskr_proto::PublishStreamRequest {
        sequence: 1,
        topic: "orders".into(),
        messages: vec![message("", vec![0; 1 << 20])],
    }]);
    let mut answers = client.publish_stream(stream).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::ResourceExhausted);

    let mut reading = subscribe(&mut client, from_earliest()).await;
    assert_eq!(payloads(&mut reading, 1).await, ["first"]);
    let ready = fixture.page("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("disk_full: "), "{ready}");
    assert!(fixture.page("/metrics").await.contains("\nratatoskr_writable 0\n"));

    disk.set_capacity(None);
    let going_on = async {
        while client.publish(message("orders", vec![0; 1 << 20])).await.is_err() {
            clock.advance(1000); // a full disk is not looked at more often than that
            sleep(Duration::from_millis(20)).await;
        }
        while !fixture.page("/metrics").await.contains("\nratatoskr_writable 1\n") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, going_on).await.expect("it goes on by itself");
}

#[tokio::test]
async fn a_failed_sync_ends_serving_for_good_and_everybody_is_told() {
    let (disk, clock) = (Arc::new(SimDisk::new()), Arc::new(SimClock::at(1_700_000_000_000)));
    let fixture = Fixture::start_on(&disk, &clock);
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "first").await;
    disk.fail_sync(1);

    let status = client.publish(message("orders", "lost")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "JOURNAL_FAILED"), "{status}");
    let status = client.publish(message("orders", "never acknowledged")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let created = client.create_topic(CreateTopicRequest { name: "bills".into(), settings: None }).await;
    assert_eq!(created.unwrap_err().code(), Code::Unavailable);

    let why = timeout(PATIENCE, fixture.running.as_ref().unwrap().failed()).await.unwrap();
    assert!(why.contains("sync"), "{why}");
    let ready = fixture.page("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("failed: "), "{ready}");
    assert!(fixture.page("/healthz").await.starts_with("HTTP/1.1 200"), "the process still answers");
    assert!(fixture.page("/metrics").await.contains("\nratatoskr_serving 0\n"));
    let mut health = HealthClient::new(fixture.channel().await);
    for service in ["", "ratatoskr.MessageBroker"] {
        let request = HealthCheckRequest { service: service.into() };
        let told = async {
            while health.check(request.clone()).await.unwrap().into_inner().status()
                != ServingStatus::NotServing
            {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, told).await.expect("health follows the broker");
    }
}

#[tokio::test]
async fn a_log_without_file_descriptors_refuses_publishes_with_the_reason_and_goes_on_once_there_are_some() {
    let (disk, clock) = (Arc::new(SimDisk::new()), Arc::new(SimClock::at(1_700_000_000_000)));
    let fixture = Fixture::start_on(&disk, &clock);
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "first").await;
    disk.set_open_files_max(Some(0));

    let filling = async {
        loop {
            if let Err(status) = client.publish(message("orders", vec![0; 1 << 20])).await {
                return status;
            }
        }
    };
    let status = timeout(PATIENCE, filling).await.unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "LOG_BLOCKED"), "{status}");
    assert!(status.message().contains("LimitNOFILE"), "{status}");
    assert!(status.get_details_retry_info().is_some());
    let mut reading = subscribe(&mut client, from_earliest()).await;
    assert_eq!(payloads(&mut reading, 1).await, ["first"], "what is in memory is served");
    let ready = fixture.page("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("blocked: "), "{ready}");
    assert!(fixture.page("/metrics").await.contains("\nratatoskr_writable 0\n"));

    disk.set_open_files_max(None);
    let going_on = async {
        while client.publish(message("orders", vec![0; 1 << 20])).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        while !fixture.page("/metrics").await.contains("\nratatoskr_writable 1\n") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, going_on).await.expect("it goes on by itself");
}
