"""Coloured shapes on noise: learnable in seconds, made on the spot; for tests and for trying things out."""

from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw

from ft.data.source import ArrayImages, Source, Split
from ft.errors import one_of, require

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {"red": (220, 60, 50), "green": (60, 190, 80), "blue": (60, 90, 220)}
Kind = Literal["classes", "labels", "values"]
SPLITS = ("train", "val", "test")


def synthetic(*, num_images: int, num_classes: int, size: int, kind: Kind, seed: int) -> Source:
    """Images of one shape each.

    Args:
        num_images: For training; validation and test get a quarter each.
        num_classes: Between 2 and 12: shapes first, then shapes in colours.
        size: Side in pixels.
        kind: ``classes`` (which shape), ``labels`` (has it this shape, is it this colour: columns of 0 and 1) or
            ``values`` (the shape's x, y and radius, each in ``[0, 1]``).
        seed: Of every random choice.

    Raises:
        UserError: An argument is out of range.
    """
    require(2 <= num_classes <= len(SHAPES) * len(COLOURS), "data.num_classes", "must be between 2 and 12", num_classes)
    require(num_images >= num_classes, "data.num_images", "must be at least data.num_classes", num_images)
    require(size >= 16, "data.size", "must be at least 16", size)
    one_of(kind, get_args(Kind), "data.kind")
    splits = {}
    for number, name in enumerate(SPLITS):
        count = num_images if name == "train" else max(num_classes, num_images // 4)
        splits[name] = _split(np.random.default_rng([seed, number]), name, count, num_classes, size, kind)
    return Source(
        splits,
        classes=tuple(class_name(number) for number in range(num_classes)) if kind == "classes" else (),
        columns={"classes": (), "labels": (*SHAPES, *COLOURS), "values": ("x", "y", "radius")}[kind],
        in_memory=True,
    )


def class_name(number: int) -> str:
    colour = list(COLOURS)[number // len(SHAPES)]
    return f"{colour} {SHAPES[number % len(SHAPES)]}"


def _split(generator: np.random.Generator, name: str, count: int, num_classes: int, size: int, kind: str) -> Split:
    pixels = np.empty((count, size, size, 3), dtype=np.uint8)
    labels = []
    for number in range(count):
        which = number % num_classes
        shape, colour = SHAPES[which % len(SHAPES)], list(COLOURS)[which // len(SHAPES)]
        x, y = generator.uniform(0.35, 0.65, 2)
        radius = generator.uniform(0.2, 0.33)
        pixels[number] = _draw(generator, size, shape, COLOURS[colour], x, y, radius)
        labels.append(
            {
                "classes": class_name(which),
                "labels": [float(shape == s) for s in SHAPES] + [float(colour == c) for c in COLOURS],
                "values": [x, y, radius],
            }[kind]
        )
    return Split(ArrayImages(pixels), np.array(labels), [f"synthetic/{name}/{number}" for number in range(count)])


def _draw(
    generator: np.random.Generator, size: int, shape: str, fill: tuple[int, int, int], x: float, y: float, radius: float
) -> np.ndarray:
    image = Image.fromarray(generator.integers(0, 90, (size, size, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    x, y, r = x * size, y * size, radius * size
    match shape:
        case "circle":
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        case "square":
            draw.rectangle((x - r, y - r, x + r, y + r), fill=fill)
        case "triangle":
            draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=fill)
        case _:
            draw.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill=fill)
            draw.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill=fill)
    return np.asarray(image)
