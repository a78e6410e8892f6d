use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{PublishBatchRequest, PublishRequest, PublishStreamRequest};

fn request() -> impl Strategy<Value = PublishRequest> {
    let metadata = proptest::collection::btree_map("[a-c]{0,2}", ".{0,4}", 0..4);
    let texts = ("[a-z.]{0,9}", ".{0,5}", "[0-9]{0,3}");
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    (texts, payload, metadata, any::<(u64, i64, u64, Option<i64>)>()).prop_map(
        |((topic, key, dedup_id), payload, metadata, (ttl_ms, deliver_at_ms, delay_ms, expected_offset))| {
            PublishRequest {
                topic,
                payload: payload.into(),
                metadata,
                key,
                dedup_id,
                ttl_ms,
                deliver_at_ms,
                delay_ms,
                expected_offset,
            }
        },
    )
}

fn owned(view: &PublishView<'_>) -> PublishRequest {
    let pair = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    PublishRequest {
        topic: view.topic.to_owned(),
        payload: view.payload.to_vec().into(),
        metadata: view.metadata.iter().map(pair).collect(),
        key: view.key.to_owned(),
        dedup_id: view.dedup_id.to_owned(),
        ttl_ms: view.ttl_ms,
        deliver_at_ms: view.deliver_at_ms,
        delay_ms: view.delay_ms,
        expected_offset: view.expected_offset,
    }
}

/// What the generated type makes of bytes, if anything, is what the view makes of them; it may give up on more.
fn compare(bytes: &[u8]) -> Result<(), TestCaseError> {
    let generated = PublishRequest::decode(bytes);
    if let Some(view) = PublishView::read(bytes) {
        prop_assert_eq!(Ok(owned(&view)), generated);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_request_is_read_as_the_generated_type_reads_it(request in request()) {
        let bytes = request.encode_to_vec();
        prop_assert_eq!(PublishView::read(&bytes).map(|view| owned(&view)), Some(request));
    }

    #[test]
    fn fields_out_of_order_doubled_and_damaged_are_read_alike_or_not_at_all(
        one in request(), two in request(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = two.encode_to_vec();
        bytes.extend(one.encode_to_vec());
        compare(&bytes)?;
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            compare(&bytes)?;
            compare(&bytes[..at])?;
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_alike_or_not_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        compare(&bytes)?;
    }

    #[test]
    fn batches_and_steps_give_their_messages_in_order(
        messages in proptest::collection::vec(request(), 0..5), topic in "[a-z]{0,5}", sequence in any::<u64>(),
    ) {
        let batch = PublishBatchRequest { topic: topic.clone(), messages: messages.clone() }.encode_to_vec();
        let step = PublishStreamRequest { sequence, topic: topic.clone(), messages: messages.clone() }.encode_to_vec();
        let batch = BatchView::read_batch(&batch).expect("it is sound");
        let step = BatchView::read_step(&step).expect("it is sound");
        prop_assert_eq!(step.sequence, sequence);
        for view in [batch, step] {
            prop_assert_eq!((view.topic, view.count), (topic.as_str(), messages.len()));
            let read: Vec<_> = view.messages().map(|bytes| PublishView::read(bytes).map(|view| owned(&view))).collect();
            prop_assert_eq!(read, messages.iter().cloned().map(Some).collect::<Vec<_>>());
        }
    }
}
