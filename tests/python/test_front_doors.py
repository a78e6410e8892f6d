"""What a stranger finds at the doors: health, reflection, grpcurl, HTTP; and a kill in between."""

import base64
import json
import os
import subprocess
import uuid

import grpc
import pytest
import ratatoskr_pb2 as pb
import ratatoskr_pb2_grpc
from conftest import Broker, wait_until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "ratatoskr.MessageBroker"


def grpcurl(broker, *arguments):
    command = [os.environ["E2E_GRPCURL"], "-plaintext", *arguments[:-1], broker.grpc_address, arguments[-1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_says_serving(channel, service):
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_service_and_describes_it(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert SERVICE in list(database.get_services())
    described = database.FindFileContainingSymbol(SERVICE)
    methods = [method.name for service in described.service for method in service.method]
    assert {"Publish", "Subscribe", "PublishStream", "CreateTopic"} <= set(methods)


def test_grpcurl_lists_the_services(broker):
    services = grpcurl(broker, "list").split()
    assert {SERVICE, "grpc.health.v1.Health"} <= set(services)


def test_grpcurl_creates_publishes_subscribes_and_counts(broker):
    name = f"grpcurl-{uuid.uuid4().hex}"
    created = json.loads(grpcurl(broker, "-d", json.dumps({"name": name}), f"{SERVICE}/CreateTopic"))
    assert created == {"topic": name, "created": True}
    payload = base64.b64encode(b"hello").decode()
    published = json.loads(grpcurl(broker, "-d", json.dumps({"topic": name, "payload": payload}), f"{SERVICE}/Publish"))
    assert published["success"] and published["receipt"] == "DURABILITY_FSYNC"
    assert name in json.loads(grpcurl(broker, f"{SERVICE}/ListTopics"))["topics"]
    stats = json.loads(grpcurl(broker, "-d", json.dumps({"topic": name}), f"{SERVICE}/GetStats"))
    assert stats["messageCount"] == "1"
    # A stream has no end of its own: the time limit ends it, after the message was printed.
    request = json.dumps({"topic": name, "start": {"earliest": True}})
    command = [os.environ["E2E_GRPCURL"], "-plaintext", "-max-time", "3", "-d", request, broker.grpc_address]
    stream = subprocess.run([*command, f"{SERVICE}/Subscribe"], capture_output=True, text=True, timeout=60)
    message, _ = json.JSONDecoder().raw_decode(stream.stdout.lstrip())
    assert base64.b64decode(message["payload"]) == b"hello"


def test_new_calls_tell_what_is_wrong_with_a_status(stub):
    with pytest.raises(grpc.RpcError) as refused:
        stub.DescribeTopic(pb.DescribeTopicRequest(name=f"no-{uuid.uuid4().hex}"))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    details = dict(refused.value.trailing_metadata())
    assert b"ratatoskr" in details["grpc-status-details-bin"]


def test_garbage_is_refused_and_the_broker_lives_on(broker, channel, stub):
    raw = channel.unary_unary(f"/{SERVICE}/Publish", request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError):
        raw(b"\xff\xff\xff\xff garbage", timeout=10)
    with pytest.raises(grpc.RpcError):
        # Field 1, a string, with bytes that are no UTF-8.
        raw(b"\x0a\x02\xc3\x28", timeout=10)
    stub.ListTopics(pb.ListTopicsRequest())
    assert broker.process.poll() is None


def test_the_http_door_answers(broker, stub, topic):
    assert stub.Publish(pb.PublishRequest(topic=topic, payload=b"x")).success
    for path in ("/healthz", "/readyz", "/version"):
        assert broker.http(path)[0] == 200, path
    assert "version" in json.loads(broker.http("/version")[1])
    status, metrics = broker.http("/metrics")
    assert status == 200
    assert "# TYPE" in metrics and "ratatoskr_" in metrics
    assert broker.http("/no-such-page")[0] == 404


def test_what_was_acknowledged_survives_kill_nine(tmp_path):
    broker = Broker(tmp_path)
    broker.start()
    payloads = [f"line {number}".encode() for number in range(500)]
    with grpc.insecure_channel(broker.grpc_address) as channel:
        stub = ratatoskr_pb2_grpc.MessageBrokerStub(channel)
        batch = [pb.PublishRequest(payload=payload) for payload in payloads]
        answer = stub.PublishBatch(pb.PublishBatchRequest(topic="kept", messages=batch))
        assert answer.success_count == 500
    broker.kill_nine()
    broker.start()
    with grpc.insecure_channel(broker.grpc_address) as channel:
        stub = ratatoskr_pb2_grpc.MessageBrokerStub(channel)
        request = pb.SubscribeRequest(topic="kept", start=pb.StartPosition(earliest=True))
        stream = stub.Subscribe(request, timeout=30)
        assert [next(stream).payload for _ in payloads] == payloads
        stream.cancel()
        health = health_pb2_grpc.HealthStub(channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        wait_until(lambda: health.Check(health_pb2.HealthCheckRequest()).status == serving, 10, lambda: "not serving")
    assert broker.stop() == 0, broker.log()
