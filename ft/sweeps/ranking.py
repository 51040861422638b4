"""Rows of ``trials.json`` in the order of their values, and why trials failed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ft.job_folder import FAILED, FINISHED

Row = Mapping[str, Any]


def has_value(row: Row) -> bool:
    """Whether it can be ranked: it finished, and its value is a number."""
    return row["state"] == FINISHED and row["value"] is not None and math.isfinite(row["value"])


def best_first(rows: Sequence[Row], mode: str) -> list[Row]:
    """The trials that can be ranked; of equal ones the earlier first.

    Of backbones, the one that was chosen is the first though another may have the better value at a higher cost; and
    those that were looked at more closely come before the others, whose values are of other images.

    Args:
        rows: Of ``trials.json``.
        mode: ``max`` or ``min``.
    """
    sign = -1 if mode == "max" else 1
    return sorted(
        filter(has_value, rows),
        key=lambda row: (
            not row.get("chosen", False),
            -row["metrics"].get("stage", 0),
            sign * row["value"],
            row["number"],
        ),
    )


def reason(row: Row) -> str:
    """Of a failed trial, in one line."""
    for job in row["jobs"]:
        if job["status"] == FAILED:
            said = (str(job.get("message") or "").splitlines() or [""])[0]
            return said or str(job.get("why") or "") or "no reason was given"
    return "no reason was given"
