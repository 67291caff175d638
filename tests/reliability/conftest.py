"""What the tests of kills and signals share."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


class TrainingServer:
    """Asks `training_server.py` for trainings, one after the other."""

    def __init__(self, process):
        self.process = process

    def train(self, folder, *signals, **request):
        """Trains in a folder from where it stands; each signal is `(seconds after the beginning, number)`.

        Returns:
            `status`, `seconds` and `error`, as the server says.
        """
        print(json.dumps({"folder": str(folder), "signals": signals, **request}), file=self.process.stdin)
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the server ended with {self.process.wait(30)}"
        return json.loads(answer)


@pytest.fixture(scope="module")
def training_server():
    script = Path(__file__).with_name("training_server.py")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, script], stdin=pipe, stdout=pipe, text=True) as process:
        yield TrainingServer(process)
        process.stdin.close()  # ends its loop
        process.wait(120)
