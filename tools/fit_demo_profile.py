"""Fits the profile `demo-cpu` to measured steps of the bundled model in vLLM, on one core.

The engine core of `examples/demo.yaml`, in this process and bound to one core, as the service binds
it: engine arguments, executor, parts of long prompts. What is put into it is designed: answers that
run with more and less context, prompts alone, in parts, and beside answers. Each step is timed by
the thread's CPU clock, since all of it happens in this thread; how much longer the wall clock said
is printed, and is what others took of the core meanwhile. Three in ten steps are held out of the
fit and judge it. Measure where nothing else runs: a program on the core's other thread makes every
step longer, and no clock tells.

Tokens are chosen greedily, as `forebay load` asks unless told otherwise. `--model-sampling` gives
what a client gets that asks for nothing, the model's own temperature and top-p: on a CPU that sorts
the vocabulary for every sequence in every step.

Run as: .venv/bin/python tools/fit_demo_profile.py [--seconds 60] [--core 0] [--model-sampling]
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from forebay.engine_model import StepTime
from forebay.engine_model.law_fitting import StepSample, StepTimeFit, fit_step_time
from forebay.serving.app import engine_kwargs, replica_variables
from forebay.spec.service import ServiceSpec, load_service

DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo.yaml"
DECODE_STEPS = 12  # of each load
HELD_OUT = 0.3
WARM_UP = 8  # loads, so that nothing compiles or grows any more
VOCABULARY = range(256, 4096)  # clear of control ids


@dataclass(frozen=True)
class Load:
    """What is in the engine: answers that run, with so many tokens behind them, and new prompts."""

    answers: int = 0
    context: int = 0
    prompts: int = 0
    prompt: int = 0


def design() -> list[Load]:
    """Loads in which no two amounts grow together."""
    answers = [Load(n, c) for n in (1, 4, 8, 16, 32, 48, 64) for c in (32, 512)]
    answers += [Load(1, 8192), Load(4, 4096), Load(16, 2048)]
    prompts = [Load(0, 0, n, p) for n in (1, 2, 4, 8) for p in (16, 64, 182, 256)]
    prompts += [Load(0, 0, n, p) for n, p in ((1, 1442), (1, 8192), (4, 2048), (8, 1024))]
    beside = [
        Load(a, c, n, p)
        for a, c in ((8, 64), (24, 64), (48, 64), (8, 1024), (24, 512))
        for n, p in ((1, 64), (2, 182), (4, 256), (8, 256), (1, 1442))
    ]
    return answers + prompts + beside


@dataclass
class Bench:
    """An engine core whose steps are timed and counted.

    Attributes:
        core: vLLM's `EngineCore`.
        sampling: how tokens are chosen.
        samples: every step so far.
        wall_s: what the wall clock said of them, together.
    """

    core: Any
    sampling: dict[str, Any]
    rng: random.Random
    samples: list[StepSample] = field(default_factory=list)
    wall_s: float = 0.0

    def __post_init__(self) -> None:
        self._scheduled: dict[str, int] = {}
        self._prompts: dict[str, int] = {}
        self._computed: dict[str, int] = {}
        schedule = self.core.scheduler.schedule

        def watched(*args: Any, **kwargs: Any) -> Any:
            output = schedule(*args, **kwargs)
            self._scheduled = output.num_scheduled_tokens
            return output

        self.core.scheduler.schedule = watched

    def add(self, prompt: int, answer: int) -> str:
        """A request of so many tokens, like no other."""
        from vllm.sampling_params import SamplingParams
        from vllm.v1.engine import EngineCoreRequest

        name = f"r{len(self._prompts)}"
        request = EngineCoreRequest(
            request_id=name,
            prompt_token_ids=self.rng.choices(VOCABULARY, k=prompt),
            mm_features=None,
            sampling_params=SamplingParams(max_tokens=answer, ignore_eos=True, **self.sampling),
            pooling_params=None,
            arrival_time=time.time(),
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        self._prompts[name], self._computed[name] = prompt, 0
        self.core.add_request(*self.core.preprocess_add_request(request))
        return name

    def step(self) -> None:
        """One step of the engine."""
        wall, cpu = time.perf_counter(), time.thread_time()
        self.core.step()
        took = time.thread_time() - cpu
        self.wall_s += time.perf_counter() - wall
        self._count(took)

    def _count(self, seconds: float) -> None:
        """As `EngineModel` counts."""
        prefill = pairs = decoding = context = 0
        for name, tokens in self._scheduled.items():
            start = self._computed[name]
            self._computed[name] = start + tokens
            if start >= self._prompts[name]:
                decoding, context = decoding + 1, context + start + 1
            else:
                prefill += tokens
                pairs += tokens * start + tokens * (tokens + 1) // 2
        if prefill or decoding:
            self.samples.append(StepSample(seconds, prefill, decoding, context, pairs))
        self._scheduled = {}

    def play(self, load: Load) -> None:
        """All steps of one load, from an empty engine to an empty engine."""
        running = [self.add(load.context, 4096) for _ in range(load.answers)]
        while any(self._computed[name] < load.context for name in running):
            self.step()
        for _ in range(DECODE_STEPS if running else 0):
            self.step()
        arrived = [self.add(load.prompt, 1) for _ in range(load.prompts)]
        while any(self._computed[name] < load.prompt for name in arrived):
            self.step()
        self.core.abort_requests(running)
        while self.core.scheduler.has_requests():
            self.step()


def engine_core(spec: ServiceSpec) -> Any:
    """The engine core that a replica of the service starts."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.core import EngineCore

    from forebay.serving.engine.vllm_engine import executor_class, schedule_by_marks

    config = EngineArgs(model=str(spec.model.source_path), **engine_kwargs(spec))
    made = config.create_engine_config()
    schedule_by_marks(made.scheduler_config)
    return EngineCore(made, executor_class(made), log_stats=False)


