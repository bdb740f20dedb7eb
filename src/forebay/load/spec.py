"""The worker's orders: a small JSON object, checked before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from forebay.load.arrivals import Stage, poisson_arrivals
from forebay.load.plan import PlannedRequest, Target
from forebay.load.prompts import DEFAULT_IDS, PromptMaker, plain_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What one worker process is to do.

    Attributes:
        url: the endpoint, ``http[s]://host[:port][/base]``.
        model: model name in the request bodies.
        path: API path; one ending in ``chat/completions`` gets text messages, else token ids.
        mode: ``open`` (Poisson through ``stages``) or ``closed`` (``clients`` for ``duration_s``).
        stages: [rate in requests/s, seconds] pairs, open loop.
        clients: requests in flight, closed loop.
        duration_s: seconds, closed loop.
        prompt_tokens, output_tokens: exact lengths, in tokens.
        seed: of arrivals and prompts.
        timeout_s: seconds after which a request is given up.
        slo_ttft_s, slo_tpot_s: what counts as good; no TPOT limit when null.
        temperature: sampling temperature; 0 is greedy.
        ignore_eos: makes vLLM's outputs exactly ``output_tokens`` long.
        stream: ask for an event stream.
        class_name: traffic class, in the records.
        headers: headers of every request.
        tokenizer: a ``tokenizer.json`` whose plain ids prompts are made of; a range that nearly
            every vocabulary has, when null.
        keep_token_times: keep each token's arrival in the records.
        realtime: ask for real-time scheduling.
        cores: CPU cores the client may run on, beside a server on the same machine: a real-time
            client that wakes on a model's core takes it from the model. Any, when null.
        records: file for one JSON object per request; not written when null.
        summary: file for the summary; not written when null.
    """

    url: str
    model: str
    path: str = "/v1/completions"
    mode: Literal["open", "closed"] = "open"
    stages: list[Stage] = field(default_factory=list)
    clients: int = 1
    duration_s: float = 20.0
    prompt_tokens: int = 180
    output_tokens: int = 48
    seed: int = 0
    timeout_s: float = 60.0
    slo_ttft_s: float = 1.0
    slo_tpot_s: float | None = None
    temperature: float = 0.0
    ignore_eos: bool = True
    stream: bool = True
    class_name: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    tokenizer: str | None = None
    keep_token_times: bool = False
    realtime: bool = True
    cores: list[int] | None = None
    records: str | None = None
    summary: str | None = None

    @classmethod
    def parse(cls, text: str | bytes) -> WorkerSpec:
        """Reads the JSON form.

        Raises:
            ValueError: when it is not JSON, names an unknown key, lacks a needed one, or holds an
                impossible value.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("the plan must be a JSON object")
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown key in the plan: {', '.join(sorted(unknown))}")
        try:
            values["stages"] = [Stage(*stage) for stage in values.get("stages", [])]
            spec = cls(**values)
            spec.check()
        except TypeError as error:
            raise ValueError(f"unusable plan: {error}") from error
        return spec

    def check(self) -> None:
        """Refuses impossible values.

        Raises:
            ValueError: naming the first of them.
            TypeError: when a value has the wrong type.
        """
        self.target()
        if self.mode not in ("open", "closed"):
            raise ValueError(f"mode is open or closed, not {self.mode!r}")
        if self.mode == "open" and not self.stages:
            raise ValueError("an open loop needs stages: [[rate, seconds], ...]")
        positive = ("clients", "duration_s", "prompt_tokens", "output_tokens", "timeout_s")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")

    def target(self) -> Target:
        """The endpoint.

        Raises:
            ValueError: when ``url`` is none.
        """
        return Target.from_url(self.url, keep_token_times=self.keep_token_times)

    @property
    def planned_s(self) -> float:
        """Seconds during which requests are sent."""
        if self.mode == "closed":
            return self.duration_s
        return sum(stage.seconds for stage in self.stages)


class RequestFactory:
    """Makes the planned requests of a spec."""

    def __init__(self, spec: WorkerSpec, rng: np.random.Generator) -> None:
        ids = plain_ids(Path(spec.tokenizer)) if spec.tokenizer else DEFAULT_IDS
        self._spec = spec
        self._rng = rng
        self._prompts = PromptMaker(rng, ids=ids)
        self._chat = spec.path.endswith("chat/completions")

    def schedule(self) -> list[PlannedRequest]:
        """The whole open-loop schedule."""
        times = poisson_arrivals(self._spec.stages, self._rng).tolist()
        return [self.request(at_s) for at_s in times]

    def request(self, at_s: float = 0.0) -> PlannedRequest:
        """One request, its body encoded."""
        spec = self._spec
        return PlannedRequest(
            at_s=at_s,
            body=json.dumps(self._body(), separators=(",", ":")).encode(),
            path=spec.path,
            headers=spec.headers,
            max_tokens=spec.output_tokens,
            prompt_tokens=spec.prompt_tokens,
            class_name=spec.class_name,
        )

    def _body(self) -> dict[str, Any]:
        spec = self._spec
        body: dict[str, Any] = {"model": spec.model}
        if self._chat:
            content = self._prompts.text(spec.prompt_tokens)
            body["messages"] = [{"role": "user", "content": content}]
        else:
            body["prompt"] = self._prompts.tokens(spec.prompt_tokens)
        body |= {"max_tokens": spec.output_tokens, "temperature": spec.temperature}
        if spec.ignore_eos:
            body["ignore_eos"] = True
        if spec.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body
