"""Admission under arbitrary histories: what must hold after every step, whatever happens."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from forebay.policies.admission import (
    BATCH,
    INTERACTIVE,
    AdmissionConfig,
    AdmissionController,
    Admitted,
    ClassPolicy,
    Shed,
    StepOutput,
)
from forebay.policies.cost import CostModel, RequestShape
from forebay.policies.ledger import Sequence, Ticket

CONTEXT = 4096
BOUND = 5_000


class AdmissionMachine(RuleBasedStateMachine):
    """Random clients and a random engine around one controller."""

    @initialize(slots=st.integers(1, 8), jitter=st.floats(0, 0.999))
    def start(self, slots: int, jitter: float) -> None:
        config = AdmissionConfig(
            classes={
                INTERACTIVE: ClassPolicy(ttft_s=1.0, deadline_s=2.0),
                BATCH: ClassPolicy(ttft_s=30.0, deadline_s=60.0),
            },
            slots=slots,
            kv_tokens=20_000,
            step_tokens=512,
            max_queued_tokens=BOUND,
        )
        self.now = 0.0
        self.controller = AdmissionController(config, CostModel(CONTEXT, 64), lambda: jitter)
        self.open: list[Ticket] = []

    def sequences(self, *states: str) -> list[Sequence]:
        return [s for t in self.open for s in t.sequences if s.state in states]

    @rule(seconds=st.floats(0.001, 3.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        ids=st.integers(1, CONTEXT),
        prompts=st.integers(1, 3),
        samples=st.integers(1, 3),
        cap=st.one_of(st.none(), st.integers(1, CONTEXT)),
        class_name=st.sampled_from([INTERACTIVE, BATCH]),
    )
    def arrive(
        self, ids: int, prompts: int, samples: int, cap: int | None, class_name: str
    ) -> None:
        was_idle = self.controller.ledger.idle
        queued = self.controller.ledger.queued_prefill
        cost = self.controller.costs.price(RequestShape(0, ids, prompts, samples, cap))
        decision = self.controller.decide(cost, class_name, self.now)
        if isinstance(decision, Shed):
            assert not was_idle, "an idle replica refused"
            assert decision.retry_after_s > 0
            assert self.controller.ledger.queued_prefill == queued, (
                "a refusal left something behind"
            )
            return
        assert isinstance(decision, Admitted)
        assert decision.predicted_s >= 0
        assert was_idle or self.controller.ledger.queued_prefill <= BOUND
        assert len(decision.ticket.sequences) == max(prompts * samples, 1)
        self.open.append(decision.ticket)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), prompt=st.integers(1, CONTEXT), cap=st.integers(1, CONTEXT))
    def engine_receives(self, data: st.DataObject, prompt: int, cap: int) -> None:
        ticket = data.draw(st.sampled_from(self.open))
        sequence = self.controller.bind(ticket, prompt, cap)
        assert sequence.prompt == prompt
        assert sequence.bound

    @precondition(lambda self: self.sequences("queued", "running"))
    @rule(data=st.data(), elapsed=st.floats(0.001, 0.5), ends=st.booleans())
    def engine_steps(self, data: st.DataObject, elapsed: float, ends: bool) -> None:
        self.now += elapsed
        moving = data.draw(
            st.lists(st.sampled_from(self.sequences("queued", "running")), min_size=1, unique=True)
        )
        outputs = [
            StepOutput(s, 1, 0 if s.state == "queued" else None, ended=ends, natural=ends)
            for s in moving
        ]
        self.controller.observe_step(outputs, self.now, self.now)
        for sequence in moving:
            assert sequence.state == ("ended" if ends else "running")

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def request_ends(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.open))
        self.open.remove(ticket)
        self.controller.close(ticket, self.now)
        self.controller.close(ticket, self.now)
        assert all(s.state == "ended" for s in ticket.sequences)

    @invariant()
    def totals_hold(self) -> None:
        if hasattr(self, "controller"):
            self.controller.check_integrity()
            assert set(self.controller.ledger.tickets) == set(self.open)

    def teardown(self) -> None:
        if not hasattr(self, "controller"):
            return
        for ticket in list(self.open):
            self.controller.close(ticket, self.now)
        ledger = self.controller.ledger
        assert ledger.idle
        assert (ledger.queued_prefill, ledger.queued_sequences) == (0, 0)
        assert (ledger.kv_tokens, ledger.charged, len(ledger.running)) == (0, 0, 0)


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
