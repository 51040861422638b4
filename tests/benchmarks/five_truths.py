"""Five things about unfreezing that are easily wrong, run against three implementations; prints who gets which right.

    python -m tests.benchmarks.five_truths          about two minutes on 2 cores

1. processes   after unfreezing, two processes still hold the same weights
2. resume      a run that is resumed after the unfreezing stays unfrozen
3. schedule    the learning-rate schedule reaches what was unfrozen
4. frozen      a frozen backbone computes in training what it computes in evaluation, and its statistics stay
5. lr_scale    timm's ``lr_scale`` of a group changes its rate

Beside ft's gradual_unfreezing: Lightning's ``BackboneFinetuning`` and, where it is installed, finetuning-scheduler.
Both get the options that their documentation recommends for BatchNorm and for several processes.
"""

import contextlib
import importlib.util
import io
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from ft.build.run import Run
from ft.fit import fit
from tests.plugins.conftest import Runs

NAMES = ("ft", "Lightning", "finetuning-scheduler")
EPOCHS = 4
RATE = 1e-3


class Peer(LightningModule):
    """A tiny ResNet with dropout in front of a linear head, as a user of either callback would write it."""

    def __init__(self, *, scheduled: bool = False, lr_scale: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        body = timm.create_model("test_resnet", num_classes=0, drop_rate=0.3)
        self.backbone: Any = body
        self.head = nn.Linear(body.num_features, 3)
        self.scheduled = scheduled
        self.lr_scale = lr_scale

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups: Any = [{"params": trained, "lr_scale": 0.1}] if self.lr_scale else trained
        optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.1)
        # Falls by a factor of ten in every epoch, where that is what is looked at.
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.1**epoch)
        if not self.scheduled:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


class OpenAtOne:
    """Makes the callback that opens the whole backbone in epoch 1."""

    @staticmethod
    def lightning() -> Callback:
        return BackboneFinetuning(unfreeze_backbone_at_epoch=1, backbone_initial_ratio_lr=1.0, should_align=False,
                                  lambda_func=lambda epoch: 1.0, train_bn=False)  # fmt: skip

    @staticmethod
    def finetuning_scheduler(epochs: int) -> Callback:
        from finetuning_scheduler import FinetuningScheduler  # pyright: ignore[reportMissingImports]

        schedule = {
            0: {"params": ["head.*"], "max_transition_epoch": 1},
            1: {"params": ["backbone.*"], "max_transition_epoch": epochs},
        }
        return FinetuningScheduler(ft_schedule=schedule, epoch_transitions_only=True, base_max_lr=RATE,
                                   restore_best=False, frozen_bn_track_running_stats=False,
                                   logging_level=40)  # fmt: skip


class Look(Callback):
    """Calls a function at the end of every epoch's last batch."""

    def __init__(self, at: Callable[[Trainer, Any], None]) -> None:
        self.at = at

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_last_batch:
            self.at(trainer, pl_module)


def train_peer(name: str, folder: str, *extra: Callback, module: Peer | None = None, epochs: int = EPOCHS,
               resume: str | None = None, **options: Any) -> tuple[Trainer, Peer]:  # fmt: skip
    """Trains a peer on the images of ``two_classes``."""
    callback = OpenAtOne.lightning() if name == "Lightning" else OpenAtOne.finetuning_scheduler(epochs)
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[callback, *extra], logger=False,
                      enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
                      use_distributed_sampler=False, **options)  # fmt: skip
    module = module or Peer()
    images = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(images, torch.arange(24) % 3)
    size = options.get("devices", 1)
    sampler = DistributedSampler(data, size, torch.distributed.get_rank(), shuffle=False) if size > 1 else None
    trainer.fit(module, DataLoader(data, batch_size=4, sampler=sampler), ckpt_path=resume)
    return trainer, module


def train_ft(folder: str, *overrides: str, look: Callback | None = None) -> Run:
    """Trains ft's gradual unfreezing with everything open from epoch 1 on."""
    run = _runs(folder).build(
        "plugins=[gradual_unfreezing]",
        "plugins.gradual_unfreezing.schedule=[{epoch:0,open:[head]},{epoch:1,open:all}]",
        f"trainer.max_epochs={EPOCHS}",
        f"optimizer.lr={RATE}",
        *overrides,
    )
    if look is not None:
        run.trainer.callbacks.append(look)
    fit(run, started=0.0)
    return run


def _runs(folder: str) -> Runs:
    weights = Path(folder) / "weights"
    if not weights.is_dir():
        from safetensors.torch import save_file

        weights.mkdir(parents=True)
        torch.manual_seed(0)
        state = timm.create_model("test_resnet", num_classes=0).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, weights / "test_resnet.safetensors")
    return Runs(Path(folder), weights)


def processes(name: str, folder: str) -> bool:
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               "-m", "tests.benchmarks.five_truths", name, folder]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in result.stdout.splitlines() if line.startswith("difference ")]
    assert lines, result.stderr[-2000:]
    return float(lines[0].split()[1]) == 0


