//! The metrics, by name: what `/metrics` shows, in the `OpenMetrics` text format that Prometheus reads.
//!
//! The figures are the broker's; they are read when someone asks, so that counting costs nothing here.
//! Names follow the glossary; counters get `_total` appended by the format.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use ratatoskr_broker::{Broker, Counters, Health, SubscriptionDescription, TopicName, TopicStats};

use crate::access::{Namespace, Namespaces};
use crate::guard::Guard;
use crate::limits::{SUBSCRIPTION_METRICS_MAX, TOPIC_METRICS_MAX};
use crate::traffic::Traffic;

/// The content type of the text that [`render`] makes.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A metric: name, what it says, where its figure comes from.
type Metric<T> = (&'static str, &'static str, fn(&T) -> u64);

/// Figures that only grow while the broker runs.
const COUNTERS: &[Metric<Counters>] = &[
    ("ratatoskr_published_messages", "Messages published", |c| c.published_messages),
    ("ratatoskr_published_bytes", "Bytes of published messages", |c| c.published_bytes),
    ("ratatoskr_publish_refused", "Messages refused", |c| c.publish_refused),
    ("ratatoskr_delivered_messages", "Messages delivered, once per subscriber", |c| c.delivered_messages),
    ("ratatoskr_delivered_bytes", "Bytes of delivered messages, once per subscriber", |c| c.delivered_bytes),
    (
        "ratatoskr_retention_unsettled_messages",
        "Messages removed by retention before a subscription had settled them, once per subscription",
        |c| c.retention_unsettled_messages,
    ),
    ("ratatoskr_journal_commits", "Group commits of the journal", |c| c.commits),
    ("ratatoskr_journal_committed_bytes", "Bytes committed to the journal", |c| c.committed_bytes),
    ("ratatoskr_journal_syncs", "Times the journal was synced", |c| c.syncs),
    ("ratatoskr_journal_sync_microseconds", "Time spent in those syncs", |c| c.sync_micros_total),
    ("ratatoskr_checkpoints", "Checkpoints written", |c| c.checkpoints),
    ("ratatoskr_checkpoint_pause_microseconds", "Time that publishers waited while checkpoints began", |c| {
        c.checkpoint_pause_micros
    }),
    ("ratatoskr_scanned_bytes", "Bytes that peeks and listings of dead letters looked through", |c| {
        c.scanned_bytes
    }),
    ("ratatoskr_topic_restarts", "Topics restarted after a crash", |c| c.topic_restarts),
    ("ratatoskr_torn_bytes_cut", "Bytes of unacknowledged records cut at recovery", |c| c.torn_bytes_cut),
];

/// Figures as they stand.
const GAUGES: &[Metric<Counters>] = &[
    ("ratatoskr_topics", "Topics", |c| c.topics),
    ("ratatoskr_subscriptions", "Open subscriptions", |c| c.subscriptions),
    ("ratatoskr_scheduled_messages", "Messages that are not due yet", |c| c.scheduled_messages),
    ("ratatoskr_dedup_ids", "Ids remembered to find duplicates", |c| c.dedup_ids),
    ("ratatoskr_tail_bytes", "Bytes of recent messages in memory", |c| c.tail_bytes),
    ("ratatoskr_unflushed_bytes", "Bytes not yet written to segments", |c| c.unflushed_bytes),
    ("ratatoskr_journal_bytes", "Bytes of the journal's files", |c| c.journal_bytes),
    ("ratatoskr_inbox_bytes", "Bytes that wait for the journal", |c| c.inbox_bytes),
];

/// Figures of the front doors.
const TRAFFIC_COUNTERS: &[Metric<Traffic>] = &[
    ("ratatoskr_grpc_connections", "gRPC connections accepted", |t| t.connections.get()),
    ("ratatoskr_grpc_connections_failed", "Connections that could not be accepted", |t| {
        t.connections_failed.get()
    }),
    ("ratatoskr_tls_handshakes_failed", "TLS handshakes that came to nothing", |t| t.handshakes_failed.get()),
    ("ratatoskr_publish_streams_stalled", "Times a publish stream had to wait for its limit", |t| {
        t.publish_streams_stalled.get()
    }),
    ("ratatoskr_grpc_connections_refused", "Connections beyond what a client or memory allows", |t| {
        t.connections_refused.get()
    }),
    (
        "ratatoskr_grpc_connections_stuck",
        "Connections closed because they held memory and did not move",
        |t| t.connections_stuck.get(),
    ),
    (
        "ratatoskr_grpc_connections_made_room",
        "Connections without credentials closed to make room for others without",
        |t| t.connections_made_room.get(),
    ),
    ("ratatoskr_calls_without_memory", "Calls refused because callers' memory was used up", |t| {
        t.calls_without_memory.get()
    }),
    ("ratatoskr_calls_beyond_limit", "Calls refused because their client had as many as it may", |t| {
        t.calls_beyond_limit.get()
    }),
];

