"""The accelerators that a service file may name, as Ray spells them, and their memory.

The memory is what NVML (`nvidia-smi`) reports, not the round figure of the data sheet: an L4 is
sold as 24 GB and has 22.49 GiB. Where one name covers cards of two sizes the smaller one counts,
so that what passes the check also starts; `hardware.accelerator_memory` overrides the figure.
"""

_MIB = 2**20
_GIB = 2**30

MEMORY_BYTES: dict[str, int] = {
    # NVML totals collected by Modal: thundergolfer.com/blog/nvidia-gpu-memory-capacity
    "H200": 143_771 * _MIB,
    "H100": 81_559 * _MIB,
    "A100-80G": 81_920 * _MIB,
    "A100-40G": 40_960 * _MIB,
    "A100": 40_960 * _MIB,  # Ray gives this name to both sizes
    "L40S": 46_068 * _MIB,
    "L4": 23_034 * _MIB,
    "A10G": 23_028 * _MIB,  # NVML's total of the A10, the same 24 GB board
    "T4": 15_360 * _MIB,
    # cudaGetDeviceProperties on the card: github.com/pytorch/ao/pull/4002 (178.35 GiB)
    "B200": int(178.35 * _GIB),
    # NVIDIA's data sheets: H20 96 GB, RTX PRO 6000 Blackwell 96 GB, V100 16 or 32 GB
    "H20": 96 * _GIB,
    "RTX-PRO-6000": 96 * _GIB,
    "V100": 16 * _GIB,
}

# Names that Ray 2.60 schedules as the resource "GPU" and whose memory this table does not know:
# the fit check is skipped for them unless `hardware.accelerator_memory` is given.
_WITHOUT_MEMORY = (
    "GB200",
    "B300",
    "GB300",
    "P100",
    "P4",
    "K80",
    "Intel-GPU-Max-1550",
    "Intel-GPU-Max-1100",
    "AMD-Instinct-MI100",
    "AMD-Instinct-MI210",
    "AMD-Instinct-MI250X",
    "AMD-Instinct-MI250X-MI250",
    "AMD-Instinct-MI300A",
    "AMD-Instinct-MI300X-OAM",
    "AMD-Instinct-MI300X-HF",
    "AMD-Instinct-MI308X",
    "AMD-Instinct-MI325X-OAM",
    "AMD-Instinct-MI350X-OAM",
    "AMD-Instinct-MI355X-OAM",
    "AMD-Radeon-R9-200-HD-7900",
    "AMD-Radeon-HD-7900",
    "MXC500",
    "MXC550",
)

NAMES = ("cpu", *MEMORY_BYTES, *_WITHOUT_MEMORY)

# Compute capability below 8.0: neither bfloat16 nor weights quantized to fp8.
WITHOUT_FP8 = frozenset({"T4", "V100", "P100", "P4", "K80"})
