"""The candidates of ``sweep=backbones``: what composes each of them, and whether it has pretrained weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.errors import MissingConfigException

from ft.errors import UserError

Compose = Callable[[Sequence[str]], Mapping[str, Any]]


@dataclass(frozen=True)
class Candidate:
    """A backbone that is looked at.

    Attributes:
        name: As it was given.
        key: ``model`` of a choice in ``conf/model``, ``model.name`` of a timm name.
        model: The config's section.
        weights: Where they are, for people.
    """

    name: str
    key: str
    model: Mapping[str, Any]
    weights: str

    @property
    def override(self) -> str:
        return f"{self.key}={self.name}"

    @property
    def params(self) -> dict[str, str]:
        return {self.key: self.name}


def find_candidates(names: Sequence[str], compose: Compose) -> tuple[list[Candidate], list[str]]:
    """Those with pretrained weights, and the names of those without.

    Args:
        names: Choices of ``conf/model``, or timm names; one that says the same as another before it counts once.
        compose: Overrides to a job's config.

    Raises:
        UserError: A name is neither, nothing is named, all are to have the same weights, or none has any.
    """
    if not names:
        raise UserError("sweep.candidates is empty: it must list choices of conf/model, or timm names.")
    given = compose([])["model"].get("weights", "auto")
    if given not in ("auto", "required"):
        raise UserError(
            f"sweep=backbones compares pretrained models, and model.weights={given} is not for all of them: "
            "leave it out, or name a folder with model.weights_dir."
        )
    keys, sections = _sections(names, compose)
    # Models that are not timm's know themselves where their weights are.
    theirs = {name: section for name, section in sections.items() if "name" in section}
    found = _weights({name: {**section, "weights": "auto"} for name, section in theirs.items()})
    candidates = [
        Candidate(name, keys[name], section, found.get(name, "the model's own"))
        for name, section in sections.items()
        if found.get(name) != "random"
    ]
    without = [name for name in sections if found.get(name) == "random"]
    if not candidates:
        raise UserError(
            f"none of sweep.candidates has pretrained weights in reach: {', '.join(without)}.\n"
            "Set model.weights_dir=FOLDER with <timm name>.safetensors in it, or connect to the Hugging Face hub."
        )
    return candidates, without


def _sections(names: Sequence[str], compose: Compose) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
    keys: dict[str, str] = {}
    sections: dict[str, Mapping[str, Any]] = {}
    for name in map(str, names):
        try:
            key, section = "model", compose([f"model={name}"])["model"]
        except MissingConfigException:
            key, section = "model.name", compose([f"model.name={name}"])["model"]
        if section not in sections.values():
            keys[name], sections[name] = key, section
    return keys, sections


def _weights(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    # timm and torch come with it.
    from ft.model.candidates import weights_of

    try:
        return {name: str(found) for name, found in weights_of(sections).items()}
    except UserError as error:
        raise UserError(f"sweep.candidates: {error}") from None
