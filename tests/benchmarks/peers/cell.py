"""One cell in its own process, started by ``time_to_accuracy``: ``... -m tests.benchmarks.peers.cell CELL RESULT``."""

import json
import sys
from importlib import import_module
from pathlib import Path

MODULES = {
    "timm": "timm_full",
    "timm_bf16": "timm_full",
    "backbone_finetuning": "backbone_finetuning",
    "finetuning_scheduler": "finetuning_scheduler",
    "ours": "ours",
}


def main() -> None:
    from tests.benchmarks.peers.common import Cell

    cell = Cell(**json.loads(sys.argv[1]))
    peer = import_module(f"tests.benchmarks.peers.{MODULES[cell.method]}")
    Path(sys.argv[2]).write_text(json.dumps(peer.run(cell)), encoding="utf-8")


if __name__ == "__main__":
    main()
