"""The machine: trainer settings that depend on it, what it is in words, and the memory that was needed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lmtasks.errors import InputError
from lmtasks.story import count
from lmtasks.tasks.base import Task
from lmtasks.training.sharding import sharding

NO_MEMORY = ("out of memory", "can't allocate memory", "alloc_failed")  # in the errors of torch, from any device
logger = logging.getLogger(__name__)


def strategy(settings: Any, tasks: Collection[Task]) -> Any:
    """Return the strategy of the config, or the right one for several processes if it is auto.

    Raises: InputError if it spawns processes: they end with training, and with them the tokenizer and the layers.
    """
    if "spawn" in str(settings.strategy):
        raise InputError(
            f"trainer.strategy is {settings.strategy}, whose processes end with training and take the model with them; "
            "use ddp"
        )
    if settings.strategy == "fsdp2":
        return sharding(_devices(settings) * settings.num_nodes)
    chosen = "ddp" if settings.strategy == "auto" and _devices(settings) * settings.num_nodes > 1 else settings.strategy
    # a step leaves out the heads of some tasks, or the decoder; ddp would wait for their gradients for ever
    leaves_out = len(tasks) > 1 or not all(task.generates for task in tasks)
    return f"{chosen}_find_unused_parameters_true" if leaves_out and chosen in ("ddp", "ddp_fork") else chosen


def precision(settings: Any) -> Any:
    """Return the precision of the config, or 32-true for bf16-mixed on a CPU that can only emulate it.

    bf16-mixed is chosen for its speed, which such a CPU does not have; float32 is the more exact of the two.
    """
    on_cpu = settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.accelerator.is_available())
    if settings.precision != "bf16-mixed" or not (on_cpu and _emulates_bfloat16()):
        return settings.precision
    line = "precision: 32-true, because bf16-mixed is slow on this processor, which has no bfloat16 instructions"
    rank_zero_only(logger.info)(line)
    return "32-true"


def machine(device: torch.device, processes: int) -> str:
    """Return what a training runs on, in words."""
    if device.type == "cpu":
        threads = count(torch.get_num_threads(), "thread")
        return f"a CPU with {threads}" if processes == 1 else f"CPUs, in {processes} processes with {threads} each"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"a GPU ({name})" if processes == 1 else f"{processes} GPUs ({name})"


def peak_memory() -> int:
    """Return the largest memory of this process so far, on a GPU that of its tensors, in bytes; 0 = not known."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory has run out, on a GPU or a CPU."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(map(told.__contains__, NO_MEMORY))
    )


def _emulates_bfloat16() -> bool:
    """Tell whether this is an x86 processor without bfloat16 instructions; other processors keep the setting."""
    x86 = torch.backends.cpu.get_cpu_capability() in ("NO AVX", "AVX2", "AVX512")
    return x86 and not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _devices(settings: Any) -> int:
    """Return how many processes the trainer will start on this machine."""
    devices = settings.devices
    if isinstance(devices, str) and "," in devices:
        devices = [number for number in devices.split(",") if number.strip()]
    if isinstance(devices, list):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        wants_gpu = settings.accelerator in ("auto", "gpu", "cuda")
        return max(1, torch.cuda.device_count()) if wants_gpu else 1
    return int(devices)
