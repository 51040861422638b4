"""``trainer=fsdp``: each process holds a part of every weight, and of what the optimizer remembers about it (FSDP2).

    process 0   [stem|stage1|stage2|head]  first half of each      stage1 is next: both halves to both processes,
    process 1   [stem|stage1|stage2|head]  second half             forward or backward, and the other's half is let go

Gradients are summed where the weights are, so that the optimizer moves parts only. Checkpoints hold whole tensors, as
those of one process do: any number of processes goes on from them, and one evaluates them.

Zhao et al. 2023, https://arxiv.org/abs/2304.11277; ``torch.distributed.fsdp.fully_shard``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from ft.model.stages import Stage


class Fsdp(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with the model cut into its stages and our checkpoints.

    The LightningModule calls ``shard`` in its ``configure_model``.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        # Left to itself Lightning would only divide between nodes, and use tensor parallelism within one.
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning asks ``load_optimizer_state_dict``, as for every other strategy."""
        return True

    def shard(self, model: Any) -> None:
        """Divides a model's parameters among the processes, a unit a stage; a model that is divided stays as it is.

        Args:
            model: Follows the model's protocol.
        """
        if isinstance(model, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]
        for stage in model.stages():
            if unit := list(outermost(model, stage)):
                fully_shard(unit, mesh=mesh, reshard_after_forward=True)
        # What belongs to no module of a stage (a ViT's class token). Let go too, or freezing would change the copy.
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
        model.register_forward_pre_hook(statistics_of_the_first)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's state with whole tensors, on the CPU.

        Not ``get_optimizer_state_dict``: it and its counterpart fail where some parameters have never had a gradient,
        as in stages that are still frozen.
        """
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        return tree_map(whole, optimizer.state_dict())

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        # Past ModelParallelStrategy's own, which refuses folders.
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        torch.cuda.empty_cache()
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        load_whole(self.lightning_module, checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(in_parts(state, optimizer))


def load_whole(module: nn.Module, state: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Loads whole tensors into a module, divided among processes or not.

    Args:
        module: Each process calls this with its own.
        state: The same in all of them.
        strict: Whether every tensor has to be there.
    """
    if any(isinstance(parameter, DTensor) for parameter in module.parameters()):
        # A tenth of a second that only these runs pay.
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        options = StateDictOptions(full_state_dict=True, strict=strict)
        set_model_state_dict(module, dict(state), options=options)
    else:
        module.load_state_dict(state, strict=strict)


def outermost(model: nn.Module, stage: Stage) -> Iterator[nn.Module]:
    """The modules that hold a stage's parameters, none of them inside another."""
    names = set(stage.modules)
    for name in stage.modules:
        module = model.get_submodule(name)
        if name.rpartition(".")[0] not in names and any(True for _ in module.parameters()):
            yield module


def statistics_of_the_first(model: nn.Module, args: Any) -> None:
    """Gives all processes the first one's running statistics, before each forward pass, as DDP does."""
    del args
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    both = [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var)]
    statistics = [tensor for tensor in both if tensor is not None]
    if not statistics:
        return
    # In one message, not in one for each layer.
    flat = torch.cat([tensor.flatten() for tensor in statistics])
    distributed.broadcast(flat, src=0)
    with torch.no_grad():
        for tensor, part in zip(statistics, flat.split([each.numel() for each in statistics]), strict=True):
            tensor.copy_(part.view_as(tensor))


def whole(value: Any) -> Any:
    """A tensor that is in parts, put together on the CPU; anything else as it is. All processes have to ask."""
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.detach().cpu() if isinstance(value, Tensor) else value


def in_parts(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's state with whole tensors, divided as its parameters are.

    Args:
        state: Of the same parameters in the same order.
        optimizer: Of parameters in parts.
    """
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parameter_of = dict(zip(numbers, parameters, strict=True))

    def part(value: Any, parameter: Tensor) -> Any:
        if not (isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape):
            return value
        mesh: DeviceMesh = parameter.device_mesh
        # Every process has read the checkpoint: nothing has to be sent.
        return distribute_tensor(value.to(parameter.device), mesh, parameter.placements, src_data_rank=None)

    divided = {
        number: {key: part(value, parameter_of[number]) for key, value in entry.items()}
        for number, entry in state["state"].items()
    }
    return {**state, "state": divided}
