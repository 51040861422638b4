"""Mistakes as people make them, drawn from the configs themselves: slips of the fingers in keys, choices and values."""

import random
import re
import string
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ft.command.verb import CONF
from ft.kinds import choices_of
from ft.rules.signatures import parameters
from ft.rules.table import TABLE
from ft.rules.timm_names import model_names

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
GROUPS = (
    "model",
    "data",
    "task",
    "optimizer",
    "schedule",
    "recipe",
    "cache",
    "trainer",
    "sweep",
    "experiment",
    "debug",
)
MODELS = (
    "resnet18", "resnet50", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "convnext_tiny", "mobilenetv3_small_100",
    "swin_tiny_patch4_window7_224", "efficientnet_b0", "deit3_small_patch16_224", "densenet121", "regnety_016",
)  # fmt: skip
# Written as other tools write it, and what it is here.
ELSEWHERE = {
    "lr=0.1": "optimizer.lr", "batch_size=8": "data.batch_size", "epochs=3": "trainer.max_epochs",
    "max_epochs=3": "trainer.max_epochs", "learning_rate=0.1": "optimizer.lr", "wd=0.1": "optimizer.weight_decay",
    "weight_decay=0.1": "optimizer.weight_decay", "num_workers=2": "data.num_workers", "gpus=2": "trainer.devices",
    "devices=2": "trainer.devices", "precision=32": "trainer.precision", "img_size=64": "model.img_size",
    "arch=resnet18": "model.name", "pretrained=true": "model.weights", "dropout=0.1": "model.head.drop_rate",
    "label_smoothing=0.1": "task.label_smoothing", "dataset=folder": "data", "scheduler=cosine": "schedule",
    "data_dir=photos": "data.root", "drop_path_rate=0.1": "model.drop_path_rate",
    "accelerator=cpu": "trainer.accelerator",
}  # fmt: skip
# Words in the style of argparse, or with spaces: each with the key that was meant.
WORDS = (
    ("--lr 0.1", "optimizer.lr"), ("--model resnet", "model"), ("--model=resnet", "model"), ("-model=resnet", "model"),
    ("model resnet", "model"), ("model = resnet", "model"), ("model= resnet", "model"), ("model =resnet", "model"),
    ("--batch-size 8", "data.batch_size"), ("--epochs=3", "trainer.max_epochs"), ("adamw", "optimizer"),
    ("--optimizer.lr=0.1", "optimizer.lr"), ("--multrun", "--multirun"),
    ("--trainer.max_epochs 3", "trainer.max_epochs"),
    ("--data-root photos", "data.root"), ("resnet", "model"), ("--mutlirun optimizer=adam", "--multirun"),
)  # fmt: skip
# A value of the wrong kind or out of range: the key is right, and named with the rule.
WRONG = (
    "trainer.max_epochs=ten", "optimizer.lr=fast", "optimizer.lr=0", "optimizer.lr=-1", "data.batch_size=-1",
    "data.batch_size=0", "data.batch_size=1.5", "data.batch_size=true", "data.batch_size=null", "data.batch_size=[3]",
    "data.num_workers=many", "data.num_workers=-1", "model.head.drop_rate=1", "model.head.drop_rate=half",
    "model.head.hidden=64", "model.in_chans=2", "model.img_size=0", "model.img_size=big", "data.val_fraction=2",
    "data.limit=0", "trainer.accumulate_grad_batches=0", "trainer.gradient_clip_val=-1", "task.label_smoothing=1",
    "optimizer.weight_decay=-0.1", "seed=one", "seed=null", "test=maybe", "report=1", "recipe.mixup=-1",
    "trainer.log_every_n_steps=often", "schedule.warmup=long", "data.balanced=yes", "model.name=5",
)  # fmt: skip
FUNCTIONS = {
    "optimizer.lr=intervall(1,2)": "interval", "optimizer.lr=interva(1,2)": "interval", "seed=rnage(1,5)": "range",
    "optimizer.lr=tga(log,interval(1,2))": "tag", "optimizer=choise(adam,sgd)": "choice", "seed=ragne(1,5)": "range",
}  # fmt: skip


