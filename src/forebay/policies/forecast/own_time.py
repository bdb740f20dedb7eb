"""How long a request's own prompts take, and how they are computed: whole, in parts, giving way.

Very long interactive prompts give way to the others, as batch does.

A prompt that takes half of its budget or more by itself may be late beside others whatever is done
for it. With a part of it in every step (`prompt_parts.py`) everybody else's steps are longer
meanwhile: the p99 TTFT of prompts a fiftieth as long was three to nine times what it is without. So
one that would be late even so goes the way of batch in the engine (`scheduling_hints.py`;
docs/admission.md has what it gives):

- A step that computes another's prompt computes nothing of it, but for one in nine.
- Any other step computes so few of its tokens that it is no longer than `batch_stretch` allows. It
  is by their time, and not by their number, that others feel them: fewer towards its end, where
  each is compared with all before it.
- All its steps together take no more of the time than leaves six of ten slots free in the mean:
  answers take longer beside it, and so more of them run at once.
- If more tokens a step have it computed within half of the time until its deadline, it gets those,
  but leaves half of the slots free. What would miss its deadline even so is refused: it could keep
  it only by taking slots from others, who would be late then or refused.
- Where nobody else comes, it is computed a part at a step, as fast as the engine can.

In all else it remains an interactive request: by its tag, by what it is charged, by the slots that
its tenant is owed. Once its prompt is computed, its answer gives way to nobody. Several are
computed one after the other (`long_prompt_queue.py`).

How long it takes follows from who else comes. After one of its steps comes the next, unless
somebody has come meanwhile; then there are steps of theirs until nobody has. What that leaves out
is learned (`long_prompts.py`).
"""

from __future__ import annotations

from math import ceil, exp
from typing import NamedTuple

from forebay.engine_model import MOST_ALONE, MOST_LEFT_OUT
from forebay.policies.fairness import Arrivals
from forebay.policies.forecast.batch_pacing import LEAST_TOKENS, BatchPacing
from forebay.policies.forecast.concurrency_limits import EngineSize
from forebay.policies.forecast.ledger import Ledger
from forebay.policies.forecast.long_prompts import LongPrompts
from forebay.policies.forecast.paces import Paces
from forebay.policies.request import BATCH, AdmissionConfig, Cost, Cutting

_SHORT_HALF_LIFE_S = 5.0  # long prompts take about as long
_MOST_BESIDE = 0.9  # of a step's time may be others' prompts

_MUCH = 0.5  # of its budget, that a prompt takes by itself which gives way
_MOST_BESIDE = 0.9  # of a step's time may be others' prompts
_MOST_RUNNING = 0.4  # of the slots, in the mean: chance has twice as many at times
_MOST_RUNNING_IN_HASTE = 0.5
_LEAST_TOKEN_S = 1e-9  # where prompt tokens seem to take no time, and a step's base all of it
_MOST_TIMES = 8.0  # as long as its first token, in the mean; as with `LongPrompts`
_SAME = 1.05  # times as long: all take as long
_IN_TIME = 0.5  # of what is left until its deadline: others may come more often than of late


class Stream(NamedTuple):
    """What comes of requests that give way to nobody, per second.

    Attributes:
        prompts: how many.
        tokens: of their prompts, to compute.
        output: of their answers.
    """

    prompts: float
    tokens: float
    output: float


class Way(NamedTuple):
    """How the prompts of a request are computed.

    Attributes:
        own_s: seconds that they take.
        gives_way: whether they give way to others.
        step_tokens: most tokens of them that a step computes, where they step aside; otherwise 0.
        half_at: place in them at which it computes half as many (`marks.tokens_at`).
    """

    own_s: float
    gives_way: bool = False
    step_tokens: int = 0
    half_at: int = 0

    @property
    def steps_aside(self) -> bool:
        """Whether it is that of an interactive request which gives way."""
        return self.step_tokens > 0


