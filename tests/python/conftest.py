"""One real broker for all tests of this folder, and clients from stock stubs.

`./test python` builds the program, generates the stubs with grpcio-tools, and says where both are.
"""

import os
import pathlib
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

import grpc
import pytest

sys.path.insert(0, os.environ["E2E_STUBS"])

START_SECONDS_MAX = 60


class Broker:
    """A running `ratatoskr serve` on free loopback ports, with its data in a folder of its own.

    With a CA, both doors have TLS: the options say how.
    """

    def __init__(self, folder: pathlib.Path, options=(), ca: pathlib.Path | None = None):
        self.folder = folder
        self.options = options
        self.tls = ssl.create_default_context(cafile=ca) if ca else None
        self.grpc_address = f"127.0.0.1:{free_port()}"
        self.http_address = f"127.0.0.1:{free_port()}"
        self.process = None

    def start(self):
        log = open(self.folder / "broker.log", "ab")
        self.process = subprocess.Popen(
            [
                os.environ["E2E_PROGRAM"],
                "serve",
                "--data-dir",
                str(self.folder / "data"),
                "--grpc-addr",
                self.grpc_address,
                "--http-addr",
                self.http_address,
                *self.options,
            ],
            stdout=log,
            stderr=log,
            cwd=self.folder,
        )
        wait_until(self.is_ready, START_SECONDS_MAX, lambda: f"the broker is not ready:\n{self.log()}")

    def is_ready(self):
        assert self.process.poll() is None, f"the broker ended:\n{self.log()}"
        try:
            return self.http("/readyz")[0] == 200
        except OSError:
            return False

    def http(self, path):
        """Status and text of a GET."""
        try:
            address = f"{'https' if self.tls else 'http'}://{self.http_address}{path}"
            with urllib.request.urlopen(address, timeout=5, context=self.tls) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def log(self):
        return (self.folder / "broker.log").read_text(errors="replace")[-4000:]

    def kill_nine(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=30)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds_max, complaint):
    """Waits for a condition, not for a guess of time."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.01)


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    assert broker.stop() == 0, broker.log()


@pytest.fixture(scope="session")
def channel(broker):
    with grpc.insecure_channel(broker.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="session")
def stub(channel):
    import ratatoskr_pb2_grpc

    return ratatoskr_pb2_grpc.MessageBrokerStub(channel)


@pytest.fixture
def topic(stub):
    """A topic of the test's own."""
    import ratatoskr_pb2 as pb

    name = f"test-{uuid.uuid4().hex}"
    assert stub.CreateTopic(pb.CreateTopicRequest(name=name)).created
    return name
