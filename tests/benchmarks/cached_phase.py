"""Training images a second: every stage open, plain freezing, and on stored activations; against what the machine can.

    python -m tests.benchmarks.cached_phase OUT [--models ...] [--weights-dir PATH] [--rounds 5] [--size 224]

For each model and boundary four kinds of step on the same random numbers, in turn, each in fp32 and in bf16: the whole
model open (``full``), the stages below the boundary frozen but computed (``frozen``), and the stages from the boundary
on alone, fed by an index gather from stored activations (``cached``). A step is forward, loss, backward and AdamW, at
batch 32. The bound is the FLOPs of the cached step (torch's counter; backward taken as twice the forward) by the rate
of a large matrix product measured beside it. Weights are random: speed does not depend on them. About two minutes a
model on 2 cores; every finished row is written to OUT (JSON lines) at once, and a second call goes on with what is
missing.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ft.cache.activations import Part, Stored
from ft.machine.allocator import keep_freed_memory
from ft.model.stages import HEAD
from ft.model.timm_model import TimmModel, timm_model
from ft.phases.apply import apply, keep_frozen_in_eval
from ft.phases.plan import phase
from ft.phases.stored_views import StoredViews

# Model -> how many of its last stages are open besides the head.
BOUNDARIES = {"tf_efficientnet_lite0": (0, 1, 2, 3), "mobilenetv2_100": (0, 1, 2), "resnet18": (0, 1, 2)}
BATCH = 32
STORED = 256
KINDS = ("full", "frozen", "cached")


def build(name: str, size: int) -> TimmModel:
    torch.manual_seed(0)
    return timm_model(
        num_outputs=5, name=name, weights="none", weights_dir=None, in_chans=3, img_size=size, drop_path_rate=None,
        act_layer=None, kwargs={}, input={}, suggested={},
        head={"pool": "own", "hidden": [], "activation": "relu", "drop_rate": 0.0, "norm": "none"},
    )  # fmt: skip


def steps(model: TimmModel, boundary: str, size: int) -> dict[str, Callable[[], Any]]:
    """One training step of each kind; freezing is set up by ``enter``."""
    stages = model.stages()
    names = [stage.name for stage in stages]
    images = torch.randn(BATCH, 3, size, size).to(memory_format=torch.channels_last)
    targets = torch.arange(BATCH) % 5
    cut = model.split(boundary)
    assert cut is not None
    with torch.no_grad():
        model.eval()
        crossing = cut[0](images)
    assert isinstance(crossing, torch.Tensor)
    last = crossing.ndim == 4
    rows = (crossing.permute(0, 2, 3, 1) if last else crossing).contiguous().to(torch.bfloat16)
    stored = Stored([Part([rows.repeat(STORED // BATCH, *[1] * (rows.ndim - 1))], last)], torch.arange(STORED), [])
    source = StoredViews([stored], torch.arange(STORED) % 5, boundary, seed=0)
    order = [[(0, int(at)) for at in torch.randint(STORED, (BATCH,))] for _ in range(8)]
    opened = {"full": frozenset(names), "frozen": frozenset(names[names.index(boundary) :])}
    opened["cached"] = opened["frozen"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def enter(kind: str) -> None:
        now = phase(opened[kind], [], 0, stages, model)
        apply(model, now)
        keep_frozen_in_eval(model.train(), stages, now)

    turn = iter(range(10**9))

    def step(kind: str, forward: Callable[[], torch.Tensor], bf16: bool, wanted: Callable[[], torch.Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = torch.nn.functional.cross_entropy(forward().float(), wanted())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def cached(bf16: bool) -> None:
        batch = source.batch(order[next(turn) % len(order)])
        step("cached", lambda: cut[1](batch.images.float()), bf16, lambda: batch.targets)

    made: dict[str, Callable[[], Any]] = {}
    for precision in ("fp32", "bf16"):
        bf16 = precision == "bf16"
        for kind in ("full", "frozen"):
            made[f"{kind} {precision}"] = lambda kind=kind, bf16=bf16: step(
                kind, lambda: model(images), bf16, lambda: targets
            )
        made[f"cached {precision}"] = lambda bf16=bf16: cached(bf16)
    made["enter"] = enter  # pyright: ignore[reportArgumentType]
    return made


def seconds(run: Callable[[], Any], at_least: float = 0.4) -> float:
    """A step, averaged over as many as fill the time."""
    count, started = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - started < at_least:
        run()
        count += 1
    return (time.perf_counter() - started) / count


def machine() -> dict[str, float]:
    """Measured rates: matrix products in GFLOP/s, copies in GB/s."""
    found = {}
    for name, dtype in (("gemm fp32 GFLOP/s", torch.float32), ("gemm bf16 GFLOP/s", torch.bfloat16)):
        a, b = torch.randn(1024, 1024, dtype=dtype), torch.randn(1024, 1024, dtype=dtype)
        found[name] = 2 * 1024**3 / min(seconds(lambda a=a, b=b: a @ b, 0.2) for _ in range(3)) / 1e9
    block = torch.empty(1 << 26, dtype=torch.uint8)
    other = torch.empty_like(block)
    found["copy GB/s"] = 2 * len(block) / min(seconds(lambda: other.copy_(block), 0.2) for _ in range(3)) / 1e9
    return found


def row(name: str, open_stages: int, size: int, rounds: int) -> dict[str, Any]:
    model = build(name, size)
    names = [stage.name for stage in model.stages()]
    boundary = names[-1 - open_stages] if open_stages else HEAD
    made = steps(model, boundary, size)
    enter: Any = made.pop("enter")
    times: dict[str, list[float]] = {kind: [] for kind in made}
    for _ in range(rounds):
        for kind, run in made.items():
            enter(kind.split()[0])
            run()
            times[kind].append(seconds(run))
    rates = {kind: BATCH / statistics.median(each) for kind, each in times.items()}
    # Of the forward pass: torch counts the backward of grouped convolutions as if they had one group.
    cut = model.split(boundary)
    assert cut is not None
    probe = torch.randn(1, 3, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        crossing = cut[0](probe)
        before = counter.get_total_flops()
        model.eval()
        cut[1](crossing)
    limits = machine()
    best = max(rates["cached fp32"], rates["cached bf16"])
    full = max(rates["full fp32"], rates["full bf16"])
    kind = "bf16" if rates["cached bf16"] > rates["cached fp32"] else "fp32"
    flops = 3 * (counter.get_total_flops() - before)
    return {
        "model": name, "boundary": boundary, "open": open_stages, "size": size, "threads": torch.get_num_threads(),
        **{kind: round(rate, 1) for kind, rate in rates.items()},
        "cached over full": round(best / full, 2),
        "cached over frozen": round(best / max(rates["frozen fp32"], rates["frozen bf16"]), 2),
        "MFLOP an image": round(flops / 1e6, 2),
        "share of the GEMM rate": round(best * flops / 1e9 / limits[f"gemm {kind} GFLOP/s"], 3),
        **{name: round(value, 1) for name, value in limits.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", default=list(BOUNDARIES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    asked = parser.parse_args()
    keep_freed_memory()  # as every verb does; on all sides
    done = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.is_file() else []
    known = {(each["model"], each["open"], each["size"]) for each in done}
    cells = [(name, depth, asked.size) for name in asked.models for depth in BOUNDARIES.get(name, (0, 1, 2))]
    todo = [cell for cell in cells if cell not in known]
    print(f"{len(todo)} rows to measure, about {40 * len(todo)} seconds on 2 cores", flush=True)
    for cell in todo:
        done.append(row(*cell, asked.rounds))
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(done[-1], flush=True)
    columns = ["model", "boundary", *(f"{kind} {p}" for kind in KINDS for p in ("fp32", "bf16")), "cached over full",
               "cached over frozen", "share of the GEMM rate"]  # fmt: skip
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for each in done:
        print("| " + " | ".join(str(each[column]) for column in columns) + " |")


if __name__ == "__main__":
    main()
