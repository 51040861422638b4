"""``sweep=backbones``: which pretrained backbone suits the data, for a fraction of what training all of them takes.

    first look    every candidate, small images, few of them     cross-validated metric of the solved head
    second look   the best few, their own resolution, more       likewise
    decision      the best; among those that cannot be told apart from it, the quickest

Candidates cannot be told apart when they differ by no more than a standard error (``sweep.alike``) of the difference:
all have predicted the same images, so it is that of a paired bootstrap. Before the second look twice as much is allowed
(``sweep.refine_within``), for small images flatter some backbones. How a backbone would train further is not looked at.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ft.errors import require
from ft.job_folder import FINISHED
from ft.sweeps.backbones.candidates import Candidate, Compose, find_candidates
from ft.sweeps.backbones.looks import FIRST, SECOND, Driver, Look, Seen, difference_error, row

KIND = "backbone"
LEAST = {
    "folds": 2, "images": 2, "refine": 0, "refine_within": 0, "refine_images": 2, "alike": 0, "timed_batch": 1,
    "timed_rounds": 1,
}  # fmt: skip
# All images there are.
MAY_BE_NULL = ("images", "refine_images")


@dataclass(frozen=True)
class Choice:
    """The decision.

    Attributes:
        chosen: The candidate.
        best: The one with the best value; often the same.
        rivals: Names of the others that cannot be told apart from the best.
        seen: All, in the order of the list.
        without: Names of candidates without pretrained weights.
        mode: ``max`` or ``min``.
        metric: Its name.
    """

    chosen: Seen
    best: Seen
    rivals: tuple[str, ...]
    seen: tuple[Seen, ...]
    without: tuple[str, ...]
    mode: str
    metric: str


def asked_candidates(settings: Mapping[str, Any], compose: Compose) -> tuple[list[Candidate], list[str]]:
    """Those with pretrained weights, and the names of those without; nothing is written.

    Args:
        settings: The composed section ``sweep``.
        compose: Overrides to a job's config.

    Raises:
        UserError: A setting is wrong, or no candidate has weights.
    """
    _check(settings)
    return find_candidates(settings["candidates"], compose)


def rank_backbones(request: Driver, candidates: Sequence[Candidate], without: Sequence[str]) -> Choice | None:
    """Looks at all candidates, then again at the best, and decides; shows and writes all of it.

    Args:
        request: What the sweep does for it.
        candidates: With weights.
        without: Names of those that have none.

    Returns:
        ``None`` where every candidate failed; the rows say why.
    """
    settings = request.settings
    task = request.compose([])["task"]
    seen = [Seen(number, candidate) for number, candidate in enumerate(candidates)]
    first = {"resolution": settings["resolution"], "images": settings["images"], "folds": settings["folds"]}
    seen = _look(request, seen, seen, FIRST, first)
    if not (finished := _finished(seen)):
        return None
    seen = _timed(request, seen, finished)
    mode = task["mode"]
    again = _may_be_best(_finished(seen), mode, count=settings["refine"], within=settings["refine_within"])
    second = {"resolution": None, "images": settings["refine_images"], "folds": settings["folds"]}
    seen = _look(request, seen, again, SECOND, second)
    choice = decide(seen, mode=mode, metric=task["metric"], alike=settings["alike"], without=without)
    request.rows([row(each, chosen=each is choice.chosen) for each in seen])
    # Its pictures are not paid for by a sweep that is refused.
    from ft.sweeps.backbones.report import tell

    tell(choice, request.path)
    return choice


def decide(seen: Sequence[Seen], *, mode: str, metric: str, alike: float, without: Sequence[str] = ()) -> Choice:
    """The best of those with the most looks; among those that cannot be told apart from it, the one of least cost.

    Args:
        seen: Of which at least one has a look that came to its end.
        mode: ``max`` or ``min``.
        metric: The task's.
        alike: Standard errors of a difference, up to which it may be chance.
        without: Names of candidates that nobody looked at.
    """
    finished = _finished(seen)
    stage = max(each.last.stage for each in finished)
    compared = [each for each in finished if each.last.stage == stage]
    best = _best(compared, mode)
    rivals = [each for each in compared if each is best or _distance(best, each, mode) <= alike]
    chosen = min(rivals, key=lambda each: each.cost)
    names = tuple(each.candidate.name for each in rivals if each is not best)
    return Choice(chosen, best, names, tuple(seen), tuple(without), mode, metric.rpartition("/")[2])


def _check(settings: Mapping[str, Any]) -> None:
    """Before any job: of those, each would tell the same.

    Raises:
        UserError: A value is out of range.
    """
    for key, least in LEAST.items():
        value = settings[key]
        kept = key in MAY_BE_NULL if value is None else value >= least
        require(kept, f"sweep.{key}", f"must be at least {least}", value)
    share = settings["resolution"]
    require(share is None or 0 < share <= 1, "sweep.resolution", "must be in (0, 1]", share)


def _finished(seen: Sequence[Seen]) -> list[Seen]:
    return [each for each in seen if each.finished]


def _best(seen: Sequence[Seen], mode: str) -> Seen:
    return (max if mode == "max" else min)(seen, key=lambda each: each.last.value)


def _may_be_best(seen: Sequence[Seen], mode: str, *, count: int, within: float) -> list[Seen]:
    """Best first, at most ``count``; nothing to find out where only one may be the best."""
    best = _best(seen, mode)
    near = [each for each in seen if each is best or _distance(best, each, mode) <= within]
    near.sort(key=lambda each: each.last.value, reverse=mode == "max")
    return near[:count] if len(near) > 1 else []


def _distance(best: Seen, other: Seen, mode: str) -> float:
    """How much better the first one is, in standard errors of the difference."""
    better = best.last.value - other.last.value if mode == "max" else other.last.value - best.last.value
    error = difference_error(best.last.folder, other.last.folder)
    return better / error if error > 0 else (0.0 if better == 0 else math.inf)


def _look(
    request: Driver, seen: Sequence[Seen], these: Sequence[Seen], stage: int, asked: Mapping[str, Any]
) -> list[Seen]:
    """The list with one look more at some of it; shown after each that has come."""
    now = {each.number: each for each in seen}
    folders = {each.number: request.ask(KIND, [each.candidate.override], asked) for each in these}
    numbers, step = list(folders), request.settings["parallel"]
    for start in range(0, len(numbers), step):
        some = numbers[start : start + step]
        for number, result in zip(some, request.run([folders[number] for number in some]), strict=True):
            look = Look(stage, folders[number], result)
            # A second look that fails leaves what the first one said.
            if result.status == FINISHED or stage == FIRST:
                now[number] = replace(now[number], looks=(*now[number].looks, look))
        request.rows([row(each) for each in now.values()])
    return list(now.values())


def _timed(request: Driver, seen: Sequence[Seen], finished: Sequence[Seen]) -> list[Seen]:
    """The list with milliseconds an image; without, where they cannot be measured."""
    settings = request.settings
    asked = {
        "models": {each.candidate.name: each.candidate.model for each in finished},
        "batch": settings["timed_batch"],
        "rounds": settings["timed_rounds"],
    }
    result = request.run([request.ask(KIND, [], asked)])[0]
    times = {name: result.metrics.get(f"ms_per_image/{name}") for name in asked["models"]}
    return [replace(each, milliseconds=times.get(each.candidate.name)) for each in seen]
