//! Narrow views of the wire types: the few fields a measurement needs, the rest skipped without an allocation.
//!
//! The generated types hold everything, and so allocate an id, a topic and a map for every message; a load generator that
//! shares its machine with the broker should not. The numbers are those of `proto/ratatoskr.proto`; tests against the generated
//! types keep them honest.

use bytes::Bytes;

/// Of `PublishResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReceiptView {
    /// Whether the message is published.
    #[prost(bool, tag = "3")]
    pub(crate) success: bool,
    /// Why it was refused.
    #[prost(string, tag = "4")]
    pub(crate) error: String,
}

/// Of `PublishBatchResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BatchView {
    /// How many were published.
    #[prost(int32, tag = "2")]
    pub(crate) success_count: i32,
    /// How many were refused.
    #[prost(int32, tag = "3")]
    pub(crate) error_count: i32,
}

/// Of `PublishStreamResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StepView {
    /// One per message.
    #[prost(message, repeated, tag = "2")]
    pub(crate) results: Vec<ReceiptView>,
}

/// Of `Message`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MessageView {
    /// The content.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) payload: Bytes,
    /// What settles the delivery.
    #[prost(bytes = "bytes", tag = "10")]
    pub(crate) token: Bytes,
    /// Which delivery of the message it is.
    #[prost(uint32, tag = "11")]
    pub(crate) attempt: u32,
}

/// Of `ConsumeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ConsumeView {
    /// Messages.
    #[prost(message, optional, tag = "2")]
    pub(crate) deliveries: Option<DeliveriesView>,
    /// What became of a settle step.
    #[prost(message, optional, tag = "3")]
    pub(crate) fates: Option<FatesView>,
}

/// Of `Deliveries`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeliveriesView {
    /// At least one.
    #[prost(message, repeated, tag = "1")]
    pub(crate) messages: Vec<MessageView>,
}

/// Of `Fates`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FatesView {
    /// How many were settled as asked.
    #[prost(uint32, tag = "2")]
    pub(crate) settled: u32,
    /// Those that were not.
    #[prost(message, repeated, tag = "3")]
    pub(crate) refused: Vec<RefusalView>,
}

/// Of `Fate`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RefusalView {
    /// Why.
    #[prost(string, tag = "3")]
    pub(crate) reason: String,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ratatoskr_proto as wire;

    use super::*;

    #[test]
    fn receipts_are_read_as_the_broker_means_them() {
        let refused = wire::PublishResponse { error: "empty_topic".into(), ..Default::default() };
        let taken = wire::PublishResponse {
            message_id: "m".into(),
            timestamp: 7,
            success: true,
            offset: 9,
            receipt: 1,
            ..Default::default()
        };
        let view = ReceiptView::decode(refused.encode_to_vec().as_slice()).unwrap();
        assert_eq!((view.success, view.error.as_str()), (false, "empty_topic"));
        let batch = wire::PublishBatchResponse {
            results: vec![taken.clone(), refused],
            success_count: 1,
            error_count: 2,
        };
        let view = BatchView::decode(batch.encode_to_vec().as_slice()).unwrap();
        assert_eq!((view.success_count, view.error_count), (1, 2));
        let step = wire::PublishStreamResponse { sequence: 3, results: vec![taken] };
        let view = StepView::decode(step.encode_to_vec().as_slice()).unwrap();
        assert!(view.results.len() == 1 && view.results[0].success);
    }

    #[test]
    fn deliveries_and_fates_are_read_as_the_broker_means_them() {
        let message = wire::Message {
            id: "m".into(),
            payload: Bytes::from_static(b"payload"),
            token: Bytes::from_static(b"token"),
            attempt: 2,
            lease_until_ms: 5,
            ..Default::default()
        };
        let deliveries =
            wire::consume_response::Step::Deliveries(wire::Deliveries { messages: vec![message] });
        let encoded = wire::ConsumeResponse { step: Some(deliveries) }.encode_to_vec();
        let view = ConsumeView::decode(encoded.as_slice()).unwrap().deliveries.unwrap();
        let expected = MessageView { payload: "payload".into(), token: "token".into(), attempt: 2 };
        assert_eq!(view.messages, [expected]);

        let fate = wire::Fate { token: Bytes::new(), code: 1, reason: "late".into() };
        let fates = wire::Fates { sequence: 1, settled: 5, refused: vec![fate] };
        let encoded =
            wire::ConsumeResponse { step: Some(wire::consume_response::Step::Fates(fates)) }.encode_to_vec();
        let view = ConsumeView::decode(encoded.as_slice()).unwrap().fates.unwrap();
        assert_eq!((view.settled, view.refused[0].reason.as_str()), (5, "late"));
    }
}
