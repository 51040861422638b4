"""FineTuner: one model, one task, one optimizer, any plugins, as a LightningModule."""

import math
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from ft.checkpoint.fsdp import Fsdp
from ft.data.bad_images import BadImages
from ft.data.batch import Batch
from ft.data.module import DataModule
from ft.data.randomness import derive_seed, seed_global_generators
from ft.data.transforms import normalize
from ft.data.whole_set import WholeSet
from ft.faults.finite import refuse_unfinite
from ft.faults.memory import Pieces
from ft.faults.statistics import Statistics
from ft.inference.predictions import Collector
from ft.optim.full_batch import l2_terms
from ft.optim.groups import default_groups, one_group
from ft.optim.options import OptimizerOptions, ScheduleOptions
from ft.phases.apply import apply, keep_frozen_in_eval, pretrained_statistics
from ft.phases.head_init import init_head, keep_untrained, offer_untrained
from ft.phases.outlook import Outlook
from ft.phases.plan import Phase, boundary
from ft.phases.prefix_cache import PrefixCache
from ft.phases.rates import Rates, recompute_rates
from ft.phases.recipe import Recipe
from ft.phases.train_batch import changed
from ft.phases.whole_set import WholeSetInputs
from ft.phases.worth import Score, is_enough
from ft.plugin import Plugin, fold
from ft.tasks.task import Task