class Typo(NamedTuple):
    """What is typed, and what was meant."""

    verb: str
    words: tuple[str, ...]
    right: str


def slip(name: str, draw: random.Random) -> str:
    """One slip in a name without dots: it comes back changed."""
    ways: list[Callable[[str, int], str]] = [
        lambda s, i: s[:i] + s[i + 1 : i + 2] + s[i] + s[i + 2 :],  # two letters change places
        lambda s, i: s[:i] + s[i + 1 :],  # one is missing
        lambda s, i: s[:i] + s[i] + s[i:],  # one is doubled
        lambda s, i: s[:i] + _neighbour(s[i], draw) + s[i + 1 :],  # the key beside it
        lambda s, i: s.replace("_", "", 1) if "_" in s else s[:i] + "_" + s[i:],
        lambda s, i: s.replace("_", "-", 1) if "_" in s else s,
        lambda s, i: s[:-1] if s.endswith("s") else f"{s}s",
        lambda s, i: s.capitalize() if draw.random() < 0.5 else s.upper(),
    ]
    weights = (4, 4, 3, 3, 1, 1, 2, 1)
    while True:
        # People mistype letters: another number is another name.
        letters = [at for at, letter in enumerate(name) if letter.isalpha() and at < len(name) - 1] or [0]
        changed = draw.choices(ways, weights)[0](name, draw.choice(letters))
        if changed != name and re.search(r"[A-Za-z]", changed):
            return changed


def _neighbour(letter: str, draw: random.Random) -> str:
    row = next((row for row in ROWS if letter.lower() in row), string.ascii_lowercase)
    at = row.find(letter.lower())
    return row[at - 1] if at and draw.random() < 0.5 else row[min(at + 1, len(row) - 1)]


