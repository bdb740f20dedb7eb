"""One short proof, at most 20 minutes on two cores: what this state does, and what another did.

Real vLLM with the demo model, started by `forebay serve` on the demo file with a tenants file
beside it, every request with a key:

- overhead: 64 clients in a closed loop and one, beside vLLM's own server;
- overload: three times the capacity, of short requests, long prompts and long outputs;
- neighbour: a tenant at a fifth of the capacity, alone and beside one that offers ten times it;
- fleet: two emulated replicas behind the router, at three times what they carry.

Everything is measured twice. With `--against` a commit is checked out beside this one, both take
turns (A B B A, A the commit) and each figure is called same, better or worse beyond noise
(`verdicts.py` has the rule). Both get the same files, the same load from this state's client, and
the same rates: what the first service of the run completed in a closed loop. CPU is of all the
processes of a service, Ray's and HAProxy's included, per request that was let in.

Needs a quiet machine. Exit code 0: nothing is worse; 1: something is; 2: wrong input; 3: it could
not be measured here.

Example: python benchmarks/prove.py --against HEAD~5 --only overhead --json runs/prove.json
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import systems
from forebay.serving.cluster import EnvironmentFailedError
from prove_figures import RAW, Found, Progress, State, fleet, raw_vllm, real
from tables import print_table
from verdicts import Compared, compared

PARTS = ("overhead", "overload", "neighbour", "fleet")


@dataclass(frozen=True)
class Kind:
    """A kind of figure: whether more of it is better, and the share of it that is always noise."""

    more_is_better: bool = False
    noise: float = 0.10


# By the last words of a figure's name.
KINDS = {
    "requests/s": Kind(more_is_better=True, noise=0.05),
    "good/s": Kind(more_is_better=True, noise=0.05),
    "goodput kept": Kind(more_is_better=True, noise=0.03),
    "CPU ms per admitted": Kind(noise=0.05),
    "TTFT p50 ms": Kind(),
    "TTFT p99 ms": Kind(),
    "refusal p99 ms": Kind(noise=0.25),
    "failed or no Retry-After": Kind(noise=0.0),
}


def main() -> int:
    options = parse()
    say = Progress()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
    try:
        with states(options.against) as (before, now):
            runs = measured([before, now, now, before] if before else [now, now], options.only, say)
    except KeyboardInterrupt:
        say("interrupted; everything is stopped")
        return 130
    except (RuntimeError, OSError, EnvironmentFailedError) as error:
        say(f"could not be measured here: {error}")
        return 3
    verdicts = judged(runs)
    report(runs, verdicts)
    if options.json:
        content = {
            "runs": [{"of": name, "figures": finite(found)} for name, found in runs],
            "verdicts": {name: asdict(verdict) for name, verdict in verdicts.items()},
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1))
    return int(any(verdict.verdict == "worse" for verdict in verdicts.values()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="COMMIT", help="take turns with this state")
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there too")
    options = parser.parse_args()
    options.only = options.only or PARTS
    if options.against:
        named = git("rev-parse", "--verify", "--quiet", f"{options.against}^{{commit}}")
        if named.returncode:
            parser.error(f"--against: git knows no commit {options.against!r}")
        options.against = named.stdout.strip()
    return options


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(systems.ROOT), *arguments], capture_output=True, text=True, check=False
    )


@contextmanager
def states(commit: str | None) -> Iterator[tuple[State | None, State]]:
    """The commit in a worktree of its own, if one is asked for, and this state.

    Raises:
        RuntimeError: git makes no worktree of it.
    """
    now = State("now", systems.ROOT)
    if commit is None:
        yield None, now
        return
    with tempfile.TemporaryDirectory(prefix="forebay-prove-") as folder:
        tree = Path(folder) / "tree"
        try:
            made = git("worktree", "add", "--detach", str(tree), commit)
            if made.returncode:
                raise RuntimeError(f"git makes no worktree of {commit}: {made.stderr.strip()}")
            yield State(commit[:10], tree), now
        finally:
            with systems.undisturbed():
                git("worktree", "remove", "--force", str(tree))


def measured(
    order: Sequence[State], parts: Sequence[str], say: Progress
) -> list[tuple[str, Found]]:
    """The figures of each state, as often as it is in the order; vLLM's own in the middle."""
    runs: list[tuple[str, Found]] = []
    rates: dict[str, float] = {}
    for number, state in enumerate(order):
        if number == len(order) // 2 and "overhead" in parts:
            raw = raw_vllm(say)
        found: Found = {}
        say(f"run {number + 1} of {len(order)}: {state.name}")
        if set(parts) - {"fleet"}:
            found |= real(state, parts, rates, say)
        if "fleet" in parts:
            found |= fleet(state, say)
        runs.append((state.name, found))
    return [*runs, (RAW, raw)] if "overhead" in parts else runs


def judged(runs: Sequence[tuple[str, Found]]) -> dict[str, Compared]:
    """The verdict on each figure; none where one state was measured alone."""
    before = [found for name, found in runs if name not in ("now", RAW)]
    now = [found for name, found in runs if name == "now"]
    return {
        figure: compared(
            [found[figure] for found in before],
            [found[figure] for found in now],
            at_least=kind.noise,
            more_is_better=kind.more_is_better,
        )
        for figure, kind in ((name, KINDS[name.split(": ")[1]]) for name in now[0])
        if before
    }


def finite(found: Found) -> dict[str, float | None]:
    """For JSON, which knows nothing endless."""
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def report(runs: Sequence[tuple[str, Found]], verdicts: Mapping[str, Compared]) -> None:
    """One table: each figure run by run, and what is said of it."""
    head = ["figure", *(name for name, _ in runs), *(["change", "noise", ""] if verdicts else [])]
    rows = []
    for figure in runs[0][1]:
        row: list[object] = [figure, *(found.get(figure, "") for _, found in runs)]
        if verdict := verdicts.get(figure):
            shares = (verdict.change, verdict.noise)
            row += ["-" if share is None else f"{share:+.1%}" for share in shares]
            row.append(verdict.verdict)
        rows.append(row)
    print_table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
