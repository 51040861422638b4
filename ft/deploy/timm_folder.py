"""A fine-tuned model as timm's own: ``timm.create_model("local-dir:PATH", pretrained=True)``."""

from pathlib import Path
from typing import Any

import timm

from ft.deploy.folder import Description
from ft.deploy.network import Network
from ft.errors import UserError
from ft.inference.pixels import DTYPES, on_pixels, torch_device


def load(folder: Path, description: Description, *, device: str, precision: str) -> Network:
    """Loads it as anybody would who has timm alone.

    Raises:
        UserError: This timm cannot build it.
    """
    where, spec = torch_device(device), description.spec
    try:
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    # timm's models refuse arguments and weights in many ways; the files themselves are whole, their digests say.
    except (RuntimeError, TypeError, ValueError, AssertionError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{folder} cannot be loaded with timm {timm.__version__}: {first}") from error
    model = model.eval().requires_grad_(False).to(where)

    def features(images: Any) -> Any:
        return model.forward_head(model.forward_features(images), pre_logits=True)

    dtype = DTYPES[precision]
    return Network(on_pixels(model, spec, where, dtype), on_pixels(features, spec, where, dtype), model)