class Priority:
    """Reads the state that it is given, and changes none of it."""

    def __init__(self, size: EngineSize, ledger: Ledger, paces: Paces, pacing: BatchPacing) -> None:
        """See `AdmissionController` for what these are."""
        self._size = size
        self._ledger = ledger
        self._paces = paces
        self._pacing = pacing

    def has_to(self, cost: Cost, alone_s: float, stream: Stream, budget_s: float) -> bool:
        """Whether a very long prompt gives way: not one that is in time with a part in every step.

        Where nobody else comes it does, to whoever may come yet: that costs it nothing.

        Args:
            cost: of its request.
            alone_s: seconds that its prompts take on an engine of their own.
            stream: what comes of others.
            budget_s: of its class.
        """
        if alone_s <= _MUCH * budget_s:
            return False
        if not self._others_come(alone_s, stream):
            return True
        at_most_s = self._own_s(cost, self._ledger.part, self._token_s(cost, alone_s), stream)
        return at_most_s > budget_s

    def _others_come(self, alone_s: float, stream: Stream) -> bool:
        """Whether they have a part's tokens, or more, while it would be computed."""
        return stream.tokens * alone_s > self._ledger.part

    def way(self, cost: Cost, alone_s: float, stream: Stream, left_s: float) -> Way:
        """How it does: with the fewest tokens a step that have it computed before its deadline.

        Args:
            cost: of its request.
            alone_s: seconds that its prompts take on an engine of their own.
            stream: what comes of others.
            left_s: seconds until its deadline, without what it waits for.
        """
        token_s = self._token_s(cost, alone_s)
        tokens = most = self._ledger.part
        others_come = self._others_come(alone_s, stream)
        if others_come:
            most = self._most(token_s, stream, _MOST_RUNNING_IN_HASTE)
            tokens = self._pacing.tokens_of(token_s, self._own_step_s(stream))
            tokens = min(tokens, self._most(token_s, stream, _MOST_RUNNING))
        own_s = self._own_s(cost, tokens, token_s, stream)
        while tokens < most and own_s > _IN_TIME * left_s:
            tokens = min(2 * tokens, most)
            own_s = self._own_s(cost, tokens, token_s, stream)
        half_at = 0
        if others_come:
            tokens, half_at = self._even_steps(cost, tokens, token_s)
        return Way(own_s, gives_way=True, step_tokens=tokens, half_at=half_at)

    def _even_steps(self, cost: Cost, tokens: int, token_s: float) -> tuple[int, int]:
        """(`step_tokens`, `half_at`) of steps of one length, with so many tokens in the mean.

        The token in the middle of a prompt takes as long as they do in the mean, `token_s`.
        """
        times = min(token_s / max(self._paces.law.per_token_s, _LEAST_TOKEN_S), _MOST_TIMES)
        if times <= _SAME:
            return tokens, 0
        middle = cost.cached_per_sequence + cost.prefill_per_sequence / 2.0
        return round(tokens * times), max(round(middle / (times - 1.0)), 1)

    def _most(self, token_s: float, stream: Stream, running: float) -> int:
        """Tokens of a step beside which so much of the slots is taken by others in the mean."""
        tokens, share = self._ledger.part, self._share(stream, running)
        while tokens > LEAST_TOKENS and tokens * token_s > share * self._cycle_s(
            tokens, token_s, stream
        ):
            tokens = max(tokens - ceil(tokens / 8), LEAST_TOKENS)
        return tokens

    def _own_step_s(self, stream: Stream) -> float:
        """Seconds of a step that computes a prompt of others, were there none that gives way.

        Not beside as many answers as run now: while one gives way more of them do, so it would be
        let have more of each step, and there would be more of them still.
        """
        law, left = self._paces.law, 1.0 - self._busy(stream)
        seen_s = self._pacing.own_step_s(law)
        if left <= 0.0 or not stream.prompts:
            return seen_s
        running = stream.output * law.base_s / left
        prompt = stream.tokens / stream.prompts
        return min(law.seconds(running, prompt, running * law.context), seen_s)

    def _busy(self, stream: Stream) -> float:
        """Of all time, what others' answers and prompts take beside the base of their steps."""
        law = self._paces.law
        return law.answer_s(law.context) * stream.output + law.per_token_s * stream.tokens

    def _share(self, stream: Stream, running: float) -> float:
        """Of all time, that may go into what gives way where so much of the slots may be taken.

        Others' answers take longer by it, and so more of them run at once. With the rest of the
        time `1 - share` they make `output` tokens a second in steps of `base + running x each_s`.
        """
        steps_s = self._paces.law.base_s * stream.output / (running * self._size.sequences)
        return 1.0 - self._busy(stream) - steps_s

    def _token_s(self, cost: Cost, alone_s: float) -> float:
        """Seconds that each of its tokens adds to a step, in the mean."""
        steps = ceil(cost.prefill_per_sequence / self._ledger.part)
        added_s = alone_s - steps * self._paces.law.base_s
        return max(added_s / cost.prefill_tokens, self._paces.law.per_token_s, _LEAST_TOKEN_S)

    def _own_s(self, cost: Cost, tokens: int, token_s: float, stream: Stream) -> float:
        """Seconds until it is computed, so many tokens a step."""
        return ceil(cost.prefill_tokens / tokens) * self._cycle_s(tokens, token_s, stream)

    def _cycle_s(self, tokens: int, token_s: float, stream: Stream) -> float:
        """Seconds from one step of its to the next."""
        answers_s = self._paces.law.seconds(len(self._ledger.running), 0, self._ledger.context)
        step_s = answers_s + tokens * token_s
        return step_s + self._between_s(step_s, answers_s, stream)

    def _between_s(self, step_s: float, answers_s: float, stream: Stream) -> float:
        """Seconds of steps of others after each of its own, which takes `step_s`."""
        if stream.prompts <= 0.0:
            return 0.0
        per_token_s = self._paces.law.per_token_s
        beside = min(stream.tokens * per_token_s, _MOST_BESIDE)
        one_s = answers_s + stream.tokens / stream.prompts * per_token_s
        theirs_s = max(one_s, answers_s / (1.0 - beside))
        begins, goes_on = (1.0 - exp(-stream.prompts * s) for s in (step_s, theirs_s))
        return min(begins / max(1.0 - goes_on, 1e-9), MOST_LEFT_OUT) * theirs_s


