"""Small folders of made-up pictures, with known trouble planted in them."""

from pathlib import Path

import numpy as np
from PIL import Image

from ft.data.folder import folder
from ft.results.doctor.subject import CLASSIFICATION, Part, Subject


def picture(seed: int, *, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Large soft patches in colours, unlike those of any other seed."""
    patches = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def save(image: Image.Image, file: Path, **options: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **options)
    return file


def plain_set(root: Path, *, each: int = 4) -> Path:
    """``root/{train,val,test}/{cat,dog}/*.png``: ``each`` pictures, all different."""
    seed = 0
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            for number in range(each):
                seed += 1
                save(picture(seed), root / split / name / f"{number}.png")
    return root


def subject_of(root: Path) -> Subject:
    """As the verb makes it, without a task."""
    source = folder(root=str(root))
    classes = tuple(np.unique(source.splits["train"].labels).tolist())
    return Subject(
        {
            name: Part(split.images, np.array([classes.index(label) for label in split.labels]), split.names)
            for name, split in source.splits.items()
        },
        CLASSIFICATION,
        classes,
    )


def files_of(item: dict) -> set[str]:
    return {file["file"] for file in item["files"]}
