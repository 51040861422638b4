"""What the sweep has decided, in one sentence, and no more than it can say."""

from collections.abc import Sequence

from ft.sweeps.report.material import Material
from ft.sweeps.report.rivals import MCNEMAR, Rival
from ft.sweeps.trial import RUNNING

# So many are named; of more, their number is.
MOST_NAMED = 4


def decision(material: Material, rivals: Sequence[Rival]) -> str:
    """Which trial is best, and which cannot be told from it."""
    if not material.ranked:
        running = any(row["state"] == RUNNING for row in material.rows)
        return "No trial has finished yet." if running else "No trial has finished: there is nothing to choose from."
    if material.is_of_backbones:
        return _of_backbones(material)
    best = _with_its_words(material)
    so_far = "So far, " if any(row["state"] == RUNNING for row in material.rows) else ""
    begin = f"{so_far}{best}" if so_far else best.replace("trial ", "Trial ", 1) if best.startswith("trial ") else best
    if not rivals:
        return f"{begin} is the only one that has finished."
    tied = [rival for rival in rivals if rival.difference is not None and not rival.differs]
    behind = [rival for rival in rivals if rival.differs]
    unknown = [rival for rival in rivals if rival.difference is None]
    parts = []
    if tied:
        cannot = f"{_listed([material.name_of(rival.row) for rival in tied])} cannot be told from it{_on(tied)}"
        parts.append(cannot)
    if behind:
        parts.append(f"it is really better than {_listed([material.name_of(rival.row) for rival in behind])}"
                     f"{'' if tied else _on(behind)}")  # fmt: skip
    if unknown and not tied and not behind:
        parts.append("the others cannot be compared with it")
    return f"{begin} is best; {'; '.join(parts)}."


def _of_backbones(material: Material) -> str:
    """The candidate that was chosen, which need not be the one with the best value."""
    chosen = material.ranked[0]
    name = material.name_of(chosen)
    if not chosen.get("chosen"):
        return f"So far, {name} is best."
    alike = [row for row in material.ranked if row["metrics"].get("stage") == chosen["metrics"].get("stage")]
    best = (max if material.mode == "max" else min)(alike, key=lambda row: row["value"])
    if best["value"] == chosen["value"]:
        return f"{name} is best on frozen features, and is chosen."
    return f"{name} is chosen: these images cannot tell it from {material.name_of(best)}, the best, which costs more."


def _with_its_words(material: Material) -> str:
    """The best trial, and what it is where its name does not say it."""
    row = material.ranked[0]
    name, words = material.name_of(row), material.words_of(row)
    return f"{name} ({words})" if words and name == f"trial {row['number']}" else name


def _on(found: Sequence[Rival]) -> str:
    """On which images, or with how many seeds."""
    images = {rival.num_images for rival in found if rival.num_images}
    seeds = any(rival.test != MCNEMAR and "seeds" in rival.test for rival in found)
    if not images:
        return " with these seeds"
    return f" on {max(images):,} validation images{' and these seeds' if seeds else ''}"


def _listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b, c, d and 3 more``; ``trials 1, 2 and 3``."""
    if len(names) > 1 and all(name.startswith("trial ") for name in names):
        return f"trials {_listed([name.removeprefix('trial ') for name in names])}"
    shown = list(names) if len(names) <= MOST_NAMED + 1 else [*names[:MOST_NAMED], f"{len(names) - MOST_NAMED} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
