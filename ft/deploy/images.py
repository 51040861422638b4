"""Images of a folder, to check an export on where the run's own data is not in reach."""

from pathlib import Path

import torch
from torch import Tensor

from ft.data.images import EXTENSIONS, UnreadableImage, open_image
from ft.data.transforms import EvaluationTransform
from ft.errors import UserError
from ft.input_spec import InputSpec


def folder_pixels(path: str, spec: InputSpec, num_images: int) -> Tensor:
    """``(N, C, H, W)`` ``uint8``: the first images below a folder, by name, as evaluation sees them.

    Args:
        path: The folder.
        spec: What the model wants to see.
        num_images: At most.

    Raises:
        UserError: It is no folder, holds no image, or one that cannot be read.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"images={path} is not a folder.")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS)[:num_images]
    if not files:
        raise UserError(f"images={path} holds no image ({', '.join(sorted(EXTENSIONS))}).")
    transform = EvaluationTransform(spec)
    pixels = []
    for file in files:
        try:
            pixels.append(transform(open_image(str(file))))
        except UnreadableImage as error:
            raise UserError(f"images={path}: {file.name} cannot be read: {error}. Take it away.") from None
    return torch.stack(pixels)
