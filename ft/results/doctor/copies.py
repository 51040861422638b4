"""Images that are the same: byte for byte, pixel for pixel, or nearly; and what a group of them means.

in several splits       leakage, near_leakage            the test measures memory
labelled differently    conflicting_labels, ...          one of the labels is wrong
neither                 duplicates, near_duplicates      they weigh twice
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ft.data.images import to_mode
from ft.results.doctor.finding import ERROR, INFO, WARNING, Finding, file_of, plural
from ft.results.doctor.look import Looks, digest
from ft.results.doctor.subject import Subject

BYTES, PIXELS, NEARLY = "bytes", "pixels", "nearly"


@dataclass(frozen=True)
class Copies:
    """A group of images that are the same.

    Attributes:
        rows: Of the subject, at least two.
        same: ``bytes``, ``pixels`` or ``nearly``.
        likeness: Of the least alike pair that was compared; 1 for identical ones.
    """

    rows: tuple[int, ...]
    same: str
    likeness: float = 1.0


def identical(subject: Subject, looks: Looks) -> list[Copies]:
    """All groups of images with equal bytes or equal pixels."""
    return [
        Copies(tuple(int(looks.rows[at]) for at in group), _how(looks, group))
        for drafted in _groups(range(len(looks.looks)), lambda at: looks.looks[at].pixels)
        # A JPEG was looked at in a fraction of its size: that two files with different bytes have the same pixels, the
        # pixels themselves have to say.
        for group in ([drafted] if _how(looks, drafted) == BYTES else _by_full_pixels(subject, looks, drafted))
    ]


def copies_findings(subject: Subject, groups: Sequence[Copies]) -> list[Finding]:
    """What the groups mean; a group that is in several splits with different labels is in both findings."""
    found = []
    for nearly in (False, True):
        of_kind = [group for group in groups if (group.same == NEARLY) is nearly]
        files = {group.rows: [file_of(subject, row) for row in group.rows] for group in of_kind}
        leaking = [group for group in of_kind if len({file["split"] for file in files[group.rows]}) > 1]
        conflicting = [group for group in of_kind if len({file["label"] for file in files[group.rows]}) > 1]
        rest = [group for group in of_kind if group not in leaking and group not in conflicting]
        severity = WARNING if nearly else ERROR
        word = "nearly identical" if nearly else "identical"
        for kind, bad, chosen, title in (
            ("near_leakage" if nearly else "leakage", severity, leaking, "in several splits"),
            ("near_conflicts" if nearly else "conflicting_labels", severity, conflicting, "labelled differently"),
            ("near_duplicates" if nearly else "duplicates", INFO, rest, "in one split, with one label"),
        ):
            if chosen:
                title = f"{plural(len(chosen), 'group')} of {word} images {title}"
                items = [_item(group, files[group.rows]) for group in chosen]
                found.append(Finding(kind, bad, title, items, [group.rows for group in chosen]))
    return found


def _item(group: Copies, files: list[dict[str, object]]) -> dict[str, object]:
    likeness = {"likeness": round(group.likeness, 3)} if group.same == NEARLY else {}
    return {"same": group.same, **likeness, "files": files}


def _groups(members: Iterable[int], key: Callable[[int], str]) -> list[list[int]]:
    by_key: dict[str, list[int]] = defaultdict(list)
    for member in members:
        by_key[key(member)].append(member)
    return [group for group in by_key.values() if len(group) > 1]


def _by_full_pixels(subject: Subject, looks: Looks, group: Sequence[int]) -> list[list[int]]:
    # Without files, the pixels were looked at in full already.
    if not looks.looks[group[0]].file:
        return [list(group)]
    return _groups(group, lambda at: digest(to_mode(subject.image(int(looks.rows[at])), "RGB")))


def _how(looks: Looks, group: Sequence[int]) -> str:
    files = {looks.looks[at].file for at in group}
    return BYTES if len(files) == 1 and files != {""} else PIXELS
