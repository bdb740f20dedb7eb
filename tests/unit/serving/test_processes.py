"""The processes that a service starts."""

from __future__ import annotations

import signal
import subprocess

from forebay.serving import processes


def after_a_hangup() -> str:
    """What a process says that hangs up on itself."""
    shell = ["sh", "-c", "kill -HUP $$; echo lives on"]
    return subprocess.run(shell, capture_output=True, text=True, check=False).stdout.strip()


def test_what_is_started_deaf_to_hangups_outlives_the_terminal() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with processes.deaf_to_hangups():
        assert after_a_hangup() == "lives on"
    assert signal.getsignal(signal.SIGHUP) == before
    assert after_a_hangup() == ""
