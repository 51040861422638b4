"""What every peer shares, so that only the method differs: files, pixels, weights, new head, scoring.

Images are decoded by Pillow and transformed by torchvision's v2 in one loader worker; validation and test see our own
evaluation transform (shorter side to 256, centre crop of 224).
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

from ft.data.folder import folder
from ft.data.images import to_mode
from ft.data.source import Images, Source
from ft.data.splits import complete, only_listed
from ft.data.transforms import EvaluationTransform
from ft.input_spec import InputSpec
from ft.model.weight_files import read_weights
from ft.model.weights import find_weights

BATCH_SIZE = 32
EPOCHS = 8
# Both backbones are ports of TensorFlow's: these are the values that their weights were trained with.
SPEC = InputSpec(224, 224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", crop_pct=0.875)
WARM_UP_STEPS = 5


@dataclass(frozen=True)
class Cell:
    """One run of one method.

    Attributes:
        method: Name of a peer, or ``ours``.
        model: timm name.
        data: Folder of the data sets.
        set: Name of one of them.
        seed: Of the head, the order and the random views; not of the split.
        weights_dir: Folder of ``<timm name>.safetensors``.
        started: When the process was started, as ``time.monotonic()`` tells it.
        rate: Learning rate of full fine-tuning.
        epochs: How many.
        choosing: A rate: trains on what ``train800.txt`` lists, where there is one, and validates only at the end.
        accuracy_only: Its time does not count, so it may be interrupted, and runs in channels_last.
        time_steps: Only this many steps of each phase are timed, and one validation pass; 0 trains to the end.
        max_steps: Steps an epoch at most, for trying it out; 0 for all.
        keep: Folder where an accuracy-only cell keeps what it needs to go on after it was killed.
        overrides: Of ours alone: what is tried in place of the defaults.
    """

    method: str
    model: str
    data: str
    set: str
    seed: int
    weights_dir: str
    started: float
    rate: float = 0.0
    epochs: int = EPOCHS
    choosing: bool = False
    accuracy_only: bool = False
    time_steps: int = 0
    max_steps: int = 0
    keep: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Since the process was started."""
        return time.monotonic() - self.started

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def splits_of(data: Path, name: str, *, subset: bool) -> Source:
    """The same files as ``data=folder`` gives with its defaults: a missing test split is 15 % of train."""
    root = data / name
    source = folder(root=str(root))
    listed = root / "train800.txt"
    if subset and listed.is_file():
        train = only_listed(source.splits["train"], str(listed), "train800.txt")
        source = source.with_splits({**source.splits, "train": train})
    return complete(source, val_fraction=0.15, test_fraction=0.15, seed=0)


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images with class numbers, transformed in the worker."""

    def __init__(self, images: Images, targets: list[int], transform: Callable[[Image.Image], Tensor]) -> None:
        self.images = images
        self.targets = targets
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self.transform(to_mode(self.images[position], "RGB")), self.targets[position]


def to_floats() -> list[nn.Module]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(SPEC.mean), list(SPEC.std))]


def train_transform() -> Callable[[Image.Image], Tensor]:
    """timm's default without colour jitter: a random crop of 8 to 100 % of the area, and a flip."""
    size = (SPEC.height, SPEC.width)
    crop = v2.RandomResizedCrop(size, scale=(0.08, 1.0), interpolation=InterpolationMode.BICUBIC)
    return v2.Compose([crop, v2.RandomHorizontalFlip(), v2.PILToTensor(), *to_floats()])


def evaluation_transform() -> Callable[[Image.Image], Tensor]:
    return v2.Compose([EvaluationTransform(SPEC), *to_floats()])


@dataclass
class Loaders:
    """Batches of ``(B, 3, 224, 224)`` normalised images and ``(B,)`` class numbers."""

    train: DataLoader[Any]
    val: DataLoader[Any]
    test: DataLoader[Any]
    num_classes: int

    @property
    def steps(self) -> int:
        return len(self.train)


def make_loaders(cell: Cell) -> Loaders:
    """Loaders whose randomness is their own, so that scoring does not change the training."""
    source = splits_of(Path(cell.data), cell.set, subset=cell.choosing)
    classes = sorted(set(source.splits["train"].labels.tolist()))
    number = {name: at for at, name in enumerate(classes)}

    def loader(name: str, transform: Callable[[Image.Image], Tensor]) -> DataLoader[Any]:
        split, train = source.splits[name], name == "train"
        images = LabelledImages(split.images, [number[label] for label in split.labels.tolist()], transform)
        return DataLoader(
            images, BATCH_SIZE, shuffle=train, drop_last=train, num_workers=1, persistent_workers=name != "test",
            generator=torch.Generator().manual_seed(cell.seed),
        )  # fmt: skip

    plain = evaluation_transform()
    return Loaders(loader("train", train_transform()), loader("val", plain), loader("test", plain), len(classes))


def pretrained_model(cell: Cell, num_classes: int) -> Any:
    """A plain timm model with its ImageNet weights and a new head as timm initialises it."""
    torch.manual_seed(cell.seed)
    hub_id = get_pretrained_cfg(cell.model).hf_hub_id
    weights = find_weights(cell.model, weights="required", weights_dir=cell.weights_dir, hub_id=hub_id)
    with torch.device("meta"):
        names = timm.create_model(cell.model)
    overlay = {"state_dict": read_weights(weights, names), "custom_load": False}
    arguments = weights.card.get("model_kwargs", {})
    model: Any = timm.create_model(
        cell.model, pretrained=True, num_classes=num_classes, pretrained_cfg_overlay=overlay, **arguments
    )
    return model


def accuracy(model: nn.Module, loader: DataLoader[Any], *, channels_last: bool = False, bf16: bool = False) -> float:
    """Share of right answers; the model is left in eval mode."""
    model.eval()
    right = total = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for images, targets in loader:
            if channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            right += int((model(images).argmax(1) == targets).sum())
            total += len(targets)
    return right / total


def copied(model: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def first(batches: Iterator[Any], count: int) -> Iterator[Any]:
    """At most ``count`` batches; all of them if it is 0."""
    for number, batch in enumerate(batches, 1):
        yield batch
        if number == count:
            return
