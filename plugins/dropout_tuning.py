"""Dropout tuning: head dropout, drop path and the backbone's own dropouts follow one curve over the epochs.

    constant  ________   early  ____        linear  \\           cosine  `.            auto   up and down with the
                                    |____             \\____               `.___              gap between the losses
                         late: early, the other way round      (``cutoff`` is where they end)

Early dropout helps a model that underfits, late dropout one that overfits: Liu et al. 2023, "Dropout Reduces
Underfitting", https://arxiv.org/abs/2303.01500, section 4; ``linear`` is its early dropout that falls
linearly. ``auto`` and ``choose`` (the head's rate by cross-validation on frozen features) have no paper. The training
loss that ``auto`` looks at is that of the epoch's own steps, with dropout. Turn on with ``plugins=[dropout_tuning]``.
"""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from ft import FineTuner, Plugin, UserError
from ft.data.module import DataModule
from ft.data.randomness import seeded
from ft.data.transforms import normalize
from ft.errors import one_of, require
from ft.model.dropouts import BACKBONE, DROP_PATH, DropoutSite, find_dropouts
from ft.model.stages import HEAD, require_stages
from ft.optim.head_cross_validation import cross_validate
from ft.plot import lines

KEY = "plugins.dropout_tuning"
Curve = Literal["constant", "early", "late", "linear", "cosine", "auto"]
CURVES = get_args(Curve)
# What a model without such dropout can do about it.
ABSENT = {
    HEAD: "this model's head has no nn.Dropout: leave head out of it",
    DROP_PATH: "this model has no DropPath layer. timm builds them only when model.drop_path_rate > 0: set "
    "model.drop_path_rate=0.1, or leave drop_path out of it",
    BACKBONE: "this model's backbone has no dropout of its own: leave backbone out of it",
}


def curve_rate(epoch: int, *, curve: str, rate: float, cutoff: float, num_epochs: int) -> float:
    """The rate during ``epoch``, in ``[0, rate]``.

    Args:
        epoch: From 0.
        curve: ``constant``, ``early``, ``late``, ``linear`` or ``cosine``.
        rate: The highest value.
        cutoff: Share of the epochs, in ``[0, 1]``, where the curve has come to its end; of no meaning for ``constant``.
        num_epochs: Of the whole run.

    Source: https://arxiv.org/abs/2303.01500, section 4, by epochs instead of by steps; the cosine is ours.
    """
    end = cutoff * num_epochs
    share = min(1.0, epoch / end) if end else 1.0  # of the way to the cutoff
    factors = {
        "constant": 1.0,
        "early": float(share < 1),
        "late": float(share >= 1),
        "linear": 1 - share,
        "cosine": (1 + math.cos(math.pi * share)) / 2,
    }
    return rate * factors[curve]


def relative_gap(train: float, val: float) -> float:
    """How much larger the validation loss is, as a share of the training loss."""
    return (val - train) / max(abs(train), 1e-12)


def auto_rate(
    losses: Sequence[tuple[float, float]], *, start: float, target: float, step: float, bounds: tuple[float, float]
) -> float:
    """The rate after some epochs: up by ``step`` for each with too large a gap (overfitting), else down.

    Args:
        losses: ``(train, val)`` of each epoch so far; an epoch with one that is no number changes nothing.
        start: Rate of the first epoch.
        target: The relative gap that is neither too large nor too small.
        step: At least 0.
        bounds: Lowest and highest rate.
    """
    lowest, highest = bounds
    rate = min(max(start, lowest), highest)
    for train, val in losses:
        gap = relative_gap(train, val)
        direction = (gap > target) - (gap < target)
        rate = min(max(rate + step * direction, lowest), highest)
    return rate


