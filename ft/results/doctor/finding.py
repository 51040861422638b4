"""What the doctor says: one kind of trouble, how bad it is, and every image or class that has it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ft.results.doctor.subject import Subject

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)


@dataclass(frozen=True)
class Finding:
    """One entry of ``doctor.json``; the package's docstring has the kinds.

    Attributes:
        kind: Such as ``leakage``.
        severity: ``error``, ``warning`` or ``info``.
        title: One line for people, with the count in it.
        items: All of them, as plain values.
        rows: For each item the rows of the subject that it is about, for pictures.
    """

    kind: str
    severity: str
    title: str
    items: list[dict[str, Any]]
    rows: list[tuple[int, ...]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "title": self.title,
            "count": len(self.items),
            "items": self.items,
        }


def file_of(subject: Subject, row: int) -> dict[str, Any]:
    """A FILE of ``doctor.json``."""
    split, part, position = subject.where(row)
    return {"split": split, "file": part.names[position], "label": subject.label(part.targets[position])}


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, warnings, the rest; otherwise in the order given."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 image``, ``2 images``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
