"""What the best checkpoint said of every image of a split, kept in the run folder.

RUN/predictions/test.safetensors   logits, targets, index; what the logits mean in its header
RUN/predictions/test.csv           one line an image, for people and for other tools
"""

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ft.errors import UserError
from ft.inference.reading import Reading

FOLDER = "predictions"
HEADER = "ft"


@dataclass(frozen=True)
class Predictions:
    """Predictions of one split, in its order.

    Attributes:
        split: Its name.
        reading: What the logits mean.
        names: ``N`` names of the images, as the data set gives them.
        index: ``(N,)`` positions in the split; images that could not be read are not among them.
        targets: ``(N,)`` class numbers or ``(N, K)`` floats.
        logits: ``(N, K)`` floats.
    """

    split: str
    reading: Reading
    names: tuple[str, ...]
    index: Tensor
    targets: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.names)

    @property
    def told(self) -> Tensor:
        """``(N, K)`` probabilities after temperature, or the predicted numbers."""
        return self.reading.tell(self.logits)

    def save(self, run: Path) -> None:
        """Writes both files below a run folder, each as a whole."""
        folder = run / FOLDER
        folder.mkdir(exist_ok=True)
        # One entry: several are written in no particular order, and equal runs write equal files.
        header = {HEADER: json.dumps({"split": self.split, "reading": self.reading.as_dict(), "names": self.names})}
        tensors = {"index": self.index, "targets": self.targets, "logits": self.logits}
        fresh = folder / f".{self.split}.new"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, fresh, header)
        fresh.replace(folder / f"{self.split}.safetensors")
        fresh.write_text(self._csv(), encoding="utf-8")
        fresh.replace(folder / f"{self.split}.csv")

    @classmethod
    def load(cls, run: Path, split: str) -> "Predictions":
        """Reads what ``save`` wrote.

        Raises:
            UserError: There are none; names the command that makes them.
        """
        file = run / FOLDER / f"{split}.safetensors"
        if not file.is_file():
            raise UserError(
                f"{run} has no predictions of its {split} split: python -m ft.evaluate run='{run}' split={split}"
            )
        try:
            with safe_open(file, "pt") as stored:
                header = stored.metadata()
                header = json.loads(header[HEADER]) if HEADER in header else _older(header)
                tensors = {name: stored.get_tensor(name) for name in ("index", "targets", "logits")}
            reading = Reading.from_dict(header["reading"])
            names = tuple(str(name) for name in header["names"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            again = f"python -m ft.evaluate run='{run}' split={split}"
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"{file} is damaged: {type(error).__name__}: {reason}. Make it again: {again}") from None
        return cls(split, reading, names, **tensors)

    def _csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        classes, told = self.reading.classes, self.told.tolist()
        if self.targets.ndim == 1:
            writer.writerow(["image", "target", "predicted", "probability", *classes])
            for name, target, row in zip(self.names, self.targets.tolist(), told, strict=True):
                best = max(range(len(row)), key=row.__getitem__)
                shown = [f"{value:.6f}" for value in row]
                writer.writerow([name, classes[target], classes[best], shown[best], *shown])
        else:
            writer.writerow(["image", *(f"target_{name}" for name in classes), *classes])
            for name, target, row in zip(self.names, self.targets.tolist(), told, strict=True):
                writer.writerow([name, *(f"{value:g}" for value in target), *(f"{value:.6g}" for value in row)])
        return text.getvalue()


def _older(header: dict[str, str]) -> dict[str, Any]:
    """What the header of a file says that was written with an entry for each."""
    return {"reading": json.loads(header["reading"]), "names": json.loads(header["names"])}


class Collector:
    """Gathers a split's logits while it is evaluated, batch by batch, on every process."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def clear(self) -> None:
        self._parts = []

    def add(self, index: Tensor, targets: Tensor, logits: Tensor) -> None:
        """Takes one batch: ``(B,)``, ``(B,)`` or ``(B, K)``, and ``(B, K)``."""
        self._parts.append((index.cpu(), targets.cpu(), logits.detach().float().cpu()))

    def predictions(self, split: str, reading: Reading, names: Sequence[str]) -> Predictions | None:
        """All of them in the split's order, the same in every process; ``None`` if not one image could be read."""
        parts = _of_all_processes(self._parts)
        if not parts:
            return None
        index, targets, logits = (torch.cat(each) for each in zip(*parts, strict=True))
        # Processes that got the last images twice, so that all had as many, count once.
        order = {int(position): at for at, position in enumerate(index)}
        rows = torch.tensor([order[position] for position in sorted(order)])
        index = index[rows]
        chosen = tuple(os.fspath(names[int(position)]) for position in index)
        return Predictions(split, reading, chosen, index, targets[rows], logits[rows])


def _of_all_processes(parts: list[tuple[Tensor, Tensor, Tensor]]) -> list[tuple[Tensor, Tensor, Tensor]]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return parts
    gathered: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(gathered, parts)
    return [part for each in gathered for part in each]
