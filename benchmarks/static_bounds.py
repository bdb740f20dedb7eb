"""Forebay's unchanged demo file against every static bound that somebody might have set.

Five workloads, open loop, at 3 and 4 x capacity: short, long prompts, long outputs, a mix of the
three by equal numbers, and a shift from short to long prompts in mid-run. The rivals are vLLM's own
server behind HAProxy (`bounded_vllm.py`) with one bound each: requests in flight, and vLLM's
`max_num_queued_reqs` and `max_num_queued_tokens`, six values of each. Good is a request that
finished with its first token within 1 s; counted are those sent once the engine has filled up.
Whoever is let in and aborted has an endless TTFT. Both servers run all the time and are taken in
turn (`static_bounds_turns.py` says why, `static_bounds_verdict.py` what is asked of them).

  sweep    every bound on every workload for a short time; what earlier sweeps found is in
           runs/static_bounds_sweep.json, and is used where this part is left out
  rounds   Forebay and the best two bounds of each workload, known by hindsight, in turn
  retries  short requests at 3 x of clients that try again, as the official one does, and do not

Every comparison gets two rounds, and two more while its bar, that of the workload over both loads,
is undecided and there is time. (The interval is looked at after each two, so what it says at 95 %
each time is a little less sure.)
Exits 1 when a bar is missed; what is still undecided is said, and exits 0.

Run as: python benchmarks/static_bounds.py --capacity '{"short": 89, "long prompts": 10,
"long outputs": 15}' (as overload.py prints it) [--parts sweep,rounds,retries]
[--workloads "short,long prompts"] [--minutes 60]
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import systems
from static_bounds_offered import NAMES, Offer
from static_bounds_plan import Plan, Sweeps, asked, store, stored, sweep_name
from static_bounds_sweep import BOUNDS, ranked, sweep
from static_bounds_turns import FOREBAY, Contender, Match, figures
from static_bounds_verdict import is_undecided, judged, ratio_bars
from tables import exit_by_bars, print_bars, print_table, write

RIVAL = "bounded-vllm"
PORTS = {FOREBAY: 8000, RIVAL: 8100}
CLIENTS_ATTEMPTS = 3  # of the official client, by default


def main() -> None:
    began = time.monotonic()
    plan = asked(__doc__)
    plan.show()
    swept = stored()
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(systems.running(name, command, PORTS[name]))
            for name, command in commands(plan.parts).items()
        }
        systems.check_cores_alike(list(servers.values()))
        if "sweep" in plan.parts:
            systems.take_turn(servers[RIVAL], list(servers.values()))
            for offer in plan.readings:
                swept[sweep_name(offer)] = sweep(servers[RIVAL].url, offer, plan.bounds)
                if len(plan.bounds) == len(BOUNDS):  # a trial's are none to go by later
                    store(swept)
        matches = matched(plan, servers, swept)
        play(matches, list(servers.values()), plan.pairs, began + 60 * plan.minutes)
    report(plan, matches, swept)


# --- who takes part -------------------------------------------------------------------------------


def commands(parts: Sequence[str]) -> dict[str, list[str]]:
    """The servers that the parts need. The one that measures itself at its start is the last."""
    found = {}
    if "sweep" in parts or "rounds" in parts:
        found[RIVAL] = systems.bounded_vllm(PORTS[RIVAL])
    if "rounds" in parts or "retries" in parts:
        found[FOREBAY] = systems.forebay(PORTS[FOREBAY])
    return found


def matched(plan: Plan, servers: Mapping[str, systems.Server], swept: Sweeps) -> list[Match]:
    """Everything that is compared in rounds."""
    found = []
    if "rounds" in plan.parts:
        found += [against_best(offer, servers, swept) for offer in plan.offers]
    if "retries" in plan.parts:
        found.append(with_retries(plan.retried, servers[FOREBAY]))
    return found


def against_best(offer: Offer, servers: Mapping[str, systems.Server], swept: Sweeps) -> Match:
    """Forebay and the best two bounds, of a sweep at this factor or else at the usual one."""
    best = ranked(swept.get(sweep_name(offer), swept[offer.workload]))[:2]
    rivals = [Contender(str(bound), servers[RIVAL], bound) for bound in best]
    return Match(offer, [Contender(FOREBAY, servers[FOREBAY]), *rivals])


def with_retries(offer: Offer, server: systems.Server) -> Match:
    """Forebay with clients that try again, beside those that do not."""
    again = Contender(f"{FOREBAY}, with retries", server, attempts=CLIENTS_ATTEMPTS)
    once = Contender(f"{FOREBAY}, without", server)
    return Match(offer, [again, once])


def play(
    matches: Sequence[Match], servers: Sequence[systems.Server], pairs: int, ends_at: float
) -> None:
    """Two rounds of each, then two more at a time of those undecided, while there is time."""
    for again in range(pairs):
        for match in matches:
            late = time.monotonic() + match.pair_s > ends_at
            if again and (late or not is_undecided(match, matches)):
                continue
            match.play_pair(servers)
            show_ratios(match)


# --- what is told ---------------------------------------------------------------------------------


def show_ratios(match: Match) -> None:
    """Each round's ratios so far, and what they come to."""
    for bar, values in zip(ratio_bars(match), match.ratios().values(), strict=True):
        low, high = bar.interval or (0.0, 0.0)
        said = ", ".join(f"{value:.2f}" for value in values)
        sure = f"{low:.2f} to {high:.2f} at 95 % each"
        print(f"    {bar.name}: {said}; mean {bar.measured:.3f}, {sure}: {bar.verdict}", flush=True)


def report(plan: Plan, matches: Sequence[Match], swept: Sweeps) -> None:
    """The table, the bars, and the file."""
    rows = list(rows_of(matches))
    if rows:
        print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    bars = judged(matches, swept)
    print_bars(bars)
    part = "" if plan.names == list(NAMES) else "_" + "_".join(plan.names).replace(" ", "_")
    content = {
        "capacity": plan.capacity,
        "sweep": swept,
        "rows": rows,
        "turns": [turn.row() for match in matches for turn in match.turns],
        "bars": [bar.as_dict() for bar in bars],
    }
    write(f"static_bounds{part}", content)


def rows_of(matches: Sequence[Match]) -> Iterator[dict[str, Any]]:
    """One row a contender."""
    for match in matches:
        for contender in match.contenders:
            turns = match.of(contender)
            yield {"rounds": len(turns), **figures(turns)}


if __name__ == "__main__":
    exit_by_bars(main)