/// Figures of each topic, of the first 1,000 by name.
const TOPIC_GAUGES: &[Metric<TopicStats>] = &[
    ("ratatoskr_topic_messages", "Messages a topic holds", |s| s.message_count),
    ("ratatoskr_topic_bytes", "Bytes a topic holds", |s| s.bytes),
    ("ratatoskr_topic_subscribers", "Open subscriptions of a topic", |s| u64::from(s.subscriber_count)),
    ("ratatoskr_topic_first_offset", "Offset of a topic's oldest message", |s| s.first_offset),
    ("ratatoskr_topic_next_offset", "Offset of a topic's next message", |s| s.next_offset),
];

/// Figures of each durable subscription, of the first 1,000 by topic and name, as they stand.
const SUBSCRIPTION_GAUGES: &[Metric<SubscriptionDescription>] = &[
    ("ratatoskr_subscription_lag_messages", "Messages not settled, the filter not considered", |s| {
        s.lag_messages
    }),
    ("ratatoskr_subscription_leased", "Messages leased to members", |s| s.leased),
    ("ratatoskr_subscription_waiting", "Messages that wait for their retry", |s| s.waiting),
    ("ratatoskr_subscription_parked", "Messages behind an earlier one of their key", |s| s.parked),
    ("ratatoskr_subscription_members", "Connected members", |s| u64::from(s.member_count)),
    ("ratatoskr_subscription_paused", "1 while paused", |s| u64::from(s.settings.paused)),
];

/// Figures of the same that only grow.
const SUBSCRIPTION_COUNTERS: &[Metric<SubscriptionDescription>] = &[
    ("ratatoskr_subscription_acked", "Messages acked since the subscription was created", |s| s.acked),
    ("ratatoskr_subscription_dead", "Messages moved to the dead letters", |s| s.dead),
    ("ratatoskr_subscription_expired", "Messages that went unsettled", |s| s.expired),
    ("ratatoskr_subscription_passed", "Messages passed over by filter, address or skip", |s| s.passed),
    ("ratatoskr_subscription_redelivered", "Deliveries beyond the first of their message", |s| s.redelivered),
];

/// The metrics of a broker as they stand.
pub(crate) async fn render(broker: &Broker, traffic: &Arc<Traffic>, guard: &Guard) -> String {
    let mut registry = Registry::default();
    // Without an answer the broker is stopping, and has no subscriptions to show.
    let subscriptions = broker.survey_subscriptions(SUBSCRIPTION_METRICS_MAX).await.unwrap_or_default();
    let (broker, traffic, guard) = (broker.clone(), Arc::clone(traffic), guard.clone());
    registry.register_collector(Box::new(Figures { broker, traffic, guard, subscriptions }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes any text");
    text
}

/// Reads the broker's figures when they are asked for.
struct Figures {
    // Counts messages and everything about them.
    broker: Broker,
    // Counts connections and streams.
    traffic: Arc<Traffic>,
    // Counts who was not let in.
    guard: Guard,
    // The durable subscriptions that are shown.
    subscriptions: Vec<SubscriptionDescription>,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counters = self.broker.counters();
        for (name, help, figure) in COUNTERS {
            encode_counter(&mut encoder, name, help, figure(&counters))?;
        }
        for (name, help, figure) in TRAFFIC_COUNTERS {
            encode_counter(&mut encoder, name, help, figure(&self.traffic))?;
        }
        encode_guard(&mut encoder, &self.guard)?;
        for (name, help, figure) in GAUGES {
            encode_gauge(&mut encoder, name, help, figure(&counters))?;
        }
        let memory = &self.guard.clients.memory;
        for (name, help, figure) in [
            ("ratatoskr_callers_memory_bytes", "Bytes held for those who call", memory.held()),
            ("ratatoskr_callers_memory_max_bytes", "Bytes that may be", memory.bytes_max()),
        ] {
            encode_gauge(&mut encoder, name, help, figure as u64)?;
        }
        let serving = u64::from(!matches!(self.broker.health(), Health::Failed { .. }));
        encode_gauge(
            &mut encoder,
            "ratatoskr_serving",
            "1 while the broker serves, 0 once it failed",
            serving,
        )?;
        let writable = u64::from(matches!(self.broker.health(), Health::Serving));
        encode_gauge(&mut encoder, "ratatoskr_writable", "1 while publishes are taken", writable)?;
        encode_topics(&mut encoder, &self.broker)?;
        encode_subscriptions(&mut encoder, &self.subscriptions, self.broker.list_subscriptions(None).len())
    }
}

fn encode_counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, figure: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(figure).encode(metric)
}

