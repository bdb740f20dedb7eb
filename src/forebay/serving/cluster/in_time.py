"""Questions to Ray, put in a thread: they have no time limits, and a signal must not cut them.

A signal ends whatever the main thread is in the midst of, at any line. Within Ray Serve's handles
that can be while the event loop is made that every later call of the process needs: the loop is
then there and nobody runs it, and a drain would wait for word from its replicas to its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Generic, TypeVar

_ANSWER_S = 15.0  # to one question: more than the limits, up to 10 s, that some have themselves

T = TypeVar("T")


class InTime(Generic[T]):
    """A question that is asked again and again, never twice at once.

    Attributes:
        unanswered_since: when the first was asked of those that no answer has come after, were it
            a late one; None where the last has one.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._asking: Future[T] | None = None
        self.unanswered_since: float | None = None

    def answer(self) -> T | None:
        """The answer; None where none came in time, or an exception of Ray's many instead.

        An interrupt while it waits leaves the question going on.
        """
        if self.unanswered_since is None:
            self.unanswered_since = time.monotonic()
        try:
            if self._asking is not None and not self._asking.done():
                self._asking.exception(_ANSWER_S)  # an answer to what was asked too early
            asking: Future[T] = Future()
            self._asking = asking
            # A daemon, since one that waits for ever would keep this process from ending.
            Thread(target=self._put, args=(asking,), daemon=True).start()
            return asking.result(_ANSWER_S)
        except Exception:
            return None

    def _put(self, asking: Future[T]) -> None:
        try:
            answer = self._ask()
        except Exception as error:
            asking.set_exception(error)
            return
        self.unanswered_since = None
        asking.set_result(answer)