class FineTuner(LightningModule):
    """What happens in a step; ``ft.plugin`` shows the loop around it.

    Args:
        model: Follows the model's protocol: ``forward``, ``stages``, ``split``, ``input_spec``.
        task: Targets, loss and metrics.
        optimizer: How weights move.
        schedule: How their rates move.
        plugins: Folded in this order.
        recipe: What trains when, before the plugins have their say.
        cache: What frozen stages have computed once.
        bad_images: Told of every image that could not be decoded.
        seed: Of everything random in a step.

    Attributes:
        phase: What trains now; ``None`` before training.
        outlook: What trains in the epochs to come.
        watched: The task's metric after every validation so far.
        scores: What validation has said after each epoch that was validated; -1 is before the first step.
        collector: What the weights say of the images that are being tested or predicted.
        validated_at: The optimizer step after which these weights were last validated.
        highest_rate: Learning rate of the open stage that moves fastest, as the epoch began.
        repeating: Set by a plugin that computes a batch once more (SAM): nothing is logged then.
        pieces: How a batch goes through where it does not fit.
        statistics: Running statistics as they were before the current optimizer step.
        rate_scale: What every learning rate is multiplied with.
        step_left_out: Whether the optimizer step that was made last has changed nothing (``on_nan=skip``).
        leaves_out: Whether such steps are: their loss is then not part of the epoch's.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        *,
        optimizer: OptimizerOptions,
        schedule: ScheduleOptions,
        plugins: list[Plugin],
        recipe: Recipe,
        cache: PrefixCache,
        bad_images: BadImages,
        seed: int,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.task = task
        self.optimizer_options = optimizer
        self.schedule = schedule
        self.plugins = plugins
        self.recipe = recipe
        self.cache = cache
        self.bad_images = bad_images
        self.seed = seed
        self.outlook = Outlook(recipe, plugins, model)
        self.stage_names = self.outlook.stage_names
        self.phase: Phase | None = None
        self.metrics: Any = nn.ModuleDict(
            {"val": task.metrics(), "test": task.metrics(), "classes": task.class_metrics()}
        )
        self.class_results: dict[str, Tensor] = {}
        self.collector = Collector()
        self.watched: list[float] = []
        self.scores: dict[int, Score] = {}
        self.validated_at = -1
        self.highest_rate = 0.0
        self.repeating = False
        self.pieces = Pieces(None, lambda size: None)
        self.statistics = Statistics()
        self.rate_scale = 1.0
        self.step_left_out = False
        self.leaves_out = False
        self.train_loss = task.loss
        self._l2: list[tuple[float, list[Tensor]]] = []
        self._whole_set = WholeSetInputs(model, self._prepare)
        self.automatic_optimization = not optimizer.full_batch

    def setup(self, stage: str) -> None:
        self.train_loss = fold(self.plugins, "train_loss", self.task.loss)

    def configure_model(self) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, Fsdp):
            strategy.shard(self.model)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        options = self.optimizer_options
        groups = default_groups(
            dict(self.model.named_parameters()),
            [(stage.name, stage.parameters) for stage in self.model.stages()],
            lr=options.lr,
            weight_decay=options.weight_decay,
            layer_decay=options.layer_decay,
            head_lr_scale=options.head_lr_scale,
        )
        groups = fold(self.plugins, "param_groups", groups, self.model)
        if options.full_batch:
            self._l2 = l2_terms(groups)
            groups = [{**group, "weight_decay": 0.0} for group in groups]
        if options.single_group:
            groups = one_group(groups, name=options.name)
        optimizer = options.make(groups)

        self.trainer.fit_loop.setup_data()  # the number of batches is unknown before
        rates = Rates(
            self.recipe,
            self.schedule,
            self.plugins,
            self.stage_names,
            total_steps=float(self.trainer.estimated_stepping_batches),
            per_epoch=math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches),
            mode=self.task.mode,
            watched=self.watched,
            scale=lambda: self.rate_scale,
        )
        scheduler = LambdaLR(optimizer, [partial(rates.factor, group=group) for group in groups])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        data = self._data
        data.instead = partial(self.cache.source, module=self)
        computed = self.recipe.computes_head and self.global_step == 0
        if computed and not self.recipe.head_ready:
            init_head(self, data, later=self._boundaries(0))
        if computed and "val" in data.splits:
            # Plain views are enough to score it: the others are computed once it is on disk.
            self._begin_epoch(only_plain=True)
            offer_untrained(self)
        self._begin_epoch()
        if not self.recipe.trains:
            keep_untrained(self)
            self.trainer.should_stop = True
        self._end_if_enough(self.current_epoch)

    def on_train_epoch_start(self) -> None:
        self._begin_epoch()

    def _begin_epoch(self, *, only_plain: bool = False) -> None:
        epoch = self.current_epoch
        self.enter(self.phase_at(epoch))
        for plugin in self.plugins:
            plugin.begin_epoch(epoch, self)
        assert self.phase is not None
        planned, _ = self.recipe.at(epoch)
        views = 1 if only_plain and planned.views else planned.views
        self.cache.enter(self, self._data, self.phase, views, self._boundaries(epoch + 1))
        self.cache.release()
        scheduler: Any = self.lr_schedulers()
        recompute_rates(scheduler)
        opened = [group["lr"] for group in scheduler.optimizer.param_groups if self._trains(group["stage"])]
        self.highest_rate = max(opened, default=0.0)

    def _trains(self, stage: str) -> bool:
        """Whether a parameter group is open; groups that are no stage's own always are."""
        return self.phase is None or stage in self.phase.stages or stage not in self.stage_names

    def on_train_epoch_end(self) -> None:
        assert self.phase is not None
        # What a reader of the curves has to know of an epoch: how much of the model moved, and how fast.
        self.log("open", float(len(self.phase.stages)))
        self.log("lr", self.highest_rate)
        self._end_if_enough(self.current_epoch + 1)

    def _end_if_enough(self, epochs: int) -> None:
        if is_enough(self.recipe, self.task, epochs, self.scores):
            self.trainer.should_stop = True

    def _boundaries(self, epoch: int) -> list[str]:
        return self.outlook.boundaries(epoch, self.trainer.max_epochs or 0)

    @property
    def start_open(self) -> frozenset[str]:
        """All stages that may ever train, before the plugins have their say."""
        return self.recipe.ever_open

    @property
    def _data(self) -> DataModule:
        data: Any = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue] -- set by fit
        return data

    def phase_at(self, epoch: int) -> Phase:
        """What trains during ``epoch``, as far as it is known now."""
        return self.outlook.at(epoch)

    def enter(self, phase: Phase) -> None:
        """Opens and freezes what a phase says, and puts the modules in its modes."""
        self.phase = phase
        apply(self.model, phase)
        self.train()

    def train(self, mode: bool = True) -> "FineTuner":
        super().train(mode)
        if mode and self.phase is not None:
            keep_frozen_in_eval(self.model, self.model.stages(), self.phase)
        return self

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if not isinstance(batch, Batch) or not len(batch.index):
            return batch
        if batch.boundary is None:
            choice = self.cache.options.choice
            last = choice is None or choice.train_channels_last
            return batch._replace(images=normalize(batch.images, self.model.input_spec, channels_last=last))
        each = [batch.images] if isinstance(batch.images, Tensor) else batch.images
        floats = tuple(values.to(self.dtype) if values.is_floating_point() else values for values in each)
        return batch._replace(images=floats[0] if len(floats) == 1 else floats)

    def on_train_batch_start(self, batch: Any, batch_idx: int, *, repeated: bool = False) -> None:
        # For every batch, not for every epoch: a run that is resumed inside an epoch then draws what it would have.
        seed_global_generators(self.seed, "step", self.current_epoch, batch_idx, self.global_rank)
        if not repeated and batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.statistics.keep(self.model)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def logits(self, batch: Batch) -> Tensor:
        """``(B, K)``: of images through the whole model, of stored activations through what is left of it."""
        if batch.boundary is None:
            return self(batch.images)
        assert self.cache.suffix is not None
        return self.cache.suffix(batch.images)

    def training_step(self, batch: Batch | WholeSet, batch_idx: int) -> Tensor | None:
        if isinstance(batch, WholeSet):
            return self._full_batch_step(batch)
        if (self.plugins or self.recipe.mixup) and len(batch.index):
            seed = derive_seed(self.seed, "batch", self.current_epoch, batch_idx, self.global_rank)
            generator = torch.Generator().manual_seed(seed)
            batch = changed(batch, self.plugins, mixup=self.recipe.mixup, task=self.task, generator=generator)
        loss = self.pieces.loss(self, batch, batch_idx)
        left_out = loss is not None and self.leaves_out and not bool(torch.isfinite(loss.detach()))
        if loss is not None and len(batch.index) and not self.repeating and not left_out:
            self._log_loss("train", loss, len(batch.index))
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self.pieces.backward(self, loss)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if not self.pieces.holds_gradients:
            optimizer.zero_grad()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.one_step(batch, "val")

    def on_test_epoch_start(self) -> None:
        self.collector.clear()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.one_step(batch, "test")

    def on_predict_epoch_start(self) -> None:
        self.collector.clear()

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Only collects what the weights say; nothing is measured."""
        self.bad_images.record("val", batch.failures)
        if len(batch.index):
            self.collector.add(batch.index, batch.targets, self.logits(batch))
        return batch.index  # Lightning warns of nothing

    def one_step(self, batch: Batch, kind: str) -> Tensor | None:
        """Loss of one batch, and its metrics unless it is for training; ``None`` if none of it could be read."""
        self.bad_images.record(kind, batch.failures)
        size = len(batch.index)
        if not size:
            return self._no_loss() if kind == "train" and self.trainer.world_size > 1 else None
        with pretrained_statistics(self.model) if kind == "train" and size == 1 else nullcontext():
            logits = self.logits(batch)
        loss = (self.train_loss if kind == "train" else self.task.loss)(logits, batch.targets)
        if kind != "train":
            self._log_loss(kind, loss, size)
            outputs, targets = self.task.probabilities(logits.float()), self.task.metric_targets(batch.targets)
            self.metrics[kind].update(outputs, targets)
            if kind == "test":
                self.metrics["classes"].update(outputs, targets)
                self.collector.add(batch.index, batch.targets, logits)
        return loss

    def _no_loss(self) -> Tensor:
        """0, with gradients of 0: the other processes wait for this one's, to average them with theirs."""
        spec = self.model.input_spec
        blank = torch.zeros(1, spec.channels, spec.height, spec.width, device=self.device)
        with pretrained_statistics(self.model):
            return self(blank).sum() * 0.0

    def _log_loss(self, kind: str, loss: Tensor, size: int) -> None:
        self.log(f"{kind}/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=size, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    def on_validation_end(self) -> None:
        self.validated_at = self.trainer.global_step
        values = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        if self.task.metric in values:
            self.watched.append(values[self.task.metric])
            self.scores[self.current_epoch] = Score.of(values, self.task.metric)

    @torch.no_grad()
    def score(self, loader: Iterable[Batch]) -> dict[str, float]:
        """Validation metrics of the weights that are in the model now, outside the loop; the same in every process.

        Args:
            loader: Batches as a loader of the data module gives them; each process its share.
        """
        metrics = self.metrics["val"].clone()
        loss = MeanMetric().to(self.device)
        self.eval()
        with self.trainer.precision_plugin.forward_context():
            for read in loader:
                batch = self._prepare(read, "val")
                if len(batch.index):
                    logits = self.logits(batch)
                    loss.update(self.task.loss(logits, batch.targets), len(batch.index))
                    metrics.update(self.task.probabilities(logits.float()), self.task.metric_targets(batch.targets))
        self.train()
        values = {f"val/{name}": float(value) for name, value in metrics.compute().items()}
        return {"val/loss": float(loss.compute()), **values}

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")
        if len(self.metrics["classes"]):
            self.class_results = {name: value.cpu() for name, value in self.metrics["classes"].compute().items()}
            self.metrics["classes"].reset()

    def _log_metrics(self, kind: str) -> None:
        self.log_dict({f"{kind}/{name}": value for name, value in self.metrics[kind].compute().items()})
        self.metrics[kind].reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["watched"] = self.watched
        checkpoint["validated"] = {epoch: list(score) for epoch, score in self.scores.items()}
        refuse_unfinite(checkpoint, self.model)  # plugins have put their averages there by now

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.watched[:] = checkpoint["watched"]  # plugins hold this list
        # Older checkpoints do not have it.
        self.scores = {epoch: Score(*score) for epoch, score in checkpoint.get("validated", {}).items()}

    def _full_batch_step(self, whole_set: WholeSet) -> Tensor:
        """One optimizer step, whose closure walks the whole training set as often as the optimizer likes."""
        assert self.phase is not None
        cut = boundary(self.phase.stages, self.stage_names)
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        loss = self._whole_set.step(whole_set, cut, optimizer, self.train_loss, self._l2)
        scheduler.step()
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def _prepare(self, batch: Batch, split: str = "train") -> Batch:
        self.bad_images.record(split, batch.failures)
        return self.on_after_batch_transfer(self.trainer.strategy.batch_to_device(batch, self.device), 0)
