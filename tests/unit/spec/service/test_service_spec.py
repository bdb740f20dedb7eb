import pytest
from pydantic import BaseModel, ValidationError

from forebay.spec.service import (
    ServiceSpec,
    field_docs,
    load_service_text,
    placement_bundles,
    starter_text,
    summarize,
)
from forebay.spec.service.accelerators import MEMORY_BYTES, NAMES
from forebay.spec.service.service_spec import (
    AdmissionSpec,
    ClassSpec,
    HardwareSpec,
    ModelSpec,
    ScalingSpec,
    ServerSpec,
    SloSpec,
)

MODELS = (
    ServiceSpec,
    ModelSpec,
    HardwareSpec,
    SloSpec,
    AdmissionSpec,
    ClassSpec,
    ScalingSpec,
    ServerSpec,
)


@pytest.mark.parametrize("model", MODELS)
def test_every_field_is_described_with_the_reason_for_its_default(model: type[BaseModel]) -> None:
    for name, info in model.model_fields.items():
        assert info.description, f"{model.__name__}.{name} has no description"
        assert info.description.endswith("."), f"{model.__name__}.{name}"
        explained = "Default" in info.description or info.is_required() or name in _SELF_EVIDENT
        assert explained, f"{model.__name__}.{name} does not say why its default"


_SELF_EVIDENT = ("engine", "classes")


def test_a_spec_cannot_be_changed() -> None:
    spec = load_service_text(starter_text())
    with pytest.raises(ValidationError, match="frozen"):
        spec.slo.ttft_p99 = 3.0


def test_the_starter_file_loads_and_holds_the_defaults() -> None:
    spec = load_service_text(starter_text())
    plain = ServiceSpec(
        name="my-service",
        model=ModelSpec(id="demo", source="demo", engine_args=spec.model.engine_args),
    )
    assert spec == plain


def test_the_starter_file_shows_every_field_with_its_description() -> None:
    text = " ".join(line.strip(" #") for line in starter_text().splitlines())
    for doc in field_docs():
        assert f"{doc.path[-1]}:" in text
        assert doc.description in text
    assert max(len(line) for line in starter_text().splitlines()) <= 100


def _service(hardware: str, args: str) -> ServiceSpec:
    source = "meta-llama/Llama-3.1-8B"
    return load_service_text(
        f"name: a\nmodel: {{id: a, source: {source}, engine_args: {args}}}\nhardware: {hardware}"
    )


def test_a_worker_on_an_accelerator_asks_for_that_kind_of_gpu() -> None:
    spec = _service("{accelerator: H100}", "{tensor_parallel_size: 2, pipeline_parallel_size: 2}")
    assert placement_bundles(spec) == [{"GPU": 1.0, "accelerator_type:H100": 0.001}] * 4


@pytest.mark.parametrize("name", ["A100", "A100-40G", "A100-80G"])
def test_both_sizes_of_an_a100_are_found_under_the_name_that_ray_gives_them(name: str) -> None:
    spec = _service(f"{{accelerator: {name}}}", "{}")
    assert placement_bundles(spec) == [{"GPU": 1.0, "accelerator_type:A100": 0.001}]


def test_a_worker_on_cpu_asks_for_its_cores() -> None:
    assert placement_bundles(_service("{cpus_per_replica: 4}", "{}")) == [{"CPU": 4.0}]


def test_the_summary_speaks_of_what_was_decided() -> None:
    summary = summarize(_service("{accelerator: A100-80G}", "{tensor_parallel_size: 2}"))
    assert summary["hardware"] == "2 x A100-80G (tensor 2 x pipeline 1)"
    assert summary["placement"] == "2 x (1 GPU + 0.001 accelerator_type:A100) per replica"
    assert summary["memory"].startswith("not checked: the size of meta-llama/Llama-3.1-8B")
    assert "interactive: weight 8, first token within 1s" in summary["admission"]


def test_every_accelerator_with_a_memory_can_be_named() -> None:
    assert set(MEMORY_BYTES) < set(NAMES)
    assert all(size % 2**20 == 0 or name == "B200" for name, size in MEMORY_BYTES.items())
