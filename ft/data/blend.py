"""Mixup: every image, and its target, is blended with another of the same batch."""

import torch
from torch import Generator, Tensor

from ft.data.randomness import draw_beta


def blend(images: Tensor, targets: Tensor, *, lam: float, order: Tensor) -> tuple[Tensor, Tensor]:
    """Blends each image, and its target, with another of the same batch.

    Args:
        images: ``(B, ...)``: images, already normalised, or what a frozen part of the model has made of them.
        targets: ``(B, K)`` class probabilities; rows sum to 1.
        lam: Share of the original image, in ``[0, 1]``.
        order: ``(B,)`` index of each image's partner.

    Source: Zhang et al. 2018, https://arxiv.org/abs/1710.09412, equation 1; of activations: Verma et al. 2019,
    https://arxiv.org/abs/1806.05236.
    """
    return lam * images + (1 - lam) * images[order], lam * targets + (1 - lam) * targets[order]


def draw_blend(size: int, alpha: float, generator: Generator) -> tuple[float, Tensor]:
    """``lam`` from Beta(alpha, alpha), and ``(B,)`` partners."""
    order = torch.randperm(size, generator=generator)
    return draw_beta(alpha, generator), order


def blend_all(
    values: Tensor | tuple[Tensor, ...], targets: Tensor, *, alpha: float, generator: Generator
) -> tuple[Tensor | tuple[Tensor, ...], Tensor]:
    """Blends images, or all that crossed a boundary of the model, by one draw.

    Args:
        values: ``(B, ...)``, one tensor or several.
        targets: ``(B, K)`` class probabilities.
        alpha: Of the Beta distribution, above 0.
        generator: On the CPU.
    """
    lam, order = draw_blend(len(targets), alpha, generator)
    order = order.to(targets.device)
    several = [values] if isinstance(values, Tensor) else values
    blended = tuple(blend(each, targets, lam=lam, order=order)[0] for each in several)
    _, soft = blend(targets, targets, lam=lam, order=order)
    return blended[0] if isinstance(values, Tensor) else blended, soft