class Generator:
    """Draws typos of every kind.

    Args:
        seed: Of all draws.
    """

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            self.keys = {verb: list(_leaves(compose(verb))) for verb in TABLE}
        self.plugins = {
            file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))
            for file in sorted((CONF / "plugins").glob("*.yaml"))
        }

    def typos(self, count: int) -> list[Typo]:
        """So many, of all kinds by turns, each once."""
        kinds = [
            *[self.key] * 5, *[self.choice] * 3, *[self.value] * 3, self.listed, self.model, self.wrong, self.wrong,
            self.elsewhere, self.word, self.plugin_key, self.plugin_value, self.function,
        ]  # fmt: skip
        found: dict[Typo, None] = {}
        while len(found) < count:
            # The few that are written out may all be used up: the next kind then.
            found.setdefault(kinds[(len(found) + self.draw.randrange(2)) % len(kinds)]())
        return list(found)

    def key(self) -> Typo:
        verb = self.draw.choice(["train"] * 5 + list(self.keys))
        key = self.draw.choice(self.keys[verb])
        parts = key.split(".")
        way = self.draw.random()
        if way < 0.1 and len(parts) > 1:
            wrong = key.replace(".", self.draw.choice("/_"), 1)
        elif way < 0.2 and len(parts) > 2:
            wrong = ".".join(parts[1:])  # without its first part
            if sum(each.endswith(f".{wrong}") for each in self.keys[verb]) > 1:
                return self.key()
        else:
            at = self.draw.choice([at for at, part in enumerate(parts) if len(part) == max(map(len, parts))])
            at = self.draw.choice([at, *(other for other, part in enumerate(parts) if len(part) > 3)])
            wrong = ".".join((*parts[:at], slip(parts[at], self.draw), *parts[at + 1 :]))
        if wrong in self.keys[verb] or wrong in GROUPS:
            return self.key()
        return Typo(verb, (f"{wrong}=1",), key)

    def choice(self) -> Typo:
        group = self.draw.choice(GROUPS)
        choice, wrong = self._slipped([file.stem for file in (CONF / group).glob("*.yaml")])
        words = ("-m",) if group == "sweep" else ()
        return Typo(self.draw.choice(("train", "train", "doctor")), (*words, f"{group}={wrong}"), choice)

    def listed(self) -> Typo:
        group = self.draw.choice(("plugins", "plugins", "logger"))
        choice, wrong = self._slipped([file.stem for file in (CONF / group).glob("*.yaml")])
        return Typo("train", (self.draw.choice((f"{group}=[{wrong}]", f"+{group}={wrong}")),), choice)

    def value(self) -> Typo:
        verb = self.draw.choice(["train"] * 4 + list(TABLE))
        keys = [key for key, rule in TABLE[verb].items() if choices_of(rule.kind)]
        key = self.draw.choice(keys)
        value, wrong = self._slipped([each for each in choices_of(TABLE[verb][key].kind) if len(each) > 2])
        if not re.search("[A-Za-z]{3}", value) or key in ("recipe.name", "recipe.head_init"):
            return self.value()
        needed = ("-m", "sweep=dropout") if key.startswith("sweep.") else ()
        return Typo(verb, (*needed, f"{key}={wrong}"), value)

    def model(self) -> Typo:
        name, wrong = self._slipped(MODELS)
        if wrong in model_names():
            return self.model()
        return Typo("train", (f"model.name={wrong}",), name)

    def plugin_key(self) -> Typo:
        plugin = self.draw.choice([name for name, settings in self.plugins.items() if len(settings) > 1])
        key, wrong = self._slipped(
            [str(key) for key in self.plugins[plugin] if key != "_target_" and len(str(key)) > 2]
        )
        return Typo("train", (f"plugins=[{plugin}]", f"plugins.{plugin}.{wrong}=1"), f"plugins.{plugin}.{key}")

    def plugin_value(self) -> Typo:
        annotated = [
            (plugin, key, choices_of(kind))
            for plugin, settings in self.plugins.items()
            for key, kind in (parameters(settings["_target_"]) or {}).items()
            if choices_of(kind)
        ]
        plugin, key, choices = self.draw.choice(annotated)
        value, wrong = self._slipped(choices)
        return Typo("train", (f"plugins=[{plugin}]", f"plugins.{plugin}.{key}={wrong}"), value)

    def wrong(self) -> Typo:
        word = self.draw.choice(WRONG)
        more = ("schedule=cosine",) if word.startswith("schedule.") else ()
        return Typo("train", (*more, word), word.partition("=")[0])

    def elsewhere(self) -> Typo:
        word, right = self.draw.choice(list(ELSEWHERE.items()))
        return Typo("train", ("data=folder", word), right)

    def word(self) -> Typo:
        words, right = self.draw.choice(WORDS)
        return Typo("train", ("data=folder", *words.split()), right)

    def function(self) -> Typo:
        word, right = self.draw.choice(list(FUNCTIONS.items()))
        return Typo("train", ("-m", word), right)

    def _slipped(self, names: Sequence[str]) -> tuple[str, str]:
        """One of them, and it with a slip that makes none of the others."""
        while True:
            name = self.draw.choice([each for each in names if len(each) > 2])
            wrong = slip(name, self.draw)
            if wrong.lower() not in [each.lower() for each in names] or (
                wrong != name and wrong.lower() == name.lower()
            ):
                return name, wrong


def first_named(message: str) -> str | None:
    """What a message offers before all else: a name, or the key whose rule it tells."""
    offered = re.search(r"(?:Did you mean|is written [^:]*:) ([^\s=?,]+)", message)
    ruled = re.match(r"ft: (\S+) must be ", message)
    return offered[1] if offered else ruled[1] if ruled else None


def _leaves(config: Any, prefix: str = "") -> Any:
    for name in config:
        value = config._get_node(name)
        if name == "_target_" or prefix.startswith(("hydra", "model.kwargs")):
            continue
        if isinstance(value, DictConfig) and len(value):
            yield from _leaves(value, f"{prefix}{name}.")
        elif len(str(name)) > 1 and not isinstance(value, DictConfig):
            yield f"{prefix}{name}"
