"""Ray Serve LLM with direct streaming and nothing of Forebay's: the comparison.

Run as: python benchmarks/stock_ray.py FILE PORT
"""

from __future__ import annotations

import os
import signal
import sys
import time


def main() -> None:
    os.environ.update(
        {
            "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
            "RAY_SERVE_INGRESS_REQUEST_ROUTER_FORWARD_BODY": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
    )
    import ray
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    from forebay.serving import processes
    from forebay.serving.dtypes import engine_dtype
    from forebay.spec.loading import load_service

    spec = load_service(sys.argv[1])
    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ray.init(include_dashboard=False, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
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
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        pass
    finally:
        ray.shutdown()
        processes.end_descendants(set(), patience_s=3)


if __name__ == "__main__":
    main()
