"""Another language behind TLS: tokens, client certificates, and what is refused, with stock grpcio."""

import os
import pathlib
import re
import subprocess
import uuid

import grpc
import pytest
import ratatoskr_pb2 as pb
import ratatoskr_pb2_grpc
from certificates import Authority
from conftest import Broker
from test_consume import Consumer

SECONDS_MAX = 20

POLICY = """
[roles.operator]
allow = [{ actions = ["publish", "subscribe", "manage"], topics = ["*"] }]
[roles.reader]
allow = [{ actions = ["subscribe"], topics = ["*"] }]
[identities.writer]
roles = ["operator"]
token_sha256 = ["%(writer)s"]
[identities.reader]
roles = ["reader"]
token_sha256 = ["%(reader)s"]
certificate = ["reader.internal"]
"""


class Site:
    """A CA, its server certificate, and brokers that use them."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.authority = Authority(folder / "authority")
        self.stranger = Authority(folder / "stranger")
        self.server = self.authority.issue("broker", "DNS:localhost,IP:127.0.0.1")
        self.tokens, digests = {}, {}
        for name in ["writer", "reader", "nobody"]:
            self.tokens[name], digests[name] = new_token(name)
        self.policy = folder / "access.toml"
        self.policy.write_text(POLICY % digests)

    def serve(self, name, *options):
        """With TLS, and client certificates of the CA believed."""
        folder = self.folder / name
        folder.mkdir()
        certificate, key = self.server
        tls = ["--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", self.authority.ca]
        broker = Broker(folder, [*tls, *options], self.authority.ca)
        broker.start()
        return broker

    def trust(self, certificate=None, ca=None):
        """Credentials of a channel that believes a CA, and shows a certificate if there is one."""
        chain, key = [file.read_bytes() for file in certificate] if certificate else [None, None]
        return grpc.ssl_channel_credentials((ca or self.authority.ca).read_bytes(), key, chain)

    def with_token(self, name):
        """The same with a token in every call."""
        token = grpc.access_token_call_credentials(self.tokens[name])
        return grpc.composite_channel_credentials(self.trust(), token)


def new_token(name):
    command = [os.environ["E2E_PROGRAM"], "access", "token", name]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return made.stdout.strip(), re.search('token_sha256 = \\["([0-9a-f]{64})"]', made.stderr)[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def asking(site):
    """A broker that asks who calls, by a policy file."""
    broker = site.serve("asking", "--access", site.policy)
    yield broker
    assert broker.stop() == 0, broker.log()


@pytest.fixture(scope="module")
def mutual(site):
    """A broker without a policy file: whoever has a certificate may do everything."""
    broker = site.serve("mutual")
    yield broker
    assert broker.stop() == 0, broker.log()


@pytest.fixture
def connect():
    """Makes stubs by credentials; their channels are closed with the test."""
    channels = []

    def stub(broker, credentials):
        channels.append(grpc.secure_channel(broker.grpc_address, credentials))
        return ratatoskr_pb2_grpc.MessageBrokerStub(channels[-1])

    yield stub
    for channel in channels:
        channel.close()


@pytest.fixture
def name():
    return f"secure-{uuid.uuid4().hex}"


def refused(call):
    with pytest.raises(grpc.RpcError) as failure:
        call()
    return failure.value


def assert_everything_works(stub, name):
    """Publish in every way, follow, work through, ack."""
    assert stub.CreateTopic(pb.CreateTopicRequest(name=name), timeout=SECONDS_MAX).created
    followed = stub.Subscribe(pb.SubscribeRequest(topic=name), timeout=SECONDS_MAX)
    assert dict(followed.initial_metadata())["ratatoskr-subscription-ref"]
    assert stub.Publish(pb.PublishRequest(topic=name, payload=b"one"), timeout=SECONDS_MAX).success
    batch = pb.PublishBatchRequest(topic=name, messages=[pb.PublishRequest(payload=b"two")])
    assert stub.PublishBatch(batch, timeout=SECONDS_MAX).success_count == 1
    step = pb.PublishStreamRequest(sequence=1, topic=name, messages=[pb.PublishRequest(payload=bytes(1 << 20))])
    answers = list(stub.PublishStream(iter([step]), timeout=SECONDS_MAX))
    assert [(answer.sequence, answer.results[0].success) for answer in answers] == [(1, True)]
    assert [next(followed).payload for _ in range(3)] == [b"one", b"two", bytes(1 << 20)]
    followed.cancel()

    subscription = pb.SubscriptionName(topic=name, subscription="workers")
    consumer = Consumer(stub, subscription)
    messages = consumer.take(3)
    assert [message.payload for message in messages] == [b"one", b"two", bytes(1 << 20)]
    consumer.ack(*messages)
    consumer.close()
    described = stub.DescribeSubscription(pb.DescribeSubscriptionRequest(name=subscription), timeout=SECONDS_MAX)
    assert described.subscription.acked == 3


def test_over_tls_a_token_in_call_credentials_does_everything(site, asking, connect, name):
    assert_everything_works(connect(asking, site.with_token("writer")), name)


def test_a_token_may_be_given_with_each_call_as_well(site, asking, connect, name):
    stub = connect(asking, site.trust())
    shown = [("authorization", f"Bearer {site.tokens['writer']}")]
    message = pb.PublishRequest(topic=name, payload=b"x")
    assert stub.Publish(message, metadata=shown, timeout=SECONDS_MAX).success
    # It is the call's, not the connection's.
    error = refused(lambda: stub.Publish(message, timeout=SECONDS_MAX))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_token_that_stands_for_nobody_is_refused_in_every_kind_of_call(site, asking, connect, name):
    stub = connect(asking, site.with_token("nobody"))
    step = pb.PublishStreamRequest(sequence=1, topic=name, messages=[pb.PublishRequest(payload=b"x")])
    open_step = pb.ConsumeRequest(open=pb.ConsumeOpen(name=pb.SubscriptionName(topic=name, subscription="w")))
    calls = [
        lambda: stub.Publish(pb.PublishRequest(topic=name), timeout=SECONDS_MAX),
        lambda: list(stub.PublishStream(iter([step]), timeout=SECONDS_MAX)),
        lambda: list(stub.Subscribe(pb.SubscribeRequest(topic=name), timeout=SECONDS_MAX)),
        lambda: list(stub.Consume(iter([open_step]), timeout=SECONDS_MAX)),
        lambda: stub.ListTopics(pb.ListTopicsRequest(), timeout=SECONDS_MAX),
    ]
    for call in calls:
        error = refused(call)
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
        assert "stands for no identity" in error.details()
        assert site.tokens["nobody"] not in error.details()


def test_whoever_may_read_may_not_write(site, asking, connect, name):
    assert connect(asking, site.with_token("writer")).CreateTopic(pb.CreateTopicRequest(name=name)).created
    stub = connect(asking, site.with_token("reader"))
    assert stub.TopicExists(pb.TopicExistsRequest(name=name), timeout=SECONDS_MAX).exists
    for call in [
        lambda: stub.Publish(pb.PublishRequest(topic=name, payload=b"x"), timeout=SECONDS_MAX),
        lambda: stub.DeleteTopic(pb.DeleteTopicRequest(name=name), timeout=SECONDS_MAX),
    ]:
        error = refused(call)
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
        assert error.details().startswith('"reader" may not ')
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        assert b"PERMISSION_DENIED" in details and name.encode() in details


def test_a_client_certificate_stands_for_its_identity(site, asking, connect, name):
    assert connect(asking, site.with_token("writer")).CreateTopic(pb.CreateTopicRequest(name=name)).created
    known = site.authority.issue("reader by certificate", "DNS:reader.internal")
    stub = connect(asking, site.trust(known))
    assert stub.TopicExists(pb.TopicExistsRequest(name=name), timeout=SECONDS_MAX).exists
    error = refused(lambda: stub.Publish(pb.PublishRequest(topic=name), timeout=SECONDS_MAX))
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error

    unknown = site.authority.issue("somebody else", "DNS:else.internal")
    stub = connect(asking, site.trust(unknown))
    error = refused(lambda: stub.TopicExists(pb.TopicExistsRequest(name=name), timeout=SECONDS_MAX))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
    assert "else.internal" in error.details()


def test_by_mutual_tls_alone_whoever_has_a_certificate_does_everything(site, mutual, connect, name):
    certificate = site.authority.issue("any client", "DNS:client.internal")
    assert_everything_works(connect(mutual, site.trust(certificate)), name)


def test_by_mutual_tls_alone_nobody_comes_in_without_a_certificate_of_the_ca(site, mutual, connect, name):
    forged = site.stranger.issue("any client", "DNS:client.internal")
    for credentials in [site.trust(), site.trust(forged), site.with_token("writer")]:
        stub = connect(mutual, credentials)
        error = refused(lambda: stub.TopicExists(pb.TopicExistsRequest(name=name), timeout=SECONDS_MAX))
        # Turned away in the handshake, or asked who it is: either way nothing is answered.
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED), error


def test_a_client_believes_no_broker_of_another_ca_and_no_door_without_tls_is_open(site, asking, connect, name):
    request = pb.TopicExistsRequest(name=name)
    stub = connect(asking, site.trust(ca=site.stranger.ca))
    error = refused(lambda: stub.TopicExists(request, timeout=SECONDS_MAX))
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    with grpc.insecure_channel(asking.grpc_address) as channel:
        stub = ratatoskr_pb2_grpc.MessageBrokerStub(channel)
        error = refused(lambda: stub.TopicExists(request, timeout=SECONDS_MAX))
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error


def test_who_is_taken_out_of_the_policy_file_is_put_out_of_its_streams(site, asking, connect, name):
    assert connect(asking, site.with_token("writer")).CreateTopic(pb.CreateTopicRequest(name=name)).created
    before = site.policy.read_text()
    followed = connect(asking, site.with_token("reader")).Subscribe(
        pb.SubscribeRequest(topic=name), timeout=SECONDS_MAX
    )
    assert dict(followed.initial_metadata())["ratatoskr-subscription-ref"]
    try:
        site.policy.write_text(before[: before.index("[identities.reader]")])
        error = refused(lambda: next(followed))
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
    finally:
        site.policy.write_text(before)