class DropoutTuning(Plugin):
    """Sets the rates of an epoch before it begins; what the model was built with counts no more.

    Args:
        where: Any of ``head``, ``drop_path`` and ``backbone``.
        curve: One of ``CURVES``.
        rate: Highest value of the curve, in ``[0, 1)``; of drop paths, that of the deepest.
        cutoff: Share of the epochs, in ``[0, 1]``, after which the curve has come to its end.
        stages: Factor of the rates of some stages, at least 0; ``None`` for none.
        target: ``auto``: the relative gap of the losses that is neither too large nor too small.
        step: ``auto``: how much the rate changes after an epoch, at least 0.
        bounds: ``auto``: lowest and highest rate, in ``[0, 1)``.
        choose: Rates of which cross-validation on frozen features picks the head's ``rate``, before the first epoch.
        folds: Of the cross-validation, at least 2.
        fit_steps: In which it trains each head, at least 1.
        fit_lr: Their rate, above 0.
        plot: Draws the rates.

    Raises:
        UserError: A value is out of range, or the model has none of this dropout.
    """

    neutral: ClassVar = {"where": []}

    def __init__(
        self,
        *,
        where: list[str],
        curve: Curve,
        rate: float,
        cutoff: float,
        stages: dict[str, float] | None,
        target: float,
        step: float,
        bounds: list[float],
        choose: list[float] | None,
        folds: int,
        fit_steps: int,
        fit_lr: float,
        plot: bool,
    ) -> None:
        for place in where:
            one_of(place, ABSENT, f"{KEY}.where")
        one_of(curve, CURVES, f"{KEY}.curve")
        require(0 <= rate < 1, f"{KEY}.rate", "must be in [0, 1)", rate)
        require(0 <= cutoff <= 1, f"{KEY}.cutoff", "must be in [0, 1]", cutoff)
        factors = stages or {}
        require(all(each >= 0 for each in factors.values()), f"{KEY}.stages", "must be factors from 0", stages)
        require(step >= 0, f"{KEY}.step", "must be at least 0", step)
        valid = len(bounds) == 2 and 0 <= bounds[0] <= bounds[1] < 1
        require(valid, f"{KEY}.bounds", "must be a lowest and a highest rate in [0, 1)", bounds)
        valid = choose is None or (len(choose) > 0 and all(0 <= each < 1 for each in choose))
        require(valid, f"{KEY}.choose", "must be null or rates in [0, 1)", choose)
        require(choose is None or HEAD in where, f"{KEY}.where", "must include head beside choose", where)
        require(folds >= 2, f"{KEY}.folds", "must be at least 2", folds)
        require(fit_steps >= 1, f"{KEY}.fit_steps", "must be at least 1", fit_steps)
        require(fit_lr > 0, f"{KEY}.fit_lr", "must be above 0", fit_lr)
        self.where = where
        self.curve = curve
        self.rate = rate
        self.cutoff = cutoff
        self.factors = factors
        self.target = target
        self.step = step
        self.bounds = (bounds[0], bounds[1])
        self.choose = choose
        self.folds = folds
        self.fit_steps = fit_steps
        self.fit_lr = fit_lr
        self.plot = plot
        self.auto = curve == "auto" and bool(where)
        self.num_epochs = 0
        self.sites: list[DropoutSite] = []
        self.losses: dict[int, tuple[float, float]] = {}
        self.chosen: float | None = None
        self.loss_so_far: Tensor | None = None

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        if module.optimizer_options.full_batch:
            raise UserError(
                f"plugins=[dropout_tuning] makes the loss another one at every call, and optimizer="
                f"{module.optimizer_options.name} needs the same: leave it out, or set optimizer=adamw."
            )
        require_stages(self.factors, module.stage_names, f"{KEY}.stages")
        found = find_dropouts(module.model, module.model.stages(), self.factors)
        for place in self.where:
            if place not in {site.place for site in found}:
                raise UserError(f"{KEY}.where={place}: {ABSENT[place]}.")
        self.sites = [site for site in found if site.place in self.where]
        highest = max(self.bounds[1] if self.auto else self.rate, *(self.choose or [0.0]), 0.0)
        largest = max((site.share for site in self.sites), default=0.0)
        require(
            highest * largest < 1, f"{KEY}.stages", f"times the highest rate {highest} must be below 1", self.factors
        )
        timed = self.curve not in ("constant", "auto")
        self.num_epochs = trainer.max_epochs or -1
        require(not timed or self.num_epochs > 0, "trainer.max_epochs", f"must be set for {KEY}.curve={self.curve}",
                trainer.max_epochs)  # fmt: skip
        if self.auto and trainer.limit_val_batches == 0:
            raise UserError(f"{KEY}.curve=auto reads the validation loss: set trainer.limit_val_batches above 0.")
        if self.choose is not None:
            _, head = module.model.split(HEAD) or (None, None)
            if not isinstance(head, nn.Module):
                raise UserError(f"{KEY}.choose needs a model that can be split before its head: set choose=null.")
            size = len(data.splits["train"].targets)
            require(self.folds <= size, f"{KEY}.folds", f"must be at most the {size} training images", self.folds)

    def rate_at(self, place: str, epoch: int) -> float:
        """The curve's value for a place: the rate, before the factors of stages and depth."""
        rate = self.chosen if place == HEAD and self.chosen is not None else self.rate
        if self.auto:
            known = [losses for at, losses in sorted(self.losses.items()) if at < epoch]
            return auto_rate(known, start=rate, target=self.target, step=self.step, bounds=self.bounds)
        return curve_rate(epoch, curve=self.curve, rate=rate, cutoff=self.cutoff, num_epochs=self.num_epochs)

    def begin_epoch(self, epoch: int, module: FineTuner) -> None:
        if self.choose is not None and self.chosen is None and module.trainer.global_step == 0:
            self.chosen = self._choose(self.choose, module)
        for site in self.sites:
            part = module.model.get_submodule(site.module)
            setattr(part, site.attribute, self.rate_at(site.place, epoch) * site.share)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        # Not called when a run is resumed inside an epoch: what was restored is then right.
        self.loss_so_far = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.auto or not outputs or pl_module.step_left_out:
            return
        # Lightning's own mean of the epoch would begin anew when a run is resumed inside it.
        size = len(batch.index)
        loss = outputs["loss"] * trainer.accumulate_grad_batches
        now = torch.stack([loss * size, torch.full_like(loss, size)])
        self.loss_so_far = now if self.loss_so_far is None else self.loss_so_far.to(now.device) + now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        epoch = trainer.current_epoch
        every = trainer.check_val_every_n_epoch or 1
        if self.loss_so_far is not None and (epoch + 1) % every == 0:
            total, size = trainer.strategy.reduce(self.loss_so_far.double(), reduce_op="sum").tolist()
            self.losses[epoch] = (total / size, float(trainer.callback_metrics["val/loss"]))
            pl_module.log(f"plugins/{self.name}/gap", relative_gap(*self.losses[epoch]))
        if self.where:
            pl_module.log(f"plugins/{self.name}/rate", self.rate_at(self.where[0], epoch))
        if self.chosen is not None:
            pl_module.log(f"plugins/{self.name}/chosen", self.chosen)

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.plot and self.where and trainer.is_global_zero:
            epochs = range(trainer.current_epoch)
            places: dict[tuple[float, ...], list[str]] = {}
            for place in self.where:
                places.setdefault(tuple(self.rate_at(place, epoch) for epoch in epochs), []).append(place)
            curves = {", ".join(names): (epochs, rates) for rates, names in places.items()}
            file = Path(trainer.default_root_dir) / f"{self.name}.png"
            lines(file, curves, xlabel="epoch", ylabel="rate", from_zero=True, title=f"dropout rate, {self.curve}")

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "loss_so_far": self.loss_so_far, "chosen": self.chosen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self.chosen = dict(state_dict["losses"]), state_dict["chosen"]
        self.loss_so_far = state_dict["loss_so_far"]

    def _choose(self, rates: Sequence[float], module: FineTuner) -> float:
        """The rate with the lowest held-out loss; of equal ones the first."""
        trainer: Any = module.trainer
        features, targets, head = cached_features(module, trainer)
        losses = cross_validate(
            head,
            features,
            targets,
            rates=rates,
            loss=module.task.loss,
            num_folds=self.folds,
            num_steps=self.fit_steps,
            lr=self.fit_lr,
            weight_decay=module.optimizer_options.weight_decay,
            draws=lambda fold: seeded(module.seed, self.name, fold),
        )
        # Every process has seen its own images.
        chosen: float = trainer.strategy.broadcast(rates[losses.index(min(losses))])
        if trainer.is_global_zero:
            told = ", ".join(f"{rate:g}: {loss:.4f}" for rate, loss in zip(rates, losses, strict=True))
            print(f"{self.name}: head dropout {chosen:g}, by held-out loss ({told})", flush=True)
        return chosen


def cached_features(module: FineTuner, trainer: Any) -> tuple[Tensor, Tensor, nn.Module]:
    """Features ``(N, F)`` of the training images as evaluation sees them, their targets, and the head, on the CPU.

    There the result depends on no device, and no random numbers but the CPU's are drawn.
    """
    model = module.model
    prefix, head = model.split(HEAD)
    model.eval()
    parts = []
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for batch in trainer.datamodule.evaluation_loader("train"):
            if len(batch.index):
                images = normalize(batch.images.to(module.device), model.input_spec)
                images = trainer.precision_plugin.convert_input(images)
                parts.append((prefix(images).float().cpu(), batch.targets))
    module.train()
    features, targets = (torch.cat(each) for each in zip(*parts, strict=True))
    return features, targets, copy.deepcopy(head).float().cpu()
