"""The processes that a service starts."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from forebay.serving.cluster import processes


def after_a_hangup() -> str:
    """What a process says that hangs up on itself."""
    shell = ["sh", "-c", "kill -HUP $$; echo lives on"]
    return subprocess.run(shell, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def hangups_end() -> Iterator[None]:
    """As where this process was not started by nohup, which would be inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_end")
def test_what_is_started_deaf_to_hangups_outlives_the_terminal() -> None:
    with processes.deaf_to_hangups():
        assert after_a_hangup() == "lives on"
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    assert after_a_hangup() == ""
