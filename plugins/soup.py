"""Greedy soup: at the end, the best epochs' weights are averaged as long as the validation metric does not fall.

    soup = [best];  for each of the next best: keep it in the mean if the metric is not worse with it

From Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, algorithm 1, with the epochs of one run as ingredients.
BatchNorm's statistics are averaged like weights. Turn on with ``plugins=[soup]``.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import Trainer
from safetensors.torch import load_file, save_file
from torch import Tensor

from ft import FineTuner, Plugin
from ft.checkpoint.greedy import greedy, mean_weights
from ft.checkpoint.keep import KeepCheckpoints
from ft.checkpoint.manifest import describe
from ft.data.module import DataModule
from ft.errors import require


class Soup(Plugin):
    """Keeps the weights of the best epochs in ``soup/`` in the run folder, and averages them when training ends.

    Args:
        keep: Epochs that are candidates, at least 1; 1 makes no soup.

    Raises:
        UserError: ``keep`` is below 1.
    """

    exclusive = frozenset({"averages the weights"})
    needs_whole_weights = True
    neutral: ClassVar = {"keep": 1}

    def __init__(self, *, keep: int) -> None:
        require(keep >= 1, "plugins.soup.keep", "must be at least 1", keep)
        self.keep = keep
        self.values: dict[int, float] = {}
        self.written: dict[int, dict[str, Any]] = {}
        self.sign = 1.0
        self.data: DataModule | None = None

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        self.sign = 1.0 if module.task.mode == "max" else -1.0
        self.data = data

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        value = trainer.callback_metrics.get(pl_module.task.metric)
        validated = pl_module.validated_at == trainer.global_step
        if self.keep == 1 or not validated or value is None or not value.isfinite():
            return
        self.values[trainer.current_epoch] = float(value)
        self._write(trainer, trainer.current_epoch, pl_module.model.state_dict())
        for epoch in self._best_first()[self.keep :]:
            del self.values[epoch]
            self.written.pop(epoch, None)
            if trainer.is_global_zero:
                self._file(trainer, epoch).unlink(missing_ok=True)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if len(self.values) < 2:
            return
        trainer.strategy.barrier()
        trained = {name: value.detach().clone() for name, value in pl_module.model.state_dict().items()}
        candidates = trainer.strategy.broadcast(self._sound(trainer))
        if len(candidates) < 2:
            return
        states = {epoch: load_file(self._file(trainer, epoch)) for epoch in candidates}
        scores: dict[tuple[int, ...], dict[str, float]] = {}

        def score(epochs: Sequence[int]) -> float:
            assert self.data is not None
            pl_module.model.load_state_dict(mean_weights([states[epoch] for epoch in epochs]))
            # As many batches as the epochs were validated on.
            batches = islice(self.data.evaluation_loader("val"), int(trainer.num_val_batches[0]))
            scores[tuple(epochs)] = pl_module.score(batches)
            return self.sign * scores[tuple(epochs)][pl_module.task.metric]

        chosen = greedy(candidates, score)
        if trainer.is_global_zero:
            print(f"{self.name}: the mean of epochs {', '.join(str(epoch + 1) for epoch in sorted(chosen))}")
        if len(chosen) > 1:
            score(chosen)
            keeper: Any = trainer.checkpoint_callback
            assert isinstance(keeper, KeepCheckpoints)
            keeper.offer(trainer, scores[tuple(chosen)], epoch=max(chosen))
        pl_module.model.load_state_dict(trained)

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "written": self.written}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values = dict(state_dict["values"])
        self.written = dict(state_dict.get("written", {}))  # checkpoints of before it was kept have none

    def _best_first(self) -> list[int]:
        return sorted(self.values, key=lambda epoch: (-self.sign * self.values[epoch], -epoch))

    def _sound(self, trainer: Trainer) -> list[int]:
        """The candidates, best first, whose files are what was written; the others are named."""
        sound = []
        for epoch in self._best_first():
            file, wanted = self._file(trainer, epoch), self.written.get(epoch)
            if file.is_file() and wanted in (None, describe(file)):
                sound.append(epoch)
            elif trainer.is_global_zero:
                print(f"{self.name}: {file} is damaged or missing, and epoch {epoch + 1} is left out")
        return sound

    def _write(self, trainer: Trainer, epoch: int, state: Mapping[str, Tensor]) -> None:
        if trainer.is_global_zero:
            file = self._file(trainer, epoch)
            file.parent.mkdir(exist_ok=True)
            save_file({name: value.detach().contiguous() for name, value in state.items()}, file)
            self.written[epoch] = describe(file)

    def _file(self, trainer: Trainer, epoch: int) -> Path:
        # Under torchrun every process has made up its own folder; the first one's is the run's.
        folder = trainer.strategy.broadcast(trainer.default_root_dir) if trainer.world_size > 1 else None
        return Path(folder or trainer.default_root_dir) / "soup" / f"epoch_{epoch}.safetensors"
