"""Where in the YAML files something stands that Hydra names only by its value."""

import re
from collections.abc import Sequence
from pathlib import Path


def place_of(pattern: str, conf: Path, words: Sequence[str]) -> str:
    """``(conf/experiment/mine.yaml, line 3)``, with a blank before it; empty where it stands nowhere.

    Args:
        pattern: A regular expression for a part of a line.
        conf: The folder of configs.
        words: Of the command line, which may name further folders in ``hydra.searchpath``.
    """
    searched = next((word.partition("=")[2] for word in words if word.startswith("hydra.searchpath=")), "")
    folders = [*(Path(each) for each in re.findall(r"[^\[\],'\" ]+", searched)), conf]
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
                if re.search(pattern, line.partition(" #")[0]):
                    shown = f"conf/{file.relative_to(conf)}" if folder == conf else file
                    return f" ({shown}, line {number})"
    return ""
