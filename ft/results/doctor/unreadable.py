"""Files that cannot be read: all of them, those without a valid header and those whose body is damaged."""

from collections.abc import Iterable

from ft.results.doctor.finding import ERROR, Finding, plural
from ft.results.doctor.look import Looks
from ft.results.doctor.subject import Subject


def unreadable_finding(subject: Subject, headers: Iterable[tuple[str, str]], looks: Looks) -> list[Finding]:
    """One finding, or none.

    Args:
        subject: The data set, without those of ``headers``.
        headers: Name and reason of the files that are no images at all.
        looks: Knows which could not be decoded.
    """
    items = [{"file": name, "why": why} for name, why in headers]
    for row, why in looks.unreadable.items():
        _, part, position = subject.where(row)
        items.append({"file": part.names[position], "why": why})
    if not items:
        return []
    title = f"{plural(len(items), 'file')} cannot be read"
    return [Finding("unreadable", ERROR, title, items, [() for _ in items])]