fn encode_gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, figure: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(figure as i64).encode(metric)
}

fn encode_guard(encoder: &mut DescriptorEncoder<'_>, guard: &Guard) -> fmt::Result {
    let counts = &guard.access.counts;
    let families = [
        ("ratatoskr_authentication_failures", "Calls by nobody who is known", "by", counts.unknown()),
        ("ratatoskr_denied_calls", "Calls by somebody who may not", "action", counts.denied()),
    ];
    for (name, help, label, figures) in families {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (word, figure) in figures {
            ConstCounter::new(figure).encode(metric.encode_family(&[(label, word)])?)?;
        }
    }
    let audit = guard.access.audit.figures();
    for (name, help, figure) in [
        ("ratatoskr_quota_refusals", "What was beyond a namespace's quotas", counts.exceeded.get()),
        (
            "ratatoskr_reload_failures",
            "Changed files that could not be taken over",
            counts.reloads_failed.get(),
        ),
        ("ratatoskr_audit_lines_lost", "Lines of the audit log that were not written", audit.lost.get()),
    ] {
        encode_counter(encoder, name, help, figure)?;
    }
    encode_namespaces(encoder, &guard.access.namespaces())?;
    let is_failing = u64::from(audit.is_failing());
    encode_gauge(encoder, "ratatoskr_audit_failing", "1 while the audit log cannot be written", is_failing)?;
    if let Some(tls) = &guard.tls {
        let help = "When the certificate ends, seconds since the Unix epoch";
        encode_gauge(encoder, "ratatoskr_tls_certificate_not_after_seconds", help, tls.not_after_s())?;
    }
    Ok(())
}

/// What namespaces hold, and may, where there is a limit. There are as many as the policy file has.
fn encode_namespaces(encoder: &mut DescriptorEncoder<'_>, namespaces: &Namespaces) -> fmt::Result {
    let limited = || {
        let of = |one: &Arc<Namespace>| one.stored().map(|stored| (one.settings.name.clone(), stored));
        namespaces.all().iter().filter_map(of)
    };
    let metrics: [Metric<(u64, u64)>; 2] = [
        ("ratatoskr_namespace_stored_bytes", "Bytes the topics of a namespace hold", |(bytes, _)| *bytes),
        ("ratatoskr_namespace_stored_bytes_max", "Bytes they may hold", |(_, bytes_max)| *bytes_max),
    ];
    for (name, help, figure) in metrics {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (namespace, stored) in limited() {
            ConstGauge::new(figure(&stored) as i64)
                .encode(metric.encode_family(&[("namespace", &*namespace)])?)?;
        }
    }
    Ok(())
}

fn encode_topics(encoder: &mut DescriptorEncoder<'_>, broker: &Broker) -> fmt::Result {
    let names = broker.list_topics();
    let hidden = names.len().saturating_sub(TOPIC_METRICS_MAX);
    let help = "Topics without metrics of their own, because there are too many";
    encode_gauge(encoder, "ratatoskr_topics_without_metrics", help, hidden as u64)?;
    let shown = names.into_iter().take(TOPIC_METRICS_MAX);
    let topics: Vec<(TopicName, TopicStats)> =
        shown.filter_map(|name| broker.stats(&name).map(|stats| (name, stats))).collect();
    for (name, help, figure) in TOPIC_GAUGES {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (topic, stats) in &topics {
            ConstGauge::new(figure(stats) as i64)
                .encode(metric.encode_family(&[("topic", topic.as_str())])?)?;
        }
    }
    Ok(())
}

fn encode_subscriptions(
    encoder: &mut DescriptorEncoder<'_>,
    shown: &[SubscriptionDescription],
    count: usize,
) -> fmt::Result {
    encode_gauge(encoder, "ratatoskr_durable_subscriptions", "Durable subscriptions", count as u64)?;
    let labels = |subscription: &SubscriptionDescription| {
        [("topic", subscription.name.topic.to_string()), ("subscription", subscription.name.name.to_string())]
    };
    for (name, help, figure) in SUBSCRIPTION_GAUGES {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for subscription in shown {
            ConstGauge::new(figure(subscription) as i64)
                .encode(metric.encode_family(&labels(subscription))?)?;
        }
    }
    for (name, help, figure) in SUBSCRIPTION_COUNTERS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for subscription in shown {
            ConstCounter::new(figure(subscription)).encode(metric.encode_family(&labels(subscription))?)?;
        }
    }
    Ok(())
}
