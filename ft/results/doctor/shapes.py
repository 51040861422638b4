"""Sizes, shapes and kinds of the images, beside what the model sees of them."""

import math
from collections import Counter

from ft.input_spec import InputSpec
from ft.results.doctor.finding import INFO, Finding, file_of, plural
from ft.results.doctor.look import Look, Looks
from ft.results.doctor.subject import Subject

# Stored like this, an image loses nothing that anybody would wonder about.
PLAIN = {"L": ("grey", "RGB"), "RGB": ("RGB",), "RGBA": ("RGB", "RGB with transparency")}


def shape_findings(subject: Subject, looks: Looks, spec: InputSpec, *, extreme_aspect: float) -> list[Finding]:
    """Images that are enlarged, images of which the crop leaves little, and images that are not plain RGB.

    Args:
        subject: The data set.
        looks: Of its images.
        spec: What the model sees.
        extreme_aspect: Longer side by shorter side, from which on a shape is extreme.
    """
    total = max(len(looks.looks), 1)
    found = []
    small = [at for at, look in enumerate(looks.looks) if enlarged(look, spec)]
    if small:
        title = f"{plural(len(small), 'image is', 'images are')} enlarged to the input size ({len(small) / total:.0%})"
        found.append(_sized("small_images", title, subject, looks, small))
    long = [
        at
        for at, look in enumerate(looks.looks)
        if max(look.width, look.height) >= extreme_aspect * min(look.width, look.height)
    ]
    if long:
        title = f"{plural(len(long), 'image is', 'images are')} at least {extreme_aspect:g} times as long as wide"
        found.append(_sized("extreme_shapes", title, subject, looks, long))
    modes = Counter(look.mode for look in looks.looks if look.mode not in PLAIN[spec.pillow_mode])
    if modes:
        listed = ", ".join(f"{number:,} {mode}" for mode, number in modes.most_common())
        title = f"{plural(modes.total(), 'image is', 'images are')} converted to {spec.pillow_mode}: {listed}"
        rows = [next(int(looks.rows[at]) for at, k in enumerate(looks.looks) if k.mode == mode) for mode in modes]
        items = [
            {"mode": mode, "count": number, "example": file_of(subject, row)}
            for (mode, number), row in zip(modes.items(), rows, strict=True)
        ]
        found.append(Finding("modes", INFO, title, items, [(row,) for row in rows]))
    return found


def enlarged(look: Look, spec: InputSpec) -> bool:
    """Whether ``EvaluationTransform`` makes it larger than it is."""
    sides = ((spec.height, look.height), (spec.width, look.width))
    return any(math.floor(wanted / spec.crop_pct) > there for wanted, there in sides)


def _sized(kind: str, title: str, subject: Subject, looks: Looks, chosen: list[int]) -> Finding:
    rows = [int(looks.rows[at]) for at in chosen]
    sizes = [{"width": looks.looks[at].width, "height": looks.looks[at].height} for at in chosen]
    items = [{**file_of(subject, row), **size} for row, size in zip(rows, sizes, strict=True)]
    return Finding(kind, INFO, title, items, [(row,) for row in rows])