def measured(spec: ServiceSpec, seconds: float, *, model_sampling: bool) -> Bench:
    """A bench that has played the design for so long, over and over, each time in another order."""
    core = engine_core(spec)
    own = core.vllm_config.model_config.get_diff_sampling_param()
    sampling = own if model_sampling else {"temperature": 0.0}
    bench = Bench(core, sampling, random.Random(0))
    for number in range(WARM_UP):
        bench.play(Load(8 * number, 64, 4, 256))
    bench.samples.clear()
    bench.wall_s = 0.0
    until, loads = time.monotonic() + seconds, list[Load]()
    while time.monotonic() < until:
        if not loads:
            loads = design()
            bench.rng.shuffle(loads)
        bench.play(loads.pop())
    return bench


def errors(law: StepTime, samples: list[StepSample]) -> Any:
    """(measured - told) / measured of each step."""
    told = [
        law.seconds(s.prefill_tokens, s.prefill_pairs, s.decode_sequences, s.context_tokens)
        for s in samples
    ]
    took = np.array([s.duration_s for s in samples])
    return (took - np.array(told)) / took


def kinds(samples: list[StepSample]) -> Iterator[tuple[str, list[StepSample]]]:
    """The steps by what they compute."""
    yield "all", samples
    yield "answers only", [s for s in samples if not s.prefill_tokens]
    yield "prompts only", [s for s in samples if not s.decode_sequences]
    yield "both", [s for s in samples if s.prefill_tokens and s.decode_sequences]


def report(fit: StepTimeFit, law: StepTime, held_out: list[StepSample]) -> None:
    print(f"\nfitted to {fit.samples} steps: {fit.step_time}")
    print("\n| steps held out | number | median error | p90 | bias |\n|---|---|---|---|---|")
    for name, steps in kinds(held_out):
        if steps:
            off = errors(law, steps)
            median, p90 = np.percentile(np.abs(off), (50, 90))
            print(f"| {name} | {len(steps)} | {median:.1%} | {p90:.1%} | {off.mean():+.1%} |")
    values = ", ".join(f"{name}={getattr(law, name):.3g}" for name in law.__slots__)
    print(f"\nstep_time=StepTime({values}),")


def rounded(law: StepTime) -> StepTime:
    """To three digits, as it is pasted."""
    return StepTime(*(float(f"{getattr(law, name):.3g}") for name in law.__slots__))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of measuring")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)))
    parser.add_argument("--model-sampling", action="store_true")
    parser.add_argument("--samples", type=Path, help="also write the steps here, as .npy")
    options = parser.parse_args()
    spec = load_service(DEMO)
    os.sched_setaffinity(0, {options.core})
    os.environ.update(replica_variables(spec))  # before torch and vLLM read it
    bench = measured(spec, options.seconds, model_sampling=options.model_sampling)
    steps = bench.samples
    spent = sum(step.duration_s for step in steps)
    print(f"{len(steps)} steps, {spent:.1f} s of CPU; the wall clock: x {bench.wall_s / spent:.3f}")
    if options.samples is not None:
        np.save(options.samples, np.array(steps))
    random.Random(1).shuffle(steps)
    cut = round(HELD_OUT * len(steps))
    fit = fit_step_time(steps[cut:])
    report(fit, rounded(fit.step_time), steps[:cut])


if __name__ == "__main__":
    main()
