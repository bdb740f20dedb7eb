"""The `hardware` section: what one replica runs on."""

from pydantic import Field, ValidationInfo, field_validator

from forebay.spec.files import GIB, Bytes, Strict, did_you_mean, refusal
from forebay.spec.service import accelerators

_ACCELERATOR_HINT = "write cpu, or a name such as H100, A100-80G, L40S, L4, A10G or T4"


class HardwareSpec(Strict):
    """What one replica runs on."""

    accelerator: str = Field(
        default="cpu",
        min_length=1,
        description="`cpu`, or an accelerator as Ray names it: `H100`, `L4`, `A10G` ...; of an "
        "A100 also its size, `A100-80G` or `A100-40G`, which says what fits, while Ray knows both "
        "as `A100`: a cluster has one of them. Default `cpu`: it runs on any machine.",
    )
    cpus_per_replica: float = Field(
        default=1.0,
        gt=0,
        description="CPU cores that each of a replica's workers computes with on `cpu`, and "
        "that Ray sets aside for it. Default 1: two replicas then fit a 2-core machine; where "
        "there are more cores, give the model all but one or two. For an emulated replica a "
        "hundredth is set aside unless this is written: it computes nothing.",
    )
    memory_per_replica: Bytes | None = Field(
        default=None,
        gt=0,
        examples=["4GiB"],
        description="Host memory that must be free for each replica before the service starts, on "
        "this machine; of a cluster's nodes nobody asks. Default: on `cpu` and of emulated "
        "replicas derived from the model and the KV cache; else none.",
    )
    kv_cache: Bytes | None = Field(
        default=None,
        gt=0,
        validate_default=True,
        examples=["1GiB"],
        description="Host memory for the KV cache of each worker, on `cpu` only (on accelerators "
        "vLLM takes what `gpu_memory_utilization` leaves). Default on `cpu` 1GiB: 400,000 "
        "tokens of the demo model, and little enough for a laptop.",
    )
    accelerator_memory: Bytes | None = Field(
        default=None,
        gt=0,
        examples=["80GiB"],
        description="Memory of one accelerator, where Forebay does not know it or one name covers "
        "two sizes (`A100`). Default: what `nvidia-smi` shows for this accelerator.",
    )

    @field_validator("accelerator")
    @classmethod
    def _accelerator_is_known(cls, name: str) -> str:
        if name in accelerators.NAMES:
            return name
        hint = did_you_mean(name, accelerators.NAMES)
        raise refusal(f"{name} is not cpu or a GPU that Ray knows", hint or _ACCELERATOR_HINT)

    @field_validator("kv_cache")
    @classmethod
    def _kv_cache_is_for_cpu(cls, size: int | None, info: ValidationInfo) -> int | None:
        if info.data.get("accelerator") == "cpu":
            return GIB if size is None else size
        if size is not None and "accelerator" in info.data:
            raise refusal(
                "is for accelerator: cpu only",
                "remove it; engine_args.gpu_memory_utilization bounds the KV cache here",
            )
        return size

    @property
    def is_cpu(self) -> bool:
        """Whether the replicas run on CPU cores alone."""
        return self.accelerator == "cpu"
