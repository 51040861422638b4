"""Augmentation as arithmetic: a batch, and the numbers that were drawn for each of its images.

    geometry   output pixel --(2, 3)-->  pixel of the view     one bilinear sampling, whatever it is made of
    colour     pixel --(C, C+1)-->       pixel                 one product and one clamp
    blur       erasing                                         only the images that were drawn

B images of C channels; x to the right, y downwards, both in pixels from the centre.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows Y, I, Q of the NTSC colour space: Y is how bright a pixel looks, I and Q are its colour.
RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def affine(
    *,
    flips: Tensor,
    zoom: Tensor,
    shear: Tensor,
    rotation: Tensor,
    translation: Tensor,
    window: Tensor,
    centre: Tensor,
) -> Tensor:
    """One matrix an image: where in the view each output pixel comes from.

    Args:
        flips: ``(B, 2)``, -1 mirrors x or y, 1 does not.
        zoom: ``(B,)``, above 1 enlarges.
        shear: ``(B, 2)`` degrees by which x and y lean.
        rotation: ``(B,)`` degrees, counterclockwise.
        translation: ``(B, 2)`` output pixels by which the content moves right and down.
        window: ``(B, 2)`` view pixels an output pixel, along x and y: the size of the crop.
        centre: ``(B, 2)`` middle of the crop, in view pixels from the middle of the view.

    Returns:
        ``(B, 2, 3)``: crop, then translation, rotation, shear, zoom and flip of what is in it.
    """
    lean, angle = torch.deg2rad(shear).tan(), torch.deg2rad(rotation)
    ones, cos, sin = torch.ones_like(zoom), angle.cos(), angle.sin()
    rotate = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
    slant = torch.stack([ones, lean[:, 0], lean[:, 1], ones], 1).view(-1, 2, 2)
    linear = rotate @ slant * (flips / zoom[:, None])[:, None, :]
    return torch.cat([window[:, :, None] * linear, (centre - window * translation)[:, :, None]], 2)


def warp(images: Tensor, matrices: Tensor, *, height: int, width: int, padding: str) -> Tensor:
    """Samples every output pixel from where its image's matrix points; plain crops and flips bit for bit.

    Args:
        images: ``(B, C, H, W)``.
        matrices: ``(B, 2, 3)`` from ``affine``, on the CPU.
        height: Of the output.
        width: Of the output.
        padding: Beyond the view: ``reflection``, ``border`` or ``zeros``.

    Returns:
        ``(B, C, height, width)``.

    Source: spatial transformer, Jaderberg et al. 2015, https://arxiv.org/abs/1506.02025, section 3.2.
    """
    flips = matrices[:, :, :2].diagonal(dim1=1, dim2=2).sign()
    if torch.equal(matrices[:, :, :2], torch.diag_embed(flips)) and not matrices[:, :, 2].any():
        images = centre_crop(images, height, width)
        for axis, dim in ((0, 3), (1, 2)):
            if (flips[:, axis] < 0).any():
                mirrored = (flips[:, axis] < 0).to(images.device)[:, None, None, None]
                images = torch.where(mirrored, images.flip(dim), images)
        return images
    # From pixels to grid_sample's coordinates, in which the view reaches from -1 to 1. affine_grid multiplies
    # matrices for every pixel; a matrix is a sum of a column and a row, which takes a tenth of the time.
    view = torch.tensor([images.shape[3], images.shape[2]], dtype=torch.float64)
    scaled = (matrices.double() * 2 / view[:, None]).to(images.device, torch.float32)
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    across = x[None, :, None] * scaled[:, None, :, 0]
    down = y[None, :, None] * scaled[:, None, :, 1] + scaled[:, None, :, 2]
    grid = across[:, None] + down[:, :, None]
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode=padding, align_corners=False)


def centre_crop(images: Tensor, height: int, width: int) -> Tensor:
    """The middle of ``(B, C, H, W)`` images."""
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]


def crop_sides(area: Tensor, ratio: Tensor) -> Tensor:
    """Sides of rectangles inside the unit square.

    Args:
        area: ``(B,)`` in ``(0, 1]``.
        ratio: ``(B,)`` width by height; brought nearer to 1 where such a rectangle would not fit.

    Returns:
        ``(B, 2)`` widths and heights, with exactly this area.
    """
    fitting = ratio.clamp(area, 1 / area)
    return torch.stack([(area * fitting).sqrt(), (area / fitting).sqrt()], 1).clamp(max=1)


def luma(images: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """``(B,)`` mean brightness, in ``[0, 1]``, of normalised images ``(B, C, H, W)``; a fourth channel is alpha."""
    means = images.mean((2, 3)) * std + mean
    if means.shape[1] < 3:
        return means[:, 0]
    return means[:, :3] @ means.new_tensor(RGB_TO_YIQ[0])


def colour_matrix(colours: Tensor, *, grey: Tensor, channels: int) -> Tensor:
    """One matrix an image: its new colours from its old ones, in ``[0, 1]``.

    Args:
        colours: ``(4, B)``: the factor of all pixel values; of their distance from the image's mean brightness
            (contrast); of their distance from grey (saturation); and turns of the colour circle (hue), which leave the
            brightness of each pixel as it is.
        grey: ``(B,)`` mean brightness before, from ``luma``.
        channels: C: 1 has no saturation and no hue; of 4 the last is alpha and stays.

    Returns:
        ``(B, C, C + 1)``, the last column what is added.
    """
    rescale, contrast, saturation, hue = colours
    if channels == 1:
        linear = torch.ones_like(grey)[:, None, None]
    else:
        to_yiq = torch.tensor(RGB_TO_YIQ, dtype=torch.float64)
        to_rgb, to_yiq = (each.to(grey) for each in (torch.linalg.inv(to_yiq), to_yiq))
        cos, sin = saturation * (2 * math.pi * hue).cos(), saturation * (2 * math.pi * hue).sin()
        zero, one = torch.zeros_like(grey), torch.ones_like(grey)
        turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
        linear = to_rgb @ turn @ to_yiq
    linear = (rescale * contrast)[:, None, None] * linear
    added = ((1 - contrast) * rescale * grey)[:, None, None].expand(-1, linear.shape[1], 1)
    matrix = torch.cat([linear, added], 2)
    if channels == 4:
        matrix = torch.cat([matrix[:, :, :3], torch.zeros_like(matrix[:, :, :1]), matrix[:, :, 3:]], 2)
        alpha = matrix.new_tensor([0.0, 0.0, 0.0, 1.0, 0.0]).expand(len(matrix), 1, 5)
        matrix = torch.cat([matrix, alpha], 1)
    return matrix


def recolour(images: Tensor, matrices: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Applies a colour matrix to each image, and cuts what leaves ``[0, 1]``.

    Args:
        images: ``(B, C, H, W)``, normalised.
        matrices: ``(B, C, C + 1)``, for pixels in ``[0, 1]``.
        mean: ``(C,)`` of the normalisation, which is taken back and done again within the one product.
        std: ``(C,)`` likewise.
    """
    linear = matrices[:, :, :-1] * std / std[:, None]
    added = (matrices[:, :, :-1] @ mean + matrices[:, :, -1] - mean) / std
    pixels = torch.baddbmm(added[:, :, None], linear, images.flatten(2))
    return pixels.clamp_((-mean / std)[:, None], ((1 - mean) / std)[:, None]).view(images.shape)


def blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Gaussian blur, along x and then y.

    Args:
        images: ``(B, C, H, W)``.
        sigmas: ``(B,)`` pixels, on the CPU; 0 leaves an image as it is.
    """
    chosen = sigmas.nonzero().flatten()
    if not len(chosen):
        return images
    _, channels, height, width = images.shape
    radius = min(math.ceil(3 * float(sigmas.max())), height - 1, width - 1)
    weights = (-0.5 * (torch.arange(-radius, radius + 1) / sigmas[chosen, None]) ** 2).exp()
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None].to(images)
    chosen = chosen.to(images.device)
    groups = len(weights)
    pixels = F.pad(images[chosen], (radius,) * 4, mode="reflect")
    pixels = pixels.reshape(1, groups, *pixels.shape[2:])
    pixels = F.conv2d(pixels, weights[:, :, None, :], groups=groups)
    pixels = F.conv2d(pixels, weights[:, :, :, None], groups=groups)
    return images.index_copy(0, chosen, pixels.view(-1, channels, height, width))


def erase(images: Tensor, boxes: Tensor) -> Tensor:
    """Sets a rectangle of each image to 0: after normalisation the mean colour.

    Args:
        images: ``(B, C, H, W)``, normalised.
        boxes: ``(B, 4)`` left, top, right and bottom, the last two exclusive, on the CPU.

    Source: random erasing, Zhong et al. 2017, https://arxiv.org/abs/1708.04896.
    """
    if not boxes.any():
        return images
    left, top, right, bottom = boxes.to(images.device)[:, :, None, None].unbind(1)
    x = torch.arange(images.shape[3], device=images.device)[None, None, :]
    y = torch.arange(images.shape[2], device=images.device)[None, :, None]
    inside = (left <= x) & (x < right) & (top <= y) & (y < bottom)
    return images.masked_fill(inside[:, None], 0.0)


def erasing_boxes(area: Tensor, ratio: Tensor, place: Tensor, *, height: int, width: int) -> Tensor:
    """Where to erase.

    Args:
        area: ``(B,)`` share of the image in ``(0, 1)``; 0 gives an empty box.
        ratio: ``(B,)`` width by height, as shares.
        place: ``(B, 2)`` in ``[0, 1]``: from the left or top end to the other.
        height: Of the images.
        width: Of the images.

    Returns:
        ``(B, 4)`` integers for ``erase``.
    """
    size = torch.tensor([width, height])
    sides = (crop_sides(area.clamp(min=1e-9), ratio) * size).round().long() * (area > 0)[:, None]
    start = (place * (size - sides)).round().long() * (area > 0)[:, None]
    return torch.cat([start, start + sides], 1)
