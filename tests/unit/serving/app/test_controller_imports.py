"""What Serve's controller, one process for a whole cluster, imports of ours stays small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from forebay.serving.app.scaling_settings import autoscaling_config
from forebay.spec.service import ServiceSpec

MOST_LINES = 2_000
_LIST = (
    "import importlib, json, sys; importlib.import_module(sys.argv[1]);"
    "print(json.dumps({n: getattr(m, '__file__', None) for n, m in sys.modules.items()}))"
)


def test_the_controller_imports_little_of_ours_and_no_engine() -> None:
    spec = ServiceSpec.model_validate(
        {"name": "s", "model": {"id": "m", "source": "demo"}, "scaling": {"min": 1, "max": 2}}
    )
    module = autoscaling_config(spec)["policy"].policy_function.partition(":")[0]
    listed = subprocess.run(
        [sys.executable, "-c", _LIST, module], check=True, capture_output=True, text=True
    )
    files = json.loads(listed.stdout)
    ours = [file for name, file in files.items() if name.partition(".")[0] == "forebay"]
    lines = sum(len(Path(file).read_text().splitlines()) for file in ours)
    assert lines <= MOST_LINES, sorted(Path(file).name for file in ours)
    assert (
        not {"ray", "vllm", "torch", "forebay.spec", "forebay.serving.app.replica_process"}
        & files.keys()
    )
