"""What a sweep is asked for, from the words of the command line; a sweep that goes on remembers its own."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from ft.duration import seconds_of
from ft.errors import UserError, one_of, require, require_extra
from ft.plain_files import is_plain_name
from ft.rules.check import check_values
from ft.sweeps.compose import Composer
from ft.sweeps.folder import SweepFolder
from ft.sweeps.samplers.searchable import refuse_unsearchable
from ft.sweeps.space.space import Space, as_overrides, read_space

METHODS = ("trials", "backbones")
# Of a sweep, what may change when it goes on; what is searched is told apart from it.
MAY_CHANGE = (
    "name", "trials", "finalists", "budget", "storage", "parallel", "retries", "isolate", "share", "soup", "report",
    "job",
)  # fmt: skip
TOLD_APART = ("space", "overrides", "metrics")
# Of the sweep itself, never of a run.
OWN = ("sweep", "launcher", "resume", "runs_dir")


@dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        arguments: The words of the command line; of a sweep that goes on its own, then the new ones.
        own: Those of them that are the sweep's, not its runs'.
        choice: Of the group ``sweep``.
        settings: The section ``sweep`` of the config.
        space: What varies.
        fixed: Overrides of every run.
        metric: What decides: the first of ``sweep.metrics``, or the task's.
        mode: ``max`` or ``min``.
        returned: Its name, unless it is the task's.
        seed: Of the first run of each trial.
        runs_dir: Where runs and sweeps go.
        one_process: Whether a run is one; several start the command anew, which in a sweep would start the sweep.
    """

    arguments: tuple[str, ...]
    own: tuple[str, ...]
    choice: str
    settings: Mapping[str, Any]
    space: Space
    fixed: tuple[str, ...]
    metric: str
    mode: str
    returned: str
    seed: int
    runs_dir: str
    one_process: bool

    @property
    def metrics(self) -> dict[str, str]:
        """What is optimised, and which way."""
        return dict(self.settings["metrics"] or {self.metric: self.mode})

    @property
    def budget(self) -> float | None:
        """Seconds."""
        return seconds_of(self.settings["budget"], "sweep.budget")

    def identity(self) -> dict[str, Any]:
        """What makes another sweep of it: the space, what is common to its runs, and how it is searched."""
        told = {key: value for key, value in self.settings.items() if key not in (*MAY_CHANGE, *TOLD_APART)}
        return {
            **told,
            "metrics": self.metrics,
            # A word that is said twice, as with resume=, says nothing new.
            "overrides": sorted(set(self.fixed)),
            "space": self.space.texts(),
            "seed": self.seed,
        }

    @property
    def name(self) -> str:
        """Of its folder: the same command finds its own."""
        digest = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
        return self.settings["name"] or f"{self.choice}_{digest[:6]}"


def read_request(arguments: Sequence[str], composer: Composer) -> Request:
    """Reads and checks what is asked; nothing is written yet.

    Args:
        arguments: Of the command line.
        composer: Composes configs.

    Raises:
        UserError, HydraException, OmegaConfBaseException: Anything that could be known before the first run.
    """
    words = _remembered(arguments, composer)
    parser = OverridesParser.create(config_loader=composer.loader)
    of_sweep = [each for each in parser.parse_overrides(list(words)) if _key(each) in OWN]
    for each in of_sweep:
        if each.is_sweep_override():
            raise UserError(f"{each.key_or_group} is of the sweep itself, so it takes one value.")
    own = tuple(each.input_line or "" for each in of_sweep)
    settings = composer.plain(own)["sweep"]
    _check(settings)
    space, rest = read_space(words, settings["space"] or {}, composer.loader)
    parsed = parser.parse_overrides([*settings["overrides"], *rest])
    fixed = [each.input_line or "" for each in parsed if _key(each) not in OWN]
    config = composer.plain([*fixed, *own])
    check_values(config, composer.config_name)
    _check_screen(settings["screen"], fixed, space, composer)
    if settings["seeds"] > 1 and any(parameter.key == "seed" for parameter in space.parameters):
        raise UserError("seed is searched already: leave out sweep.seeds, or seed=...")
    if settings["method"] == "backbones":
        _refuse_search(space, settings)
    else:
        metrics = settings["metrics"] or [config["task"]["metric"]]
        refuse_unsearchable(space, sampler=settings["sampler"], pruner=settings["pruner"], metrics=list(metrics))
    _try_each(space, fixed, composer)
    task = config["task"]
    metric, mode = next(iter((settings["metrics"] or {task["metric"]: task["mode"]}).items()))
    choice = next((str(each.value()) for each in of_sweep if each.key_or_group == "sweep"), "grid")
    return Request(
        tuple(words), own, choice, settings, space, tuple(fixed),
        metric=metric, mode=mode, returned="" if metric == task["metric"] else metric, seed=config["seed"],
        runs_dir=config["runs_dir"], one_process=config["trainer"]["strategy"] == "auto",
    )  # fmt: skip


def refuse_another(request: Request, asked: Mapping[str, Any], *, resumed: bool) -> None:
    """Refuses to go on in the folder of another sweep; a grid may have grown.

    Args:
        request: What is asked now.
        asked: ``sweep.yaml`` of the folder; empty for a new one.
        resumed: By ``resume=``, not by name.

    Raises:
        UserError: Names what differs.
    """
    if not asked:
        return
    now = request.identity()
    grown = now["sampler"] == "grid" and now["space"].keys() == asked.get("space", {}).keys()
    for key, value in now.items():
        if asked.get(key) != value and not (key == "space" and grown):
            end = "leave out resume=" if resumed else "choose another sweep.name"
            before, after = _differing(asked.get(key), value)
            raise UserError(
                f"the sweep {request.name} is another one: of its {key}, {before} was asked,\n"
                f"now {after}. To begin a new sweep, {end}."
            )


