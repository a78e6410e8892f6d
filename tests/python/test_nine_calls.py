"""The nine calls every client knows, made by stock Python stubs against the real program."""

import time
import uuid

import grpc
import pytest
import ratatoskr_pb2 as pb


def fresh_name(prefix):
    return f"{prefix}-{uuid.uuid4().hex}"


def test_a_topic_is_created_found_listed_and_deleted(stub):
    name = fresh_name("life")
    assert not stub.TopicExists(pb.TopicExistsRequest(name=name)).exists
    created = stub.CreateTopic(pb.CreateTopicRequest(name=name))
    assert (created.topic, created.created, created.error) == (name, True, "")
    assert stub.TopicExists(pb.TopicExistsRequest(name=name)).exists
    assert name in stub.ListTopics(pb.ListTopicsRequest()).topics
    deleted = stub.DeleteTopic(pb.DeleteTopicRequest(name=name))
    assert (deleted.success, deleted.error) == (True, "")
    assert not stub.TopicExists(pb.TopicExistsRequest(name=name)).exists
    assert name not in stub.ListTopics(pb.ListTopicsRequest()).topics


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "empty_topic_name"),
        ("x" * 256, "topic_name_too_long"),
        ("a b", "invalid_topic_name_format"),
        ("trailing\n", "invalid_topic_name_format"),
        ("umlaut-ä", "invalid_topic_name_format"),
    ],
)
def test_a_bad_topic_name_is_refused_in_the_response(stub, name, code):
    answer = stub.CreateTopic(pb.CreateTopicRequest(name=name))
    assert not answer.created
    assert answer.error.split(":")[0] == code
    assert not stub.TopicExists(pb.TopicExistsRequest(name=name)).exists


def test_creating_or_deleting_twice_is_refused_in_the_response(stub, topic):
    again = stub.CreateTopic(pb.CreateTopicRequest(name=topic))
    assert (again.created, again.error.split(":")[0]) == (False, "already_exists")
    assert stub.DeleteTopic(pb.DeleteTopicRequest(name=topic)).success
    gone = stub.DeleteTopic(pb.DeleteTopicRequest(name=topic))
    assert (gone.success, gone.error.split(":")[0]) == (False, "topic_not_found")


def test_a_publish_is_answered_with_id_time_offset_and_receipt(stub, topic):
    before = time.time() * 1000
    for offset in range(3):
        answer = stub.Publish(pb.PublishRequest(topic=topic, payload=b"x"))
        assert (answer.success, answer.error, answer.offset) == (True, "", offset)
        assert answer.receipt == pb.DURABILITY_FSYNC
        assert str(uuid.UUID(answer.message_id)) == answer.message_id
        assert abs(answer.timestamp - before) < 60_000
    stats = stub.GetStats(pb.GetStatsRequest(topic=topic))
    assert (stats.topic, stats.message_count, stats.subscriber_count, stats.error) == (topic, 3, 0, "")


def test_a_publish_creates_a_missing_topic(stub):
    name = fresh_name("made-by-publish")
    assert stub.Publish(pb.PublishRequest(topic=name, payload=b"first")).success
    assert stub.TopicExists(pb.TopicExistsRequest(name=name)).exists


@pytest.mark.parametrize(
    ("name", "code"),
    [("", "empty_topic"), ("x" * 256, "topic_too_long"), ("a/b", "invalid_topic_format")],
)
def test_a_publish_to_a_bad_name_is_refused_in_the_response(stub, name, code):
    answer = stub.Publish(pb.PublishRequest(topic=name, payload=b"x"))
    assert (answer.success, answer.error.split(":")[0], answer.message_id) == (False, code, "")


def test_a_batch_answers_each_message_and_one_bad_one_stops_no_other(stub, topic):
    other = fresh_name("other")
    batch = pb.PublishBatchRequest(
        topic=topic,
        messages=[
            pb.PublishRequest(payload=b"one"),
            pb.PublishRequest(topic=other, payload=b"elsewhere"),
            pb.PublishRequest(topic="a b", payload=b"bad"),
            pb.PublishRequest(payload=b"two"),
        ],
    )
    answer = stub.PublishBatch(batch)
    assert (answer.success_count, answer.error_count) == (3, 1)
    assert [result.success for result in answer.results] == [True, True, False, True]
    assert answer.results[2].error.split(":")[0] == "invalid_topic_format"
    assert [answer.results[index].offset for index in (0, 3)] == [0, 1]
    assert stub.GetStats(pb.GetStatsRequest(topic=topic)).message_count == 2
    assert stub.GetStats(pb.GetStatsRequest(topic=other)).message_count == 1


def test_figures_of_a_missing_topic_are_refused_in_the_response(stub):
    assert stub.GetStats(pb.GetStatsRequest(topic=fresh_name("no"))).error.split(":")[0] == "topic_not_found"


def test_subscribing_to_a_missing_topic_is_not_found(stub):
    with pytest.raises(grpc.RpcError) as refused:
        next(stub.Subscribe(pb.SubscribeRequest(topic=fresh_name("no")), timeout=10))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_unsubscribing_what_nobody_subscribed_is_refused_in_the_response(stub, topic):
    answer = stub.Unsubscribe(pb.UnsubscribeRequest(topic=topic, subscription_ref="no-such-reference"))
    assert (answer.success, answer.error.split(":")[0]) == (False, "subscription_not_found")
