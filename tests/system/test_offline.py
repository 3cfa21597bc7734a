import socket
import subprocess
import sys

import pytest

from coterie.errors import ArtifactError
from coterie.system.offline import offline

AFTER_THE_END = """
import socket
from coterie.system import offline as module

with module.offline("a load"):
    pass
names = [name for name in vars(module) if not name.startswith("__")]
vars(module).update(dict.fromkeys(names))  # as Python does at its end
print(socket.getaddrinfo("127.0.0.1", 80)[0][4])
"""


def test_nothing_is_fetched_meanwhile() -> None:
    with offline("a load"), pytest.raises(ArtifactError, match=r"a load would fetch something from 127\.0\.0\.1"):
        socket.getaddrinfo("127.0.0.1", 80)
    assert socket.getaddrinfo("127.0.0.1", 80)


def test_the_end_of_python_finds_nothing_missing() -> None:
    done = subprocess.run([sys.executable, "-c", AFTER_THE_END], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "('127.0.0.1', 80)\n", "")
