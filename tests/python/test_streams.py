"""Streams: following a topic from every kind of start, ending it by reference, pipelined publishing."""

import threading

import grpc
import pytest
import ratatoskr_pb2 as pb

SECONDS_MAX = 30


def subscribe(stub, topic, **fields):
    return stub.Subscribe(pb.SubscribeRequest(topic=topic, **fields), timeout=SECONDS_MAX)


def reference_of(stream):
    """The reference stands in the stream's initial metadata before any message is there."""
    return dict(stream.initial_metadata())["ratatoskr-subscription-ref"]


def publish(stub, topic, *payloads, **fields):
    for payload in payloads:
        assert stub.Publish(pb.PublishRequest(topic=topic, payload=payload, **fields)).success


def take(stream, count):
    return [next(stream) for _ in range(count)]


def test_a_subscriber_gets_what_comes_after_it_joined_and_nothing_before(stub, topic):
    publish(stub, topic, b"before")
    stream = subscribe(stub, topic)
    reference_of(stream)
    publish(stub, topic, b"after")
    assert next(stream).payload == b"after"
    stream.cancel()


def test_from_earliest_every_message_comes_in_order_with_all_its_fields(stub, topic):
    payloads = [f"message {number}".encode() for number in range(100)]
    publish(stub, topic, *payloads, key="k", metadata={"colour": "red"})
    stream = subscribe(stub, topic, start=pb.StartPosition(earliest=True))
    messages = take(stream, 100)
    stream.cancel()
    assert [message.payload for message in messages] == payloads
    assert [message.offset for message in messages] == list(range(100))
    assert {(message.topic, message.key, message.receipt) for message in messages} == {(topic, "k", pb.DURABILITY_FSYNC)}
    assert all(dict(message.metadata) == {"colour": "red"} for message in messages)
    assert len({message.id for message in messages}) == 100
    times = [message.timestamp for message in messages]
    assert times == sorted(times)


def test_an_offset_and_a_time_are_places_to_start_at(stub, topic):
    publish(stub, topic, b"0", b"1", b"2")
    stream = subscribe(stub, topic, start=pb.StartPosition(offset=1))
    second, third = take(stream, 2)
    stream.cancel()
    assert (second.payload, third.payload) == (b"1", b"2")
    stream = subscribe(stub, topic, start=pb.StartPosition(time_ms=second.timestamp))
    assert next(stream).offset <= second.offset
    stream.cancel()
    with pytest.raises(grpc.RpcError) as refused:
        next(subscribe(stub, topic, start=pb.StartPosition(offset=1_000_000)))
    assert refused.value.code() == grpc.StatusCode.OUT_OF_RANGE


def test_a_filter_lets_only_equal_metadata_through(stub, topic):
    publish(stub, topic, b"red", metadata={"colour": "red"})
    publish(stub, topic, b"blue", metadata={"colour": "blue"})
    publish(stub, topic, b"plain")
    publish(stub, topic, b"red again", metadata={"colour": "red", "size": "9"})
    stream = subscribe(stub, topic, start=pb.StartPosition(earliest=True), filter={"colour": "red"})
    assert [message.payload for message in take(stream, 2)] == [b"red", b"red again"]
    stream.cancel()


def test_unsubscribe_ends_the_stream_whose_reference_it_is_given(stub, topic):
    stream = subscribe(stub, topic)
    reference = reference_of(stream)
    assert stub.GetStats(pb.GetStatsRequest(topic=topic)).subscriber_count == 1
    publish(stub, topic, b"x")
    assert next(stream).subscription_ref == reference
    answer = stub.Unsubscribe(pb.UnsubscribeRequest(topic=topic, subscription_ref=reference))
    assert (answer.success, answer.error) == (True, "")
    assert list(stream) == []
    assert stream.code() == grpc.StatusCode.OK
    assert stub.GetStats(pb.GetStatsRequest(topic=topic)).subscriber_count == 0


def test_deleting_a_topic_ends_its_streams(stub, topic):
    stream = subscribe(stub, topic)
    reference_of(stream)
    assert stub.DeleteTopic(pb.DeleteTopicRequest(name=topic)).success
    with pytest.raises(grpc.RpcError) as ended:
        next(stream)
    assert ended.value.code() == grpc.StatusCode.NOT_FOUND


def test_credit_holds_messages_back_until_more_is_granted(stub, topic):
    publish(stub, topic, b"0", b"1", b"2")
    stream = subscribe(stub, topic, start=pb.StartPosition(earliest=True), credit=1)
    first = next(stream)
    assert first.offset == 0
    received = []
    reader = threading.Thread(target=lambda: received.extend(take(stream, 2)))
    reader.start()
    assert received == []
    stub.AddCredit(pb.AddCreditRequest(topic=topic, subscription_ref=first.subscription_ref, messages=2))
    reader.join(SECONDS_MAX)
    assert [message.offset for message in received] == [1, 2]
    stream.cancel()


def test_publish_stream_answers_in_order_without_waiting_for_each(stub, topic):
    requests = (
        pb.PublishStreamRequest(
            sequence=sequence,
            topic=topic,
            messages=[pb.PublishRequest(payload=f"{sequence}.{part}".encode()) for part in range(10)],
        )
        for sequence in range(200)
    )
    responses = list(stub.PublishStream(requests, timeout=SECONDS_MAX))
    assert [response.sequence for response in responses] == list(range(200))
    results = [result for response in responses for result in response.results]
    assert all(result.success for result in results)
    assert [result.offset for result in results] == list(range(2000))
    stream = subscribe(stub, topic, start=pb.StartPosition(earliest=True))
    payloads = [message.payload.decode() for message in take(stream, 2000)]
    stream.cancel()
    assert payloads == [f"{sequence}.{part}" for sequence in range(200) for part in range(10)]


def test_many_subscribers_see_the_same_sequence(stub, topic):
    streams = [subscribe(stub, topic) for _ in range(20)]
    for stream in streams:
        reference_of(stream)
    payloads = [str(number).encode() for number in range(50)]
    publish(stub, topic, *payloads)
    for stream in streams:
        assert [message.payload for message in take(stream, 50)] == payloads
        stream.cancel()
