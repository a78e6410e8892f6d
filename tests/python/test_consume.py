"""A consumer in Python with stock grpcio stubs: everything a member of a durable subscription does."""

import queue
import threading
import time

import grpc
import pytest
import ratatoskr_pb2 as pb

PATIENCE_SECONDS = 20


class Consumer:
    """One Consume stream: steps go in by a queue, responses are sorted by kind."""

    def __init__(self, stub, name, window=100, **opening):
        self.steps = queue.Queue()
        self.deliveries = queue.Queue()
        self.fates = queue.Queue()
        self.others = queue.Queue()
        self.end = None
        self.sequence = 0
        opened = pb.ConsumeOpen(name=name, window=pb.Window(messages=window), **opening)
        self.steps.put(pb.ConsumeRequest(open=opened))
        self.call = stub.Consume(iter(self.steps.get, None))
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.opened = self.others.get(timeout=PATIENCE_SECONDS).opened

    def read(self):
        try:
            for response in self.call:
                kind = response.WhichOneof("step")
                if kind == "deliveries":
                    for message in response.deliveries.messages:
                        self.deliveries.put(message)
                elif kind == "fates":
                    self.fates.put(response.fates)
                else:
                    self.others.put(response)
        except grpc.RpcError as error:
            self.end = error
        self.deliveries.put(None)
        self.others.put(None)

    def next(self):
        message = self.deliveries.get(timeout=PATIENCE_SECONDS)
        assert message is not None, f"the stream ended: {self.end}"
        return message

    def take(self, count):
        return [self.next() for _ in range(count)]

    def has_nothing(self, seconds=0.3):
        with pytest.raises(queue.Empty):
            self.deliveries.get(timeout=seconds)

    def settle(self, acks=(), settlements=()):
        self.sequence += 1
        tokens = [message.token for message in acks]
        step = pb.ConsumeSettle(sequence=self.sequence, acks=tokens, settlements=list(settlements))
        self.steps.put(pb.ConsumeRequest(settle=step))
        fates = self.fates.get(timeout=PATIENCE_SECONDS)
        assert fates.sequence == self.sequence
        return fates

    def ack(self, *messages):
        fates = self.settle(acks=messages)
        assert (fates.settled, list(fates.refused)) == (len(messages), [])

    def nack(self, message, reason="", delay_ms=None):
        nack = pb.Nack(reason=reason, delay_ms=delay_ms)
        fates = self.settle(settlements=[pb.Settlement(token=message.token, nack=nack)])
        assert fates.settled == 1, fates

    def close(self):
        """In order: the client ends its side."""
        self.steps.put(None)
        self.reader.join(PATIENCE_SECONDS)
        assert self.end is None

    def vanish(self):
        self.call.cancel()
        self.reader.join(PATIENCE_SECONDS)


@pytest.fixture
def name(stub, topic):
    stub.CreateTopic(pb.CreateTopicRequest(name=topic))
    return pb.SubscriptionName(topic=topic, subscription="workers")


def publish(stub, name, *payloads, key=""):
    for payload in payloads:
        published = stub.Publish(pb.PublishRequest(topic=name.topic, payload=payload, key=key))
        assert published.success, published.error


def describe(stub, name):
    return stub.DescribeSubscription(pb.DescribeSubscriptionRequest(name=name)).subscription


def quick(**settings):
    return pb.SubscriptionSettings(retry_delay_ms=50, retry_jitter=0, **settings)


def payloads(messages):
    return [message.payload for message in messages]


def test_what_is_acked_is_done_and_the_rest_is_told(stub, name):
    publish(stub, name, b"one", b"two", b"three")
    consumer = Consumer(stub, name)
    assert consumer.opened.settings.lease_ms == 30000
    messages = consumer.take(3)
    assert payloads(messages) == [b"one", b"two", b"three"]
    assert all(message.attempt == 1 and message.lease_until_ms > time.time() * 1000 for message in messages)
    consumer.ack(*messages)
    stale = consumer.settle(acks=messages[:1])
    assert stale.settled == 0
    assert [fate.code for fate in stale.refused] == [pb.FATE_CODE_STALE]
    described = describe(stub, name)
    assert (described.acked, described.lag_messages, described.leased) == (3, 0, 0)
    assert described.why.startswith("caught_up")
    consumer.close()


def test_a_nack_brings_the_message_back_after_its_delay(stub, name):
    publish(stub, name, b"one")
    consumer = Consumer(stub, name, settings=quick())
    consumer.nack(consumer.next(), reason="busy", delay_ms=400)
    asked = time.monotonic()
    assert "waiting_for_retry" in describe(stub, name).why
    again = consumer.next()
    waited = time.monotonic() - asked
    assert again.attempt == 2
    assert 0.2 < waited < 5
    consumer.ack(again)
    consumer.close()


