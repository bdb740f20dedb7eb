"""What one worker is to do, as JSON can carry it to another process or machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from forebay.load.plan.content import (
    DEFAULT_IDS,
    Content,
    id_content,
    letter_content,
    word_content,
)
from forebay.load.plan.plan import Target
from forebay.load.plan.request_bodies import Api, BodyMaker, Form, body_maker

CLASS_HEADER = "X-Forebay-Class"
ORDER_IS_WRONG = 2  # a worker's exit code


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The endpoint under test, and what is known of how it counts tokens.

    Attributes:
        url: ``http[s]://host[:port][/base]``, without ``/v1``.
        model: model name in the bodies.
        api: which API is asked.
        exact_output: whether it takes ``ignore_eos``.
        stream: whether streams are asked for.
        words: words that its tokenizer takes as one token each; None when that is not known.
        bytes_per_token: of text, where `words` is not known.
        ids: token ids that prompts are made of.
        first_overhead, turn_overhead: tokens that its chat template adds (see `bodies.Form`).
    """

    url: str
    model: str
    api: Api = "completions"
    exact_output: bool = True
    stream: bool = True
    words: tuple[str, ...] | None = None
    bytes_per_token: float = 4.0
    ids: tuple[int, ...] | None = None
    first_overhead: int = 0
    turn_overhead: int = 0

    @property
    def lengths(self) -> str:
        """How far prompt lengths may be relied on, in words."""
        if self.api == "completions":
            return "exact: prompts are token ids"
        if self.words is not None:
            return "exact: by the endpoint's own tokenizer, chat template included"
        return f"estimated: {self.bytes_per_token:g} bytes a token, chat template not counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How requests are asked.

    Attributes:
        headers: of every request.
        tenant_headers: further ones by tenant, such as its key.
        timeout_s: seconds from an attempt's send after which it is given up.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    tenant_headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Playing(Asking):
    """How a workload is played, by one worker or by all.

    Attributes:
        endpoint: where to.
        attempts: that a request gets; 1 for no retries.
        keep_token_times: keep each token's arrival.
        realtime: ask for real-time scheduling.
        cores: CPU cores that a worker may run on; any, when None.
    """

    endpoint: Endpoint
    attempts: int = 1
    keep_token_times: bool = True
    realtime: bool = True
    cores: Sequence[int] | None = None

    def said(self) -> dict[str, Any]:
        """These fields by name, whoever's they are."""
        return {one.name: getattr(self, one.name) for one in fields(Playing)}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan(Playing):
    """One worker's part of a run.

    Attributes:
        workload: the workload file's content (`spec.workload.WorkloadSpec`).
        worker, workers: plays every `workers`-th session from the `worker`-th on.
        salt: of the prompts' content: another salt, other prompts.
        records: file to write; none, when None.
    """

    workload: dict[str, Any]
    worker: int = 0
    workers: int = 1
    salt: str = ""
    records: str | None = None

    def as_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> WorkerPlan:
        """Reads the JSON form.

        Raises:
            ValueError: it is not one, or holds an impossible value.
        """
        try:
            values = json.loads(text)
            endpoint = values["endpoint"]
            for name in ("words", "ids"):
                endpoint[name] = None if endpoint[name] is None else tuple(endpoint[name])
            return cls(**{**values, "endpoint": Endpoint(**endpoint)})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"unusable order: {error!r}") from error

    def target(self) -> Target:
        """Where requests go.

        Raises:
            ValueError: the URL is none.
        """
        return Target.from_url(self.endpoint.url, keep_token_times=self.keep_token_times)

    def maker(self, temperature: float) -> BodyMaker:
        """What makes the bodies.

        Raises:
            ValueError: there are too few words or ids to make prompts of.
        """
        endpoint = self.endpoint
        form = Form(
            model=endpoint.model,
            temperature=temperature,
            exact_output=endpoint.exact_output,
            stream=endpoint.stream,
            first_overhead=endpoint.first_overhead,
            turn_overhead=endpoint.turn_overhead,
        )
        return body_maker(endpoint.api, form, self._content())

    def _content(self) -> Content:
        endpoint = self.endpoint
        if endpoint.api == "completions":
            return id_content(self.salt, endpoint.ids or DEFAULT_IDS)
        if endpoint.words is not None:
            return word_content(self.salt, endpoint.words)
        return letter_content(self.salt, endpoint.bytes_per_token)
