import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_reference_pages_are_what_the_models_say() -> None:
    tool = ROOT / "tools/gen_reference.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, check=False)
    assert done.returncode == 0, "docs/reference/ is stale; run tools/gen_reference.py"
