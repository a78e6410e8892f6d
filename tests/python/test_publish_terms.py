"""Publishing with conditions, over stock stubs: once only, only at this place, later, not for ever."""

import time

import ratatoskr_pb2 as pb

PATIENCE_SECONDS = 20


def payloads(stub, topic, count):
    start = pb.StartPosition(earliest=True)
    call = stub.Subscribe(pb.SubscribeRequest(topic=topic, start=start), timeout=PATIENCE_SECONDS)
    messages = [next(call) for _ in range(count)]
    call.cancel()
    return messages


def restart(broker, stub):
    broker.kill_nine()
    broker.start()
    # The channel notices by itself that the broker is back.
    stub.DescribeBroker(pb.DescribeBrokerRequest(), wait_for_ready=True, timeout=PATIENCE_SECONDS)


def test_a_retry_with_the_same_id_is_not_published_again_also_after_a_kill(broker, stub, topic):
    first = stub.Publish(pb.PublishRequest(topic=topic, payload=b"1", dedup_id="order-7"))
    assert first.success and not first.duplicate
    restart(broker, stub)
    again = stub.Publish(pb.PublishRequest(topic=topic, payload=b"1", dedup_id="order-7"))
    assert again.success and again.duplicate
    assert (again.message_id, again.offset, again.timestamp) == (first.message_id, 0, first.timestamp)
    assert stub.GetStats(pb.GetStatsRequest(topic=topic)).message_count == 1


def test_of_a_batch_duplicates_are_told_apart(stub, topic):
    messages = [pb.PublishRequest(payload=text.encode(), dedup_id=text) for text in ("a", "b", "a")]
    answer = stub.PublishBatch(pb.PublishBatchRequest(topic=topic, messages=messages))
    assert [(one.offset, one.duplicate) for one in answer.results] == [(0, False), (1, False), (0, True)]
    assert answer.success_count == 3


def test_a_message_at_another_place_than_expected_is_refused(stub, topic):
    assert stub.Publish(pb.PublishRequest(topic=topic, expected_offset=0)).offset == 0
    refused = stub.Publish(pb.PublishRequest(topic=topic, expected_offset=0))
    assert not refused.success
    assert refused.error == "offset_mismatch: expected_offset is 0, and the topic goes on at 1; nothing was published"
    assert stub.Publish(pb.PublishRequest(topic=topic, expected_offset=1)).offset == 1


def test_a_message_for_later_comes_later_with_its_first_id(stub, topic):
    started = time.monotonic()
    later = stub.Publish(pb.PublishRequest(topic=topic, payload=b"later", delay_ms=700))
    assert later.success and later.scheduled and later.offset == -1
    now = stub.Publish(pb.PublishRequest(topic=topic, payload=b"now"))
    assert now.offset == 0 and not now.scheduled
    assert stub.DescribeBroker(pb.DescribeBrokerRequest()).scheduled_messages >= 1
    messages = payloads(stub, topic, 2)
    assert time.monotonic() - started >= 0.7
    assert [message.payload for message in messages] == [b"now", b"later"]
    assert messages[1].metadata["ratatoskr-scheduled-id"] == later.message_id
    life = stub.TraceMessage(pb.TraceMessageRequest(message_id=later.message_id))
    assert life.topic == topic and "has been put into" in life.steps[-1].what


def test_what_waits_survives_a_kill(broker, stub, topic):
    at_ms = int(time.time() * 1000) + 2_000
    stub.Publish(pb.PublishRequest(topic=topic, payload=b"later", deliver_at_ms=at_ms))
    restart(broker, stub)
    message = payloads(stub, topic, 1)[0]
    assert message.payload == b"later" and message.timestamp >= at_ms


def test_terms_out_of_range_are_refused_with_field_and_limit(stub, topic):
    def refusal(**terms):
        answer = stub.Publish(pb.PublishRequest(topic=topic, **terms))
        assert not answer.success
        return answer.error

    assert refusal(dedup_id="d" * 257) == "dedup_id_too_long: dedup_id has 257 bytes; at most 256 are allowed"
    assert refusal(deliver_at_ms=5, delay_ms=5).startswith("invalid_delivery_time: deliver_at_ms is 5 and delay_ms is 5")
    assert refusal(deliver_at_ms=-1) == "invalid_delivery_time: deliver_at_ms is -1; allowed are 0 and above"
    microseconds = int(time.time() * 1_000_000)
    assert "milliseconds since the Unix epoch" in refusal(deliver_at_ms=microseconds)
    assert refusal(delay_ms=1000, expected_offset=0).startswith("invalid_expected_offset: ")
