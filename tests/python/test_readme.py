"""The front page does not lie: its Python program runs as it stands, and its links to commands exist."""

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


def test_the_commands_of_the_front_page_exist():
    shell = re.search(r"## One minute\n\n```sh\n(.*?)```", README.read_text(), re.DOTALL).group(1)
    subcommands = set(re.findall(r"ratatoskr ([a-z]+)", shell))
    assert {"topic", "pub", "sub", "stats"} <= subcommands
    for subcommand in subcommands:
        done = subprocess.run([os.environ["E2E_PROGRAM"], subcommand, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
