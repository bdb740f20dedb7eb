"""What is quick to start stays quick: commands, and what is imported before a service runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ENGINES = {"ray", "vllm", "torch", "transformers", "fastapi"}
ARRAYS = {"numpy", "uvloop", "pydantic"}


def called(*args: str) -> str:
    """A command as a user calls it, up to its end."""
    return (
        "import sys\nfrom forebay.cli.main import main\n"
        f"sys.argv = ['forebay', *{args!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (called("--help"), ENGINES),
        (called("check", "none.yaml"), ENGINES),
        (called("keys", "create", "shop"), ENGINES | {"numpy", "rich", "pyarrow"}),
        ("import forebay.cli.record", ARRAYS | {"rich.table"}),
        ("import forebay.cli.mock", ARRAYS | {"httptools", "asyncio"}),
        ("import forebay.engine_model.replica_model, forebay.engine_model.profiles",
         ENGINES | {"numpy"}),
    ],
)  # fmt: skip
def test_nothing_heavy_is_loaded_before_it_is_needed(
    tmp_path: Path, code: str, heavy: set[str]
) -> None:
    code += f"\nimport sys\nprint('loaded', sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded []", done.stdout
