"""What is told of files, into files: the table, the list of images that could not be read, the embeddings.

predictions.csv   predictions.bad.csv   features.safetensors
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ft.errors import UserError, one_of
from ft.inference.embeddings import ENDINGS, Embeddings, embedding_files
from ft.inference.predict_files import Told
from ft.inference.rows import IMAGE, Rows
from ft.inference.tables import TABLES, csv_table, require_ending
from ft.inference.whole_files import whole_files

ERROR, SKIP = "error", "skip"


@dataclass(frozen=True)
class Outputs:
    """Where everything goes; refused before anything is computed.

    Args:
        table: CSV or Parquet.
        embeddings: safetensors, npy or Parquet; ``None`` for none.
        overwrite: Whether files that are there may be replaced.
        given: Where the images are from: never replaced.

    Raises:
        UserError: A file exists, is a folder or the input, or its ending is not known.
    """

    table: Path
    embeddings: Path | None
    overwrite: bool
    given: Path

    def __post_init__(self) -> None:
        require_ending(self.table, list(TABLES), "output")
        if self.embeddings is not None:
            require_ending(self.embeddings, ENDINGS, "embeddings")
        for at, path in enumerate(self.files):
            key = "output" if at < 2 else "embeddings"
            if path.is_dir():
                raise UserError(f"{key}={path} is a folder. Name a file.")
            if path.resolve() in [other.resolve() for other in (self.given, *self.files[:at])]:
                raise UserError(f"{key}={path} is the input, or another output. Name another file.")
            if path.exists() and not self.overwrite:
                raise UserError(f"{key}: {path} exists. Name another file, or set overwrite=true.")

    @property
    def bad(self) -> Path:
        """Lists the images that could not be read."""
        return self.table.with_suffix(".bad.csv")

    @property
    def files(self) -> list[Path]:
        return [self.table, self.bad, *(embedding_files(self.embeddings) if self.embeddings else [])]


@dataclass
class Written:
    """How it went.

    Attributes:
        images: Rows of the table.
        labels: How often each was said.
        abstained: Images of which a classifier would not say a label.
        bad: Name and reason of the images that could not be read.
    """

    images: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    abstained: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)


def write_predictions(
    batches: Iterable[Told], rows: Rows, outputs: Outputs, *, on_bad: str, num_images: int
) -> Written:
    """Writes everything, or, after an exception, nothing.

    Args:
        batches: From ``predict_files``.
        rows: What a line holds.
        outputs: Where to.
        on_bad: ``error`` refuses the first image that cannot be read; ``skip`` leaves it out and lists it.
        num_images: That are to come, at most.

    Raises:
        UserError: ``on_bad=error`` and there is such an image; or not one can be read.
    """
    one_of(on_bad, (ERROR, SKIP), "on_bad")
    written, embeddings = Written(), Embeddings(num_images)
    with whole_files(outputs.files) as fresh:
        with ExitStack() as opened:
            table = opened.enter_context(TABLES[outputs.table.suffix.lower()](fresh[0], rows.columns))
            bad = None
            for batch in batches:
                for name, why in batch.failures:
                    if on_bad == ERROR:
                        raise unreadable(name, why)
                    bad = bad or opened.enter_context(csv_table(fresh[1], {IMAGE: str, "error": str}))
                    bad.write([name, why])
                written.bad += batch.failures
                for name, told in zip(batch.names, batch.told, strict=True):
                    row = rows.row(name, told)
                    table.write(row)
                    said = rows.labels(row)
                    written.labels.update(said)
                    written.abstained += rows.abstain_below is not None and not said
                written.images += len(batch.names)
                if batch.features is not None:
                    embeddings.add(batch.names, batch.features)
        if not written.images:
            name, why = written.bad[0]
            raise UserError(f"none of the {len(written.bad)} images can be read; the first: {name}: {why}.")
        if outputs.embeddings is not None:
            embeddings.save(outputs.embeddings.suffix.lower(), fresh[2:])
    return written


def unreadable(name: str, why: str, count: int = 1) -> UserError:
    """The error for an image that cannot be read under ``on_bad=error``."""
    more = f" ({count - 1} more like it)" if count > 1 else ""
    return UserError(f"{name} cannot be read: {why}{more}. Mend or remove it, or set on_bad=skip.")
