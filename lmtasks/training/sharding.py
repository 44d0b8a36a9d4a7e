"""FSDP2: each process keeps its part of the parameters, gradients and optimiser states (`--trainer.strategy fsdp2`).

Rajbhandari et al. 2020 (ZeRO, arXiv:1910.02054), section 5; Zhao et al. 2023 (arXiv:2304.11277). Parameters are
gathered when a step first uses them, and stay whole until its backward pass has ended: a search, which asks a decoder
as often as a text has tokens, then needs no other process. A checkpoint is one file with whole tensors, as any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

# the methods that use parameters; forward is never called
CALLED = ("encode", "decode", "logits", "loss", "init_state", "step", "alignment", "predict")


def sharding(processes: int) -> ModelParallelStrategy:
    """Return the strategy of Lightning that trains so on all processes."""
    return ModelParallelStrategy(processes, tensor_parallel_size=1, save_distributed_checkpoint=False)


def shards(strategy: Any) -> bool:
    """Tell whether a strategy is one that `sharding` returns."""
    parallel = isinstance(strategy, ModelParallelStrategy)
    return parallel and strategy._tensor_parallel_size == 1 and not strategy._save_distributed_checkpoint


def shard(parts: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Leave of each module, backbone and heads, the part of this process."""
    for part in parts:
        if next(part.parameters(), None) is not None and not is_sharded(part):
            fully_shard(part, mesh=mesh, reshard_after_forward=False)
            for name in filter(lambda name: hasattr(part, name), CALLED):
                register_fsdp_forward_method(part, name)


def is_sharded(module: nn.Module) -> bool:
    """Tell whether this process has a part of a module only."""
    return isinstance(module, FSDPModule)
