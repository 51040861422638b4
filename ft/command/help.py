"""``--help``: how to start, every group with its choices, every value.

Not Hydra's: that copies its whole search path a hundred times to list the groups, and takes a second.
"""

import sys
from pathlib import Path

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

Groups, chosen with group=choice:
"""


def show_help(conf: Path, config_name: str) -> None:
    """Prints the introduction and the groups, and has Hydra print the values below them."""
    print(INTRODUCTION)
    if config_name == "train":
        for group in sorted(path for path in conf.iterdir() if path.is_dir() and any(path.glob("*.yaml"))):
            print(f"  {group.name}: {', '.join(sorted(file.stem for file in group.glob('*.yaml')))}")
    print("\nValues, changed with key=value:\n")
    sys.argv = [*(word for word in sys.argv if word not in ("--help", "-h")), "--cfg", "job"]
