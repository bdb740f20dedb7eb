"""What keeps the promised time per token: how many sequences at once, and how much work a second.

In a step of T seconds each running answer gets a token, and prompts are computed. By the law of the
steps (`step_law.py`), at x requests/s of P prompt tokens and A answer tokens after the first,

    T = base + T x (A (per_sequence + C per_context) + P per_token)

where an answer attends to C tokens in the mean over its steps: its prompt, and half of itself. So
the longest step that keeps the promise has room for T - base seconds of such work. A request stays
for the steps of its prompt's parts and for A steps: each of those in the engine brings so much of
its work to every step. That says how many there may be (docs/admission.md).
"""

from __future__ import annotations

from math import ceil, inf

from forebay.policies.fading import DecayedRate
from forebay.policies.forecast.paces import Paces
from forebay.policies.request import AdmissionConfig, part_tokens

_SEQUENCES = 200.0  # after which half of what was learned of their sizes has faded
# The promise is taken to be at least so many times the pace of a lone sequence. To keep a tighter
# one, a bound would have to give away most of the engine for little.
_LEAST_STRETCH = 1.25
_LEAST_ANSWER = 1.0  # tokens after the first: where they are fewer, pace is not what is asked for
_MOST_LATE = 0.05  # of the answers
_JUDGED = 64  # answers that ended, for one change
_GAIN = 0.3  # of the share that is late beyond the most, by which the margin changes
_LEAST = 0.7  # of the promise


class PaceMargin:
    """Learns the share of the promised time per token that the mean step may take.

    As many sequences at once as make a step as long as is promised, in the mean, make many answers
    later than that, up to half: steps differ by the prompts in them, and answers by the steps they
    had. By how much depends on the traffic, so it is learned from answers that have ended: a share
    of them, all begun since the margin was last changed, says whether it has to change again.
    Those who began before were let in under another one, and to judge by them would be to correct
    the same fault twice.
    """

    def __init__(self) -> None:
        """Nobody was late."""
        self.share = 1.0
        self._since = -float("inf")
        self._ended = self._late = 0

    def ended(self, began_at: float, now: float, *, late: bool) -> None:
        """An answer that was let in at `began_at` (s) ended, later than promised or in time."""
        if began_at < self._since:
            return
        self._ended += 1
        self._late += late
        if self._ended >= _JUDGED:
            over = self._late / self._ended - _MOST_LATE
            self.share = min(max(self.share * (1.0 - _GAIN * over), _LEAST), 1.0)
            self._since, self._ended, self._late = now, 0, 0


class PromisedPace:
    """Learns how large requests are; reads the law of steps, and changes nothing of it.

    Attributes:
        margin: by how much the mean step has to stay below the promise.
    """

    def __init__(self, config: AdmissionConfig, paces: Paces) -> None:
        """Nothing has been asked for."""
        self._config = config
        self._paces = paces
        self.forget()

    def forget(self) -> None:
        """What came so far was no traffic."""
        self.margin = PaceMargin()
        self._prompt = DecayedRate(_SEQUENCES)  # tokens computed of a prompt
        self._parts = DecayedRate(_SEQUENCES)  # steps in which they were
        self._answer = DecayedRate(_SEQUENCES)  # tokens after the first
        self._attended = DecayedRate(_SEQUENCES)  # tokens that those attend to, all together

    def began(self, prompt: int, computed: int, expected: float, *, in_parts: bool = False) -> None:
        """A sequence has its first token: of so many prompt tokens, and so many of them computed.

        Its answer is expected to be of so many. A prompt `in_parts` was computed beside others.
        """
        after = max(expected - 1.0, 0.0)
        self._prompt.add(computed, 1.0)
        step = self._config.step_tokens
        self._parts.add(float(ceil(computed / (part_tokens(step) if in_parts else step))), 1.0)
        self._answer.add(after, 1.0)
        self._attended.add(after * (prompt + 0.5 * expected), 1.0)

    @property
    def context(self) -> float:
        """Tokens that an answer attends to, in the mean over the steps of those that began lately.

        Before any did, as in the steps that taught the law.
        """
        tokens, answer = self._attended.rate, self._answer.rate
        return tokens / answer if answer else self._paces.law.context

    @property
    def answer_s(self) -> float:
        """Seconds that such an answer takes of each step."""
        return self._paces.law.answer_s(self.context)

    @property
    def step_s(self) -> float:
        """Seconds of the longest mean step that keeps the promise for nearly all answers.

        Infinity where none is made.
        """
        law = self._paces.law
        if self._config.tpot_s is None or not law.known:
            return inf
        most_s = self.margin.share * self._config.tpot_s
        return max(most_s, _LEAST_STRETCH * (law.base_s + self.answer_s))

    @property
    def sequences(self) -> float:
        """Sequences in the engine, prompts and answers, within the promise; at least 1."""
        if self._prompt.known and self._answer.rate < _LEAST_ANSWER:
            return inf
        each_s = self._each_s
        return max((self.step_s - self._paces.law.base_s) / each_s, 1.0) if each_s else inf

    @property
    def _each_s(self) -> float:
        """Seconds of work that each sequence in the engine brings to every step."""
        law, answer = self._paces.law, self._answer.rate
        if not answer:
            return self.answer_s
        work_s = answer * self.answer_s + self._prompt.rate * law.per_token_s
        return work_s / (answer + self._parts.rate)

    @property
    def answer_tokens(self) -> float:
        """Of such an answer, after the first."""
        return self._answer.rate

    def prompts_beside(self, sequences: float) -> float:
        """Prompt tokens that so many sequences in the engine bring to every step."""
        stays = self._answer.rate + self._parts.rate
        return sequences * self._prompt.rate / stays if stays else 0.0

    def step_s_with(self, sequences: float) -> float:
        """Seconds of a step with so many sequences in the engine, prompts and answers."""
        law = self._paces.law
        most_s = law.seconds(0, self._config.step_tokens) + sequences * self.answer_s
        return min(law.base_s + sequences * self._each_s, most_s)

    def sustained(self, at_once: float) -> tuple[float, float]:
        """Prompt and output tokens/s, each of an engine that does nothing else; 0: unknown.

        So that the two add up to a replica's work: what prompts are seen to drain at, and answers
        to be made at, is slower where they share steps. Counted as capacities, each would be
        charged for the other.

        Args:
            at_once: answers that there are slots and KV cache for.
        """
        law = self._paces.law
        if not law.known or not law.per_token_s:
            tpot_s = self._paces.seconds_per_token_when_full
            return self._paces.prefill_rate.rate, at_once / tpot_s if tpot_s else 0.0
        step_s = min(self.step_s, law.seconds(0, self._config.step_tokens))
        answer_s = self.answer_s
        left = 1.0 - law.base_s / step_s  # of a step, beside its base
        in_slots = (1.0 / law.per_token_s, at_once / (law.base_s + at_once * answer_s))
        answers = left / answer_s if answer_s else in_slots[1]
        in_pace = (left / law.per_token_s, answers)
        return max(in_pace, in_slots, key=self._work)

    def _work(self, rates: tuple[float, float]) -> float:
        """Replicas that a request of the usual size keeps busy for a second, by such rates."""
        prompt, answer = self._prompt.rate, self._answer.rate
        if not prompt and not answer:
            answer = 1.0
        return prompt / rates[0] + answer / rates[1]
