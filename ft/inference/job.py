"""What ``ft.predict`` is asked to do, checked as far as it can be before a model is loaded."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft.data.images import UnreadableImage, probe_image
from ft.errors import UserError, one_of, require
from ft.inference.inputs import Listed, find_images
from ft.inference.pixels import DTYPES
from ft.inference.predictor import Predictor
from ft.inference.rows import Rows
from ft.inference.tta import TTA, Views
from ft.inference.write import ERROR, SKIP, Outputs, unreadable

# Of a line of the table; their own checks know the model.
LINE = ("top_k", "probabilities", "abstain_below", "threshold")


@dataclass(frozen=True)
class Job:
    """The keys of ``conf/predict.yaml``, with the images found and the outputs free.

    Attributes:
        run: As the user names it.
        images: To predict, in order.
        line: What a line of the table holds.
    """

    run: str
    runs_dir: str
    images: list[Listed]
    outputs: Outputs
    line: Mapping[str, Any]
    tta: str
    on_bad: str
    batch_size: int
    num_workers: int | str
    device: str
    precision: str

    @classmethod
    def from_config(cls, wishes: Mapping[str, Any]) -> "Job":
        """Looks for the images and at what is there already.

        Raises:
            UserError: A value is no choice, nothing is to predict, or something must not be overwritten.
        """
        for key, example in (("run", "RUN_FOLDER, or run=last"), ("input", "FOLDER, IMAGE, GLOB or FILE.csv")):
            if wishes[key] is None:
                raise UserError(f"ft.predict needs {key}={example}.")
        for key in ("run", "input", "output", "embeddings"):
            if isinstance(wishes[key], list | dict):
                raise UserError(f"{key}={wishes[key]} is read as a list. Quote it for one path: '{key}=\"a, b\"'.")
        one_of(wishes["tta"], TTA, "tta")
        one_of(wishes["on_bad"], (ERROR, SKIP), "on_bad")
        one_of(wishes["precision"], DTYPES, "precision")
        batch_size, workers = wishes["batch_size"], wishes["num_workers"]
        require(batch_size >= 1, "batch_size", "must be at least 1", batch_size)
        valid = workers == "auto" or (isinstance(workers, int) and not isinstance(workers, bool) and workers >= 0)
        require(valid, "num_workers", "must be auto, or 0 or more", workers)
        given = str(wishes["input"])
        outputs = Outputs(
            table=_path(wishes["output"]),
            embeddings=None if wishes["embeddings"] is None else _path(wishes["embeddings"]),
            overwrite=wishes["overwrite"],
            given=_path(given),
        )
        images = find_images(given, column=str(wishes["column"]))
        if wishes["on_bad"] == ERROR:
            refuse_unreadable(images)
        kept = ("tta", "on_bad", "batch_size", "num_workers", "device", "precision")
        return cls(
            run=str(wishes["run"]),
            runs_dir=str(wishes["runs_dir"]),
            images=images,
            outputs=outputs,
            line={key: wishes[key] for key in LINE},
            **{key: wishes[key] for key in kept},
        )

    def rows(self, predictor: Predictor) -> Rows:
        return Rows(predictor.reading, **self.line)

    def views(self, predictor: Predictor) -> Views:
        return Views(predictor.transform, self.tta)


def refuse_unreadable(images: list[Listed]) -> None:
    """Reads every header, cheap beside prediction: an image that is none ends it now and not after an hour.

    Raises:
        UserError: Names the first and counts them.
    """
    with ThreadPoolExecutor(4) as pool:
        bad = [(name, why) for (name, _), why in zip(images, pool.map(_reason, images), strict=True) if why]
    if bad:
        raise unreadable(*bad[0], len(bad))


def _reason(image: Listed) -> str | None:
    try:
        probe_image(image.path)
    except UnreadableImage as error:
        return str(error)
    return None


def _path(given: Any) -> Path:
    return Path(str(given)).expanduser()