class OwnTime:
    """How a request's own prompts are computed, and in how many seconds.

    Attributes:
        short: what was admitted lately with prompts that are not computed in parts, as one flow.
        long: how much longer than others the very long ones take.
        priority: which of the very long ones give way to others, and how long they take.
    """

    def __init__(
        self,
        config: AdmissionConfig,
        ledger: Ledger,
        paces: Paces,
        size: EngineSize,
        pacing: BatchPacing,
        cutting: Cutting,
    ) -> None:
        """See `AdmissionController` for what these are."""
        self._config = config
        self._ledger = ledger
        self._paces = paces
        self._cutting = cutting
        self.long = LongPrompts(ledger.part)
        self.priority = Priority(size, ledger, paces, pacing)
        self.forget()

    def forget(self) -> None:
        """What came so far was no traffic."""
        self.short = Arrivals(_SHORT_HALF_LIFE_S)
        self.long.forget()

    def way(self, cost: Cost, class_name: str, now: float, left_s: float | None = None) -> Way:
        """How the prompts of a request of this class are computed.

        Args:
            cost: the request's.
            class_name: its class.
            now: seconds.
            left_s: seconds until its deadline; None: it has come just now.
        """
        own_s = self.own_s(cost, now)
        if class_name == BATCH:
            return Way(own_s, gives_way=True)
        policy = self._config.classes[class_name]
        if not (self._config.heeds_marks and self._parts(cost) and self._paces.law.known):
            return Way(own_s)
        alone_s = self._alone_s(cost)
        stream = self._stream(now)
        if not self.priority.has_to(cost, alone_s, stream, policy.ttft_s):
            return Way(own_s)
        left_s = policy.deadline_s if left_s is None else left_s
        return self.priority.way(cost, alone_s, stream, left_s)

    def own_s(self, cost: Cost, now: float) -> float:
        """Seconds in which a request's prompts are computed.

        A long one that has a part of each step is computed in no fewer steps, and these take as
        long as whatever comes meanwhile makes them.
        """
        whole_s, law = self._paces.prompts_s(cost.prefill_tokens), self._paces.law
        parts = self._parts(cost)
        if not parts:
            own, cached = cost.prefill_per_sequence, cost.cached_per_sequence
            return whole_s * self._paces.effort.times(own, own * (own + 2 * cached))
        if not law.known:
            return whole_s
        part, at_once = self._ledger.part, self._parts_at_once(cost)
        step_s = law.seconds(len(self._ledger.running), at_once * part, self._ledger.context)
        beside = min(self.passing(1.0, now) * law.per_token_s, _MOST_BESIDE)
        steps = parts * ceil(cost.sequences / at_once)
        return steps * step_s * self.long.alone(cost) / (1.0 - beside)

    def hurried(self, cost: Cost, now: float) -> float:
        """The share of a request's own seconds that is for what traffic did to others like it."""
        return 1.0 - 1.0 / self.times(cost, now)

    def saw_long(self, cost: Cost, took_s: float) -> None:
        """The very long prompt of such a request took so long on an engine of its own."""
        steps_s = self.long.parts(cost) * self._paces.law.seconds(0, self._ledger.part)
        self.long.measured(cost, steps_s, took_s)

    def passing(self, seconds: float, now: float) -> float:
        """Tokens of short prompts that will come within so many seconds, if it goes on so."""
        return seconds * sum(prefill for _, prefill, _, _ in self.short.rates(now))

    def times(self, cost: Cost, now: float) -> float:
        """How much longer than reckoned its prompts take, by what traffic did to others."""
        return self.long.times(now) if self._parts(cost) else 1.0

    def _parts(self, cost: Cost) -> int:
        """Steps that a very long prompt takes beside others; 0 for one that is not cut."""
        return self.long.parts(cost) if self._cutting.cuts(cost) else 0

    def _alone_s(self, cost: Cost) -> float:
        """Seconds that very long prompts take on an engine of their own, in parts."""
        at_once = self._parts_at_once(cost)
        steps = self._parts(cost) * ceil(cost.sequences / at_once)
        step_s = self._paces.law.seconds(0, at_once * self._ledger.part)
        return steps * step_s * self.long.alone(cost)

    def _stream(self, now: float) -> Stream:
        rates = self.short.rates(now)
        output = sum(tokens for _, tokens in self.short.outputs(now))
        return Stream(sum(one[2] for one in rates), sum(one[1] for one in rates), output)

    def _parts_at_once(self, cost: Cost) -> int:
        """Of a request's prompts, those that share a step."""
        return min(cost.sequences, max(self._config.step_tokens // self._ledger.part, 1))

    @property
    def long_times(self) -> float:
        """How much longer than others the tokens take of prompts queued in parts, in the mean."""
        long = self._ledger.long
        return self.long.alone_of(long.tokens / len(long)) if long else 1.0

    def limited_s(self, few: int, few_times: float | None) -> float:
        """Seconds for which those who give way may get only so many tokens a step, alone."""
        times = max(few_times or 1.0, self.long_times)
        return MOST_ALONE * self._paces.law.seconds(0, few * times)