def worker(name: str, folder: str) -> None:
    """In each of two processes: trains, and compares its weights with the first one's."""
    if name == "ft":
        module: Any = train_ft(folder, "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=3").module
    else:
        torch.distributed.init_process_group("gloo")
        module = train_peer(name, folder, devices=2, strategy="ddp_find_unused_parameters_true")[1]
    worst = torch.tensor(0.0)
    for value in module.parameters():
        other = value.detach().clone()
        torch.distributed.broadcast(other, src=0)
        worst = torch.maximum(worst, (value.detach() - other).abs().max())
    torch.distributed.all_reduce(worst, op=torch.distributed.ReduceOp.MAX)
    if torch.distributed.get_rank() == 0:
        print(f"difference {float(worst):.3g}", flush=True)


def resume(name: str, folder: str) -> bool:
    opened: list[bool] = []

    def at(trainer: Trainer, module: Any) -> None:
        body = module.model.backbone if hasattr(module, "model") else module.backbone
        opened.append(all(parameter.requires_grad for parameter in body.parameters()))

    if name == "ft":
        from tests.plugins.conftest import Diary

        again = _runs(folder).cut_and_resume(
            "plugins=[gradual_unfreezing]",
            "plugins.gradual_unfreezing.schedule=[{epoch:0,open:[head]},{epoch:1,open:all}]",
            f"trainer.max_epochs={EPOCHS}", epoch=2, batch=None, watch=Diary(),
        )  # fmt: skip
        return all(parameter.requires_grad for parameter in again.module.model.parameters())
    keep: list[Callback] = [ModelCheckpoint(folder, filename="cut", save_on_train_epoch_end=True)]
    if name == NAMES[2]:  # keeps its phase in checkpoints of its own callback's alone
        from finetuning_scheduler import FTSCheckpoint  # pyright: ignore[reportMissingImports]

        keep = [FTSCheckpoint(folder, filename="cut", monitor="loss", save_top_k=-1, save_on_train_epoch_end=True)]
    train_peer(name, folder, *keep, epochs=2)
    cut = max(Path(folder).glob("cut*.ckpt"), key=lambda file: file.stat().st_mtime)
    train_peer(name, folder, *keep, Look(at), resume=str(cut))
    return bool(opened) and opened[-1]


def schedule(name: str, folder: str) -> bool:
    rates: list[list[float]] = []

    def at(trainer: Trainer, module: Any) -> None:
        rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    if name == "ft":
        train_ft(folder, "schedule=step", "schedule.every=1", "schedule.gamma=0.1", "schedule.unit=epoch",
                 "schedule.warmup=0", look=Look(at))  # fmt: skip
    else:
        train_peer(name, folder, Look(at), module=Peer(scheduled=True))
    # In the last of four epochs every group's rate has fallen by 1,000.
    return max(rates[-1]) < 1.5e-3 * RATE


def frozen(name: str, folder: str) -> bool:
    seen: list[bool] = []
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    statistics: list[Tensor] = []

    def at(trainer: Trainer, module: Any) -> None:
        if trainer.current_epoch:
            return
        body = module.model.backbone if hasattr(module, "model") else module.backbone
        statistics.append(body.get_buffer("layer1.0.bn1.running_mean").clone())
        with torch.no_grad():
            in_training = body(images)
            in_evaluation = body.eval()(images)
        # What is measured is the first phase; the modes of the next one are set anew.
        seen.append(torch.equal(in_training, in_evaluation) and torch.equal(statistics[0], start))

    torch.manual_seed(0)
    start = timm.create_model("test_resnet", num_classes=0).get_buffer("layer1.0.bn1.running_mean").clone()
    if name == "ft":
        train_ft(folder, "+model.kwargs.drop_rate=0.3", look=Look(at))
    else:
        train_peer(name, folder, Look(at))
    return seen == [True]


def lr_scale(name: str, folder: str) -> bool:
    rates: list[float] = []

    def at(trainer: Trainer, module: Any) -> None:
        rates.append(min(group["lr"] for group in trainer.optimizers[0].param_groups))

    if name == "ft":
        train_ft(
            folder,
            "plugins=[gradual_unfreezing,layer_decay]",
            "plugins.layer_decay.decay=0.1",
            "schedule=constant",
            look=Look(at),
        )
    else:
        train_peer(name, folder, Look(at), module=Peer(lr_scale=True), epochs=1)
    return rates[0] < 0.11 * RATE


def main() -> None:
    warnings.filterwarnings("ignore")
    names = [name for name in NAMES if name != NAMES[2] or importlib.util.find_spec("finetuning_scheduler")]
    print("about two minutes")
    print(f"{'':12}" + "".join(f"{name:>22}" for name in names))
    for truth in (processes, resume, schedule, frozen, lr_scale):
        cells = []
        for name in names:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                _runs(folder)
                try:
                    cells.append("right" if truth(name, folder) else "WRONG")
                except (ValueError, MisconfigurationException) as error:
                    cells.append(f"WRONG ({type(error).__name__})")
        print(f"{truth.__name__:12}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        worker(sys.argv[1], sys.argv[2])
    else:
        main()