def _remembered(arguments: Sequence[str], composer: Composer) -> list[str]:
    """The words of the sweep that ``resume=`` names, then the new ones."""
    named = [word.partition("=")[2] for word in arguments if word.startswith("resume=")]
    words = [word for word in arguments if not word.startswith("resume=")]
    if not named or named[-1] in ("", "null"):
        return words
    places = [word for word in words if word.startswith("runs_dir=")]
    runs_dir = composer.plain(places)["runs_dir"]
    folder = SweepFolder.find(named[-1].strip("'\""), runs_dir=runs_dir, key="resume")
    remembered = [str(word) for word in folder.asked().get("arguments", ())]
    # Hydra builds and calls what its own section names: only who types the command may say so.
    if of_hydra := [word for word in remembered if re.match(r"[+~]*hydra\b", word)]:
        raise UserError(
            f"resume={named[-1]}: its sweep.yaml sets {of_hydra[0][:100]}, and hydra's own keys are only taken from "
            "the command line: say it there, and remove it from sweep.yaml."
        )
    return [*remembered, f"sweep.name={folder.name}", *words]


def _check(settings: Mapping[str, Any]) -> None:
    one_of(settings["method"], METHODS, "sweep.method")
    one_of(settings["soup"], ("none", "greedy"), "sweep.soup")
    # Without spaces: it is printed as a part of commands.
    named = settings["name"] is None or (is_plain_name(settings["name"]) and " " not in settings["name"])
    require(named, "sweep.name", "must be the name of one folder, without spaces", settings["name"])
    # Both stand beside the sweeps already: the newest, and the winners as experiments.
    require(settings["name"] not in ("last", "experiment"), "sweep.name", "must be another name", settings["name"])
    for key, least in (("seeds", 1), ("parallel", 1), ("retries", 0), ("pruner_warmup", 0), ("finalists", 1)):
        value = settings[key]
        whole = isinstance(value, int) and not isinstance(value, bool)
        require(whole and value >= least, f"sweep.{key}", f"must be a whole number of at least {least}", value)
    trials = settings["trials"]
    fits = trials is None or (isinstance(trials, int) and not isinstance(trials, bool) and trials >= 1)
    require(fits, "sweep.trials", "must be a whole number of at least 1, or null", trials)
    space = settings["space"]
    require(space is None or isinstance(space, dict), "sweep.space", "must be {key: values, ...}, or null", space)
    words = settings["overrides"]
    texts = isinstance(words, list) and all(isinstance(word, str) for word in words)
    require(texts, "sweep.overrides", 'must be a list of text, such as ["optimizer=adam"]', words)
    metrics = settings["metrics"] or {}
    require(isinstance(metrics, dict), "sweep.metrics", "must be {name: max or min}, or null", metrics)
    for name, mode in metrics.items():
        one_of(mode, ("max", "min"), f"sweep.metrics.{name}")
    seconds_of(settings["budget"], "sweep.budget")
    if settings["sampler"] != "grid" and settings["method"] == "trials":
        require_extra("optuna", "sweep", f"sweep.sampler={settings['sampler']}")


def _refuse_search(space: Space, settings: Mapping[str, Any]) -> None:
    """Of a sweep that searches nothing but its candidates, and goes by the task's metric."""
    if space.parameters:
        key = space.parameters[0].key
        raise UserError(f"{key} has several values, and sweep=backbones searches nothing but sweep.candidates.")
    require(not settings["metrics"], "sweep.metrics", "must be null for sweep=backbones", settings["metrics"])


def _check_screen(screen: Any, fixed: Sequence[str], space: Space, composer: Composer) -> None:
    """Composes a run that is screened: what cannot be is found before the first."""
    if screen is None:
        return
    require(isinstance(screen, dict), "sweep.screen", "must be {key: value, ...}, or null", screen)
    if twice := sorted(screen.keys() & {parameter.key for parameter in space.parameters}):
        raise UserError(f"sweep.screen sets {twice[0]}, which is searched: leave it out of one of them.")
    check_values(composer.plain([*fixed, *as_overrides(screen)]), composer.config_name)


def _try_each(space: Space, fixed: Sequence[str], composer: Composer) -> None:
    """Composes every parameter once: a key or a value that cannot be is found before the first run."""
    for parameter in space.parameters:
        needed = {key: values[0] for key, values in parameter.when.items()}
        for value in parameter.choices if parameter.kind == "choice" else (parameter.low,):
            composed = composer.plain([*fixed, *as_overrides({**needed, parameter.key: value})])
            check_values(composed, composer.config_name)


def _key(override: Any) -> str:
    return override.key_or_group.partition(".")[0]


def _differing(before: Any, after: Any) -> tuple[str, str]:
    """Both as text; of two lists or mappings only what one has and the other has not."""
    if isinstance(before, list) and isinstance(after, list):
        return _words(each for each in before if each not in after), _words(
            each for each in after if each not in before
        )
    if isinstance(before, dict) and isinstance(after, dict):
        one, other = ([f"{key}={value}" for key, value in each.items()] for each in (before, after))
        return _differing(one, other)
    return str(before), str(after)


def _words(words: Iterable[str]) -> str:
    text = " ".join(words) or "nothing"
    return text if len(text) <= 160 else f"{text[:157]}..."