def test_extending_keeps_a_message_and_a_lease_that_ends_returns_it(stub, name):
    publish(stub, name, b"one")
    consumer = Consumer(stub, name, settings=quick(lease_ms=500))
    message = consumer.next()
    extend = pb.Settlement(token=message.token, extend=pb.Extend(lease_ms=3000))
    assert consumer.settle(settlements=[extend]).settled == 1
    consumer.has_nothing(seconds=1)
    consumer.ack(message)
    publish(stub, name, b"two")
    first = consumer.next()
    second = consumer.next()
    assert (first.payload, second.payload, second.attempt) == (b"two", b"two", 2)
    assert consumer.settle(acks=[first]).refused[0].code == pb.FATE_CODE_STALE
    consumer.ack(second)
    consumer.close()


def test_a_cancelled_stream_and_a_closed_one_give_back_unharmed_what_they_held(stub, name):
    publish(stub, name, b"one")
    first = Consumer(stub, name)
    assert first.next().attempt == 1
    first.vanish()
    second = Consumer(stub, name)
    assert second.next().attempt == 1
    second.close()
    third = Consumer(stub, name)
    message = third.next()
    assert message.attempt == 1
    third.ack(message)
    third.close()


def test_a_poison_message_is_seen_in_the_dead_letters_and_redriven(stub, name):
    publish(stub, name, b"good", b"bad")
    consumer = Consumer(stub, name, settings=quick(attempts_max=2))
    good, bad = consumer.take(2)
    consumer.ack(good)
    consumer.nack(bad, reason="first try")
    consumer.nack(consumer.next(), reason="cannot parse")
    letters = stub.ListDeadLetters(pb.ListDeadLettersRequest(name=name)).letters
    assert [(letter.reason, letter.attempts, letter.message.payload) for letter in letters] == [
        ("cannot parse", 2, b"bad")
    ]
    assert (letters[0].origin_topic, letters[0].origin_id) == (name.topic, bad.id)
    groups = stub.ListDeadLetters(pb.ListDeadLettersRequest(name=name, group_by_reason=True)).groups
    assert [(group.reason, group.count) for group in groups] == [("cannot parse", 1)]
    counted = stub.ResolveDeadLetters(pb.ResolveDeadLettersRequest(name=name, dry_run=True))
    assert counted.count == 1
    assert stub.ResolveDeadLetters(pb.ResolveDeadLettersRequest(name=name)).count == 1
    again = consumer.next()
    assert (again.payload, again.attempt) == (b"bad", 1)
    consumer.ack(again)
    assert not stub.ListDeadLetters(pb.ListDeadLettersRequest(name=name)).letters
    consumer.close()


def test_a_redriven_message_comes_to_its_subscription_alone(stub, name):
    other = pb.SubscriptionName(topic=name.topic, subscription="others")
    stub.CreateSubscription(pb.CreateSubscriptionRequest(name=other))
    publish(stub, name, b"bad")
    consumer = Consumer(stub, name)
    reject = pb.Settlement(token=consumer.next().token, reject=pb.Reject(reason="never"))
    assert consumer.settle(settlements=[reject]).settled == 1
    assert stub.ResolveDeadLetters(pb.ResolveDeadLettersRequest(name=name)).count == 1
    assert consumer.next().payload == b"bad"
    bystander = Consumer(stub, other)
    assert bystander.next().payload == b"bad"
    bystander.has_nothing()
    bystander.close()
    consumer.close()


