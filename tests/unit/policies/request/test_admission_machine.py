"""Admission under arbitrary histories: what must hold after every step, whatever happens."""

from __future__ import annotations

from collections.abc import Iterable

from admissions import admission_config
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from forebay.policies.admission import AdmissionController
from forebay.policies.request import (
    BATCH,
    INTERACTIVE,
    Admitted,
    CostModel,
    RequestShape,
    Sequence,
    Shed,
    StepOutput,
    Ticket,
    prompt_chunks,
)

CONTEXT = 4096
BOUND = 20_000
TENANTS = st.sampled_from(["", "a", "b", "c"])
CLASSES = st.sampled_from([INTERACTIVE, BATCH])


class AdmissionMachine(RuleBasedStateMachine):
    """Random clients of several tenants and a random engine around one controller."""

    @initialize(
        slots=st.integers(1, 8),
        jitter=st.floats(0, 0.999),
        tpot_s=st.sampled_from([None, 0.1]),
        steps_known=st.booleans(),
    )
    def start(self, slots: int, jitter: float, tpot_s: float | None, *, steps_known: bool) -> None:
        config = admission_config(
            slots=slots,
            kv_tokens=20_000,
            step_tokens=512,
            tpot_s=tpot_s,
            max_queued_tokens=BOUND,
        )
        self.now = 0.0
        self.controller = AdmissionController(config, CostModel(CONTEXT, 64), lambda: jitter)
        self.controller.paces.prefill_rate.seed(10_000.0, 5.0)
        self.open: list[Ticket] = []
        if steps_known:  # so that very long prompts give way
            law = self.controller.paces.law
            law.base_s, law.per_sequence_s, law.per_token_s = 0.02, 0.0001, 0.0001
        # Tags of the last that entered, by flow, and of those that give way apart.
        self.entered: dict[tuple[str, str, bool], int] = {}
        self.last_tag: dict[tuple[str, str], int] = {}

    def in_engine(self) -> list[Ticket]:
        return [ticket for ticket in self.open if not ticket.held]

    def sequences(self, *states: str) -> list[Sequence]:
        return [s for t in self.in_engine() for s in t.sequences if s.state in states]

    def released(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            self.goes_to_the_engine(ticket)

    def goes_to_the_engine(self, ticket: Ticket) -> None:
        """A held ticket does: in turn, and into slots that batch may have."""
        assert not ticket.closed
        line = (*ticket.flow, ticket.steps_aside)
        assert ticket.tag >= self.entered.get(line, 0), "not in turn"
        self.entered[line] = ticket.tag
        if ticket.class_name != BATCH:
            return
        totals = self.controller.ledger.totals[BATCH]
        batch = totals.sequences - totals.held + totals.running
        if batch > sum(s.state != "ended" for s in ticket.sequences):  # it is not the only one
            assert batch < self.controller.config.slots, "batch has taken every slot"

    def waits_s(self) -> dict[Ticket, float]:
        """How long each that waits has to, by what is queued now: by tag, equal ones by arrival."""
        rate, waits, tokens = self.controller.paces.prefill_rate.rate, dict[Ticket, float](), 0
        queued = [s for t in self.open for s in t.sequences if s.state == "queued" and rate]
        for s in sorted(queued, key=lambda s: (s.ticket.tag, s.ticket.due_at, s.prefill)):
            tokens += s.prefill
            waits[s.ticket] = tokens / rate
        return waits

    @rule(seconds=st.one_of(st.floats(0.001, 3.0), st.sampled_from([0.0, 700.0, 1e5])))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if seconds > 100.0:  # longer than any deadline: nobody waits still, flows may begin anew
            for ticket in self.open:
                self.released(self.controller.close(ticket, self.now))
            self.open.clear()
            self.last_tag.clear()
            self.entered.clear()

    @rule(weights=st.dictionaries(st.sampled_from("abc"), st.sampled_from([0.1, 1.0, 30.0])))
    def weights_change(self, weights: dict[str, float]) -> None:
        self.controller.fair.set_weights(weights)

    @rule(tenant=TENANTS, class_name=CLASSES, tokens=st.floats(0, 1e5))
    def served_elsewhere(self, tenant: str, class_name: str, tokens: float) -> None:
        self.controller.fair.served_elsewhere(class_name, {tenant: tokens}, 3 * tokens, self.now)

    @rule(
        ids=st.integers(1, CONTEXT),
        prompts=st.integers(1, 3),
        samples=st.integers(1, 3),
        cap=st.one_of(st.none(), st.integers(1, CONTEXT)),
        cached=st.sampled_from([0, 0, 100, CONTEXT]),
        class_name=CLASSES,
        tenant=TENANTS,
    )
    def arrive(
        self,
        ids: int,
        prompts: int,
        samples: int,
        cap: int | None,
        cached: int,
        class_name: str,
        tenant: str,
    ) -> None:
        controller, ledger = self.controller, self.controller.ledger
        was_idle, queued, before = ledger.idle, ledger.queued_prefill, self.waits_s()
        shape = RequestShape(0, ids, prompts, samples, cap, cached_tokens=cached)
        cost = controller.costs.price(shape)
        due = controller.fair.preview(tenant, class_name, self.now)
        decision = controller.decide(cost, class_name, self.now, tenant)
        if isinstance(decision, Shed):
            passed = controller.waits.own.long.parts(cost)  # by those who come while it is computed
            assert not was_idle or passed, "an idle replica refused"
            assert decision.retry_after_s > 0
            assert ledger.queued_prefill == queued, "a refusal left something behind"
            assert controller.fair.preview(tenant, class_name, self.now) == due, (
                "a refusal was charged"
            )
            return
        assert isinstance(decision, Admitted)
        ticket = decision.ticket
        self.released(one for one in decision.released if one is not ticket or class_name == BATCH)
        assert decision.predicted_s >= 0
        assert ticket.tag == due, "the place that was predicted is not the one that was given"
        bounded = ledger.queued_prefill if class_name == BATCH else ledger.engine_prefill
        assert was_idle or bounded <= BOUND
        assert len(ticket.sequences) == max(prompts * samples, 1)
        self._goes_behind_its_own(ticket)
        self.open.append(ticket)
        self._breaks_no_promise(ticket, before)

    @rule(
        asks=st.lists(
            st.tuples(TENANTS, st.sampled_from([500, 1_500, 2_500])), min_size=3, max_size=10
        )
    )
    def burst(self, asks: list[tuple[str, int]]) -> None:
        """Several tenants at once: the first ones are given tags ahead of virtual time."""
        for tenant, prompt in asks:
            self.arrive(prompt, 1, 1, 1, 0, INTERACTIVE, tenant)

    def _goes_behind_its_own(self, ticket: Ticket) -> None:
        flow = ticket.tenant, ticket.class_name
        assert ticket.tag >= self.last_tag.get(flow, 0), "a flow has overtaken itself"
        self.last_tag[flow] = ticket.tag

    def _breaks_no_promise(self, newcomer: Ticket, before: dict[Ticket, float]) -> None:
        """Who waits behind a newcomer is in time still, if it was without it."""
        if self.controller.paces.law.known:
            return  # it knows how far the engine is, and nothing here does
        for ticket, wait_s in self.waits_s().items():
            left_s = ticket.due_at - self.now
            if ticket.tag > newcomer.tag and before[ticket] <= left_s:
                assert wait_s <= left_s + 1e-9, "an arrival has broken a promise"

    @precondition(lambda self: self.in_engine())
    @rule(
        data=st.data(),
        prompt=st.integers(1, CONTEXT),
        cap=st.integers(1, CONTEXT),
        shared=st.sampled_from([0, 300, CONTEXT]),
    )
    def engine_receives(self, data: st.DataObject, prompt: int, cap: int, shared: int) -> None:
        ticket = data.draw(st.sampled_from(self.in_engine()))
        tokens = [0] * min(shared, prompt) + [1] * max(prompt - shared, 0)
        sequence = self.controller.bind(ticket, prompt, cap, prompt_chunks(tokens, ticket.tenant))
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
        self.released(self.controller.observe_step(outputs, self.now, self.now))
        for sequence in moving:
            assert sequence.state == ("ended" if ends else "running")

    @precondition(lambda self: self.sequences("queued", "running"))
    @rule(data=st.data())
    def stop_string(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences("queued", "running")))
        self.released(self.controller.end(sequence, natural=True, now=self.now))
        self.released(self.controller.observe_step([StepOutput(sequence, 1)], self.now, self.now))
        assert sequence.state == "ended"

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def request_ends(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.open))
        self.open.remove(ticket)
        self.released(self.controller.close(ticket, self.now))
        due = self.controller.fair.preview(ticket.tenant, ticket.class_name)
        self.controller.close(ticket, self.now)
        assert self.controller.fair.preview(ticket.tenant, ticket.class_name) == due
        assert all(s.state == "ended" for s in ticket.sequences)

    @invariant()
    def totals_hold(self) -> None:
        if hasattr(self, "controller"):
            self.controller.check_integrity()
            assert set(self.controller.ledger.tickets) == set(self.open)
            assert self.controller.room.pace.sequences >= 1.0

    def teardown(self) -> None:
        if not hasattr(self, "controller"):
            return
        for ticket in list(self.open):
            self.controller.close(ticket, self.now)
        ledger = self.controller.ledger
        assert not ledger.tickets
        assert not len(self.controller.pacing.held)
        assert (ledger.queued_prefill, ledger.queued_sequences) == (0, 0)
        assert (ledger.kv_tokens, ledger.kv_held, len(ledger.running)) == (0, 0, 0)
        assert all(one.running == 0 for one in ledger.totals.values())


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(stateful_step_count=40)
