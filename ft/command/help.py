"""``--help``: how to start, every group with its choices, every value.

Not Hydra's: that copies its whole search path a hundred times to list the groups, and takes a second.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

INTRODUCTION = """\
Fine-tune a pretrained timm backbone.

  python -m ft.train                                        handwritten digits, embedded weights
  python -m ft.train model=vit data=folder data.root=PATH   your images, one directory a class
  python -m ft.train -m optimizer=adam,sgd                  a sweep
  python -m ft.train resume=last                            go on
  python -m ft.doctor data=folder data.root=PATH            what is wrong with your images
  python -m ft.evaluate run=last split=test                 metrics of a run, and how sure they are
  python -m ft.compare runs=[A,B]                           is the difference real
  python -m ft.report run=last                              report.html, as after every training
  python -m ft.predict run=last input=FOLDER output=p.csv   labels for images
  python -m ft.export run=last format=timm,onnx,pt2         for use elsewhere
  python -m ft.serve run=last                               over HTTP
"""
# Of the verbs that take all of training's keys besides their own, the groups that matter to them.
OF_TRAINING = {"doctor": ("data", "model", "task")}


def show_help(conf: Path, config_name: str) -> None:
    """Prints the introduction and the groups, and has Hydra print the values below them.

    Raises:
        SystemExit: Of a verb that takes training's keys besides its own, only those are shown.
    """
    print(INTRODUCTION)
    if config_name in OF_TRAINING:
        _show_groups(conf, OF_TRAINING[config_name])
        print("\nValues, changed with key=value:\n")
        print(_own_values(conf / f"{config_name}.yaml"))
        print("and all of training's, of which data and model matter here: python -m ft.train --help")
        raise SystemExit(0)
    if config_name == "train":
        _show_groups(conf, sorted(path.name for path in conf.iterdir() if any(path.glob("*.yaml"))))
    print("\nValues, changed with key=value:\n")
    sys.argv = [*(word for word in sys.argv if word not in ("--help", "-h")), "--cfg", "job"]


def _show_groups(conf: Path, groups: Iterable[str]) -> None:
    print("Groups, chosen with group=choice:\n")
    for group in groups:
        print(f"  {group}: {', '.join(sorted(file.stem for file in (conf / group).glob('*.yaml')))}")


def _own_values(file: Path) -> str:
    """The lines of a verb's own YAML, its comments with them, without its defaults list."""
    text = file.read_text(encoding="utf-8")
    listed = [str(key) for key in yaml.safe_load(text) if key != "defaults"]
    return text[text.index(f"\n{listed[0]}:") + 1 :]
