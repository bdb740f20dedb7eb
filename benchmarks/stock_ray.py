"""Ray Serve LLM with direct streaming and nothing of Forebay's: the comparison.

Run as: python benchmarks/stock_ray.py FILE PORT
"""

from __future__ import annotations

import sys
from pathlib import Path

from stock_serve import serve_until_stopped


def main() -> None:
    serve_until_stopped(int(sys.argv[2]), lambda: deploy(Path(sys.argv[1])))


def deploy(file: Path) -> None:
    """Run the model of a service file."""
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    from forebay.serving.app import engine_dtype
    from forebay.spec.service import load_service

    spec = load_service(file)
    config = LLMConfig(
        model_loading_config={
            "model_id": spec.model.id,
            "model_source": str(spec.model.source_path),
        },
        accelerator_config={"kind": "cpu"},
        placement_group_config={"bundles": [{"CPU": 1}]},
        engine_kwargs={
            **spec.model.engine_args,
            "dtype": engine_dtype(spec),
            "kv_cache_memory_bytes": spec.hardware.kv_cache,
            "disable_log_stats": True,  # as Forebay sets it
        },
        log_engine_metrics=False,
        deployment_config={"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
    )
    serve.run(build_openai_app({"llm_configs": [config]}))


if __name__ == "__main__":
    main()
