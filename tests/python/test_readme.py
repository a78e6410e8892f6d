"""The front page does not lie: its Python program and its shell commands run as they stand."""

import os
import pathlib
import re
import subprocess
import sys

import ratatoskr_pb2 as pb

README = pathlib.Path(__file__).parents[2] / "README.md"


def test_the_python_program_of_the_front_page_runs_as_it_stands(broker, stub):
    program = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL).group(1)
    program = program.replace("localhost:50051", broker.grpc_address)
    stub.DeleteTopic(pb.DeleteTopicRequest(name="orders"))
    environment = {**os.environ, "PYTHONPATH": os.environ["E2E_STUBS"], "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        receipt, message = running.stdout.readline(), running.stdout.readline()
    finally:
        # It follows the topic for ever; two lines are what it has to say about one message.
        running.kill()
        running.wait()
    assert re.fullmatch(r"0 [0-9a-f-]{36}\n", receipt), receipt
    assert message == "0 b'hello'\n"


def test_the_one_minute_of_the_front_page_runs_as_it_stands(broker, stub):
    shell = re.search(r"## One minute\n\n```sh\n(.*?)```", README.read_text(), re.DOTALL).group(1)
    alias, commands = shell.split("\n", 1)
    assert alias.startswith("alias ratatoskr=")
    commands = commands.replace("localhost:50051", broker.grpc_address)
    programs = 'ratatoskr() { "$E2E_PROGRAM" "$@"; }; grpcurl() { "$E2E_GRPCURL" "$@"; }; set -euo pipefail\n'
    stub.DeleteTopic(pb.DeleteTopicRequest(name="orders"))
    environment = {**os.environ, "RATATOSKR_SERVER": broker.grpc_address}
    done = subprocess.run(
        ["bash", "-c", programs + commands], capture_output=True, text=True, cwd=README.parent, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first order" in done.stdout
    assert "ratatoskr.MessageBroker" in done.stdout
    stub.DeleteTopic(pb.DeleteTopicRequest(name="orders"))
