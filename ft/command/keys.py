"""Which config keys there are beside the choices of a command line, and which one was meant."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ft.errors import nearest

# What other tools call it: the last part of our key.
ELSEWHERE = {
    "learning_rate": "optimizer.lr",
    "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "num_train_epochs": "trainer.max_epochs",
    "max_epochs": "trainer.max_epochs",
    "max_epoch": "trainer.max_epochs",
    "batch": "data.batch_size",
    "bs": "data.batch_size",
    "workers": "data.num_workers",
    "wd": "optimizer.weight_decay",
    "dropout": "model.head.drop_rate",
    "drop": "model.head.drop_rate",
    "drop_path": "model.drop_path_rate",
    "image_size": "model.img_size",
    "imgsz": "model.img_size",
    "resolution": "model.img_size",
    "smoothing": "task.label_smoothing",
    "gpus": "trainer.devices",
    "gpu": "trainer.accelerator",
    "device": "trainer.accelerator",
    "amp": "trainer.precision",
    "fp16": "trainer.precision",
    "clip_grad": "trainer.gradient_clip_val",
    "arch": "model.name",
    "backbone": "model.name",
    "model_name": "model.name",
    "pretrained": "model.weights",
    "opt": "optimizer",
    "sched": "schedule",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "dataset": "data",
    "data_dir": "data.root",
    "data_path": "data.root",
    "dir": "data.root",
    "log_dir": "runs_dir",
    "output_dir": "runs_dir",
    "checkpoint": "resume",
    "num_trials": "sweep.trials",
    "n_trials": "sweep.trials",
    # of the other verbs
    "images": "input",
    "checkpoint_path": "run",
    "out": "output",
}


def nearest_keys(key: str, known: Sequence[str]) -> list[str]:
    """The keys that may have been meant, the likeliest first.

    Args:
        key: As it was written.
        known: Of the config.
    """
    plain = key.lower().replace("-", "_")
    meant = ELSEWHERE.get(plain) or ELSEWHERE.get(plain.rpartition(".")[2])
    first = [meant] if meant is not None and meant in known else []
    return list(dict.fromkeys([*first, *nearest(key, known)]))[:3]


class Keys:
    """What there is to be said on a command line.

    Args:
        conf: The folder of configs.
        config_name: The config that was asked for.
        words: Of the command line: its choices bring keys with them.
    """

    def __init__(self, conf: Path, config_name: str, words: Sequence[str] = ()) -> None:
        with initialize_config_dir(str(conf), version_base="1.3"):
            self._loader = GlobalHydra.instance().config_loader()
            self.groups = (
                [each for each in self._loader.list_groups("") if each != "hydra"] if config_name in OF_TRAIN else []
            )
            self.sections = list(_keys(_composed(config_name, list(self._choices(words)))))
        self.known = list(dict.fromkeys([*self.sections, *self.groups]))

    def options(self, group: str) -> list[str]:
        """The choices of a group; none of what is no group."""
        return self._loader.get_group_options(group, ObjectType.CONFIG) if group in self.groups else []

    def _choices(self, words: Iterable[str]) -> Iterator[str]:
        """Words that choose what there is."""
        parser = OverridesParser.create()
        for word in words:
            group = word.lstrip("+").partition("=")[0]
            if group not in self.groups:
                continue
            try:
                value: Any = parser.parse_override(word).value()
            except HydraException:
                continue
            listed = value if isinstance(value, list) else [value]
            if set(map(str, listed)) <= set(self.options(group)):
                yield word

    def nearest(self, key: str) -> list[str]:
        """Those that may have been meant, the likeliest first."""
        return nearest_keys(key, self.known)

    def brought_by(self, key: str, conf: Path) -> list[str]:
        """Choices of its group that have this key where the present one has not: ``optimizer=sgd`` for its momentum."""
        group, _, inner = key.partition(".")
        if group == "plugins":
            name = inner.partition(".")[0]
            off = f"plugins.{name}" not in self.sections
            return [name] if off and name in self.options("plugins") else []
        found = []
        for option in self.options(group):
            file = conf / group / f"{option}.yaml"
            content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
            if isinstance(content, dict) and inner in content:
                found.append(option)
        return found


# The configs whose groups are those of training.
OF_TRAIN = ("train", "doctor")


def _composed(config_name: str, choices: list[str]) -> DictConfig:
    try:
        return compose(config_name, choices)
    except (HydraException, OmegaConfBaseException):
        return compose(config_name)


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    for name, value in config.items_ex(resolve=False) if isinstance(config, DictConfig) else ():
        if name == "_target_":
            continue  # Nobody mistypes it.
        yield f"{prefix}{name}"
        yield from _keys(value, f"{prefix}{name}.")