def test_messages_of_one_key_go_one_after_another_to_whoever_is_there(stub, name):
    for number in range(6):
        publish(stub, name, b"a%d" % number, key="a")
    publish(stub, name, b"b0", key="b")
    one, two = Consumer(stub, name), Consumer(stub, name)
    seen, heads = [], {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(seen) < 7 and time.monotonic() < deadline:
        for consumer in (one, two):
            try:
                message = consumer.deliveries.get(timeout=0.05)
            except queue.Empty:
                continue
            assert heads.get(message.key) is None, "two of one key are out at a time"
            heads[message.key] = message
            seen.append(message.payload)
            heads[message.key] = None
            consumer.ack(message)
    assert [payload for payload in seen if payload.startswith(b"a")] == [b"a%d" % n for n in range(6)]
    assert b"b0" in seen
    one.close()
    two.close()


def test_pull_fetches_what_is_there_and_a_unary_ack_settles_it_by_id(stub, name):
    empty = stub.Pull(pb.PullRequest(name=name, messages_max=10, wait_ms=50))
    assert not empty.messages
    publish(stub, name, b"one", b"two", b"three")
    pulled = stub.Pull(pb.PullRequest(name=name, messages_max=2, wait_ms=5000)).messages
    assert payloads(pulled) == [b"one", b"two"]
    assert stub.Ack(pb.AckRequest(message_id=pulled[0].id, success=True)).acknowledged
    assert not stub.Ack(pb.AckRequest(message_id=pulled[0].id, success=True)).acknowledged
    nacked = pb.AckRequest(token=pulled[1].token, success=False, delay_ms=0, reason="again")
    assert stub.Ack(nacked).acknowledged
    rest = stub.Pull(pb.PullRequest(name=name, messages_max=10, wait_ms=5000)).messages
    assert sorted((message.payload, message.attempt) for message in rest) == [(b"three", 1), (b"two", 2)]
    release = [pb.Settlement(token=message.token, release=pb.Release()) for message in rest]
    assert not stub.Settle(pb.SettleRequest(settlements=release)).refused


def test_a_settle_with_messages_happens_wholly_or_not_at_all(stub, name):
    target = name.topic + ".out"
    publish(stub, name, b"in")
    message = stub.Pull(pb.PullRequest(name=name, wait_ms=5000)).messages[0]
    ack = pb.Settlement(token=message.token, ack=pb.Done())
    step = pb.SettleRequest(settlements=[ack], messages=[pb.PublishRequest(topic=target, payload=b"out")])
    settled = stub.Settle(step)
    assert [result.offset for result in settled.results] == [0]
    with pytest.raises(grpc.RpcError) as refused:
        stub.Settle(step)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert stub.GetStats(pb.GetStatsRequest(topic=target)).message_count == 1
    assert describe(stub, name).acked == 1


def test_subscribe_with_a_name_leases_and_settles(stub, name):
    publish(stub, name, b"one")
    stream = stub.Subscribe(pb.SubscribeRequest(topic=name.topic, subscription=name.subscription))
    message = next(stream)
    assert (message.payload, message.attempt) == (b"one", 1)
    assert stub.Ack(pb.AckRequest(message_id=message.id, success=True)).acknowledged
    stream.cancel()
    assert describe(stub, name).lag_messages == 0


def test_a_subscription_is_paused_sought_peeked_saved_and_traced(stub, name):
    publish(stub, name, *[b"%d" % number for number in range(5)])
    consumer = Consumer(stub, name, window=2)
    first = consumer.take(2)
    assert "no_credit" in describe(stub, name).why
    assert payloads(stub.PeekSubscription(pb.PeekSubscriptionRequest(name=name)).messages) == [
        b"0", b"1", b"2", b"3", b"4"
    ]
    steps = stub.TraceMessage(pb.TraceMessageRequest(message_id=first[0].id)).steps
    assert "published" in steps[0].what and any("handed to member" in step.what for step in steps)
    stub.SaveSubscription(pb.SaveSubscriptionRequest(name=name, saved="start"))
    moved = pb.SeekSubscriptionRequest(name=name, position=pb.StartPosition(offset=4))
    assert stub.SeekSubscription(moved).subscription.lag_messages == 1
    assert consumer.next().payload == b"4"
    assert consumer.settle(acks=first[:1]).refused[0].code == pb.FATE_CODE_STALE
    stub.SeekSubscription(pb.SeekSubscriptionRequest(name=name, saved="start"))
    assert payloads(consumer.take(2)) == [b"0", b"1"]
    paused = pb.UpdateSubscriptionRequest(name=name, settings=pb.SubscriptionSettings(paused=True))
    assert stub.UpdateSubscription(paused).subscription.why.startswith("paused")
    stub.DeleteSubscription(pb.DeleteSubscriptionRequest(name=name))
    assert consumer.deliveries.get(timeout=PATIENCE_SECONDS) is None
    assert consumer.end.code() == grpc.StatusCode.NOT_FOUND


def test_a_filter_decides_what_is_delivered_and_a_wrong_one_is_told_with_its_column(stub, name):
    settings = pb.SubscriptionSettings(filter='key == "wanted"')
    consumer = Consumer(stub, name, settings=settings)
    publish(stub, name, b"no", key="other")
    publish(stub, name, b"yes", key="wanted")
    message = consumer.next()
    assert message.payload == b"yes"
    consumer.ack(message)
    consumer.close()
    wrong = pb.SubscriptionSettings(filter="size == ")
    other = pb.SubscriptionName(topic=name.topic, subscription="wrong")
    with pytest.raises(grpc.RpcError) as refused:
        stub.CreateSubscription(pb.CreateSubscriptionRequest(name=other, settings=wrong))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "column 9" in refused.value.details()


def test_heartbeats_come_when_nothing_else_does(stub, name):
    consumer = Consumer(stub, name, heartbeat_ms=100)
    assert consumer.others.get(timeout=PATIENCE_SECONDS).WhichOneof("step") == "heartbeat"
    consumer.close()


def test_a_first_step_that_does_not_open_is_refused(stub, name):
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.Consume(iter([pb.ConsumeRequest(window=pb.Window(messages=1))])))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "open" in refused.value.details()
