"""From the start of the process to the first batch of training images in the model, over importing what it is made of.

    python -m tests.benchmarks.startup DATA OUT [--rounds 5] [--weights-dir PATH] [overrides ...]

DATA is an image folder. In turn, each in a process of its own:

    imports     python -c 'import torch, timm, lightning'
    training    python -m ft.train data=folder data.root=DATA, until the first batch of training images, or of their
                stored activations, enters a layer of the model; with recipe=full unless overrides say otherwise

A first run, which does not count, fills the caches in a folder of its own. Wall-clock seconds and processor seconds of
the process, medians, and the ratio training / imports within each round. About 15 seconds a round on a quiet machine;
where others keep more than a fifth of a core busy the wall clock is only worth something as a ratio.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Ended like the other side, without taking the interpreter apart.
IMPORTS = "import os, torch, timm, lightning; os._exit(0)"
# What ``python -m ft.train`` does, with a watch on the model's layers.
DRIVER = "from tests.benchmarks.startup import until_first_batch; until_first_batch()"
# Probes of the model's shape, of its cuts and of the machine are made of fewer images.
PROBES = 8


def until_first_batch() -> None:
    """Trains as the command line says, and ends the process when the first batch arrives."""
    from ft import train as verb
    from ft.command.imports import heavy_imports
    from ft.command.verb import run_verb

    def train(config: Any) -> Any:
        with heavy_imports():
            import ft.build.run
            import ft.fit  # noqa: F401
        from torch.nn.modules.module import register_module_forward_pre_hook

        register_module_forward_pre_hook(_end_at_a_batch)
        return verb.train(config)

    run_verb(train, "train")


def _end_at_a_batch(layer: Any, inputs: tuple[Any, ...]) -> None:
    has_weights = next(layer.parameters(recurse=False), None) is not None
    if has_weights and len(getattr(inputs[0], "shape", ())) > 1 and inputs[0].shape[0] > PROBES:
        sys.stdout.flush()
        os._exit(0)


def one(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall-clock seconds and processor seconds of a process."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, env=environment, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", default=["recipe=full"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights-dir", type=Path)
    asked = parser.parse_args()
    # Not above: the processes that are timed import this module.
    from tests.benchmarks.quiet import others_share

    print(f"{asked.rounds} rounds of about 15 seconds, after a run that fills the caches", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "FT_CACHE_DIR": f"{folder}/cache"}
        if asked.weights_dir:
            environment["FT_WEIGHTS_DIR"] = str(asked.weights_dir)
        settings = ["data=folder", f"data.root={asked.data}", f"runs_dir={folder}/runs", *asked.overrides]
        # Every image is decoded, and the machine known, without training the whole model on all of them.
        fill = ["recipe=linear" if each == "recipe=full" else each for each in settings]
        subprocess.run([sys.executable, "-m", "ft.train", *fill, "test=false"], check=True, env=environment)
        busy = others_share(seconds=1.0)
        sides: dict[str, list[str]] = {"imports": ["-c", IMPORTS], "training": ["-c", DRIVER, *settings]}
        times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for at in range(asked.rounds):
            for side in sides if at % 2 == 0 else reversed(sides):
                times[side].append(one(sides[side], environment))
            print({side: f"{each[-1][0]:.2f} s, {each[-1][1]:.2f} s of processor" for side, each in times.items()})
    found: dict[str, Any] = {"overrides": asked.overrides, "rounds": asked.rounds, "others before": round(busy, 2)}
    for position, kind in enumerate(("wall", "processor")):
        for side, each in times.items():
            found[f"{side} {kind} s"] = round(statistics.median(pair[position] for pair in each), 2)
        ratios = [b[position] / a[position] for a, b in zip(times["imports"], times["training"], strict=True)]
        found[f"{kind} ratio"] = round(statistics.median(ratios), 3)
        found[f"{kind} ratios"] = [round(ratio, 3) for ratio in ratios]
    asked.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print("| " + " | ".join(found) + " |\n" + "|---" * len(found) + "|")
    print("| " + " | ".join(str(value) for value in found.values()) + " |")


if __name__ == "__main__":
    main()
