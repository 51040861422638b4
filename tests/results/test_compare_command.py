"""``python -m ft.compare``: which runs are meant, what is written, and what is refused with exit code 2."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from ft.command.verb import CONF
from ft.compare import compare
from ft.errors import UserError
from ft.inference.predictions import Predictions
from tests.conftest import TINY, composed
from tests.results.made import classified, with_hits

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run folder as training leaves it, with predictions that are made."""

    def make(name: str, predictions: Predictions | None, *overrides: str) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        with composed(*TINY, *overrides) as config:
            OmegaConf.save(config, folder / "config.yaml", resolve=True)
        if predictions is not None:
            predictions.save(folder)
        return folder

    return make


@pytest.fixture
def run_compare(tmp_path: Path) -> Callable[..., None]:
    def run(*overrides: str) -> None:
        with composed(f"runs_dir='{tmp_path}/runs'", "resamples=1000", *overrides, config="compare") as config:
            compare(config)

    return run


@pytest.fixture
def two(make_run: MakeRun) -> tuple[Path, Path]:
    right = torch.arange(200)
    return make_run("2026_a", with_hits(right >= 10)), make_run("2026_b", with_hits(right >= 60))


@pytest.mark.parametrize(
    "wanted", ["[2026_a,2026_b]", "'2026*'", "['{root}/runs/2026_a',last]", "'{root}/runs/*'", "['2026*',2026_a]"]
)
def test_runs_are_names_folders_last_or_a_glob(run_compare, two, tmp_path, wanted, capsys):
    (tmp_path / "runs" / "last").symlink_to("2026_b", target_is_directory=True)
    (tmp_path / "runs" / "sweeps").mkdir()
    run_compare(f"runs={wanted.format(root=tmp_path)}", f"output='{tmp_path}/found.json'")
    found = json.loads((tmp_path / "found.json").read_text())
    assert [run["run"] for run in found["runs"]] == ["2026_a", "2026_b"]
    assert found["folders"] == {"2026_a": str(two[0]), "2026_b": str(two[1])}
    assert (found["metric"], found["split"], found["num_images"], found["resamples"]) == ("acc", "test", 200, 1000)
    (pair,) = found["pairs"]
    assert (pair["verdict"], pair["differs"]) == ("2026_a is better than 2026_b", True)
    assert (pair["mcnemar"]["first_only"], pair["difference"]["value"]) == (50, pytest.approx(0.25))
    assert "2026_a is better than 2026_b." in capsys.readouterr().out


def test_what_cannot_be_compared_is_told(run_compare, make_run, two, tmp_path):
    make_run("bare", None)
    make_run("bare_too", None)
    make_run("others", classified(200, 3))
    make_run("another_metric", with_hits(torch.ones(200, dtype=torch.bool)), "task.metric=val/f1")
    make_run("by_loss", with_hits(torch.ones(200, dtype=torch.bool)), "task.metric=val/loss", "task.mode=min")
    make_run("by_loss_too", with_hits(torch.ones(200, dtype=torch.bool)), "task.metric=val/loss", "task.mode=min")
    (tmp_path / "there.json").write_text("mine")
    both = "runs=[2026_a,2026_b]"
    for overrides, told in (
        ((), r"ft.compare needs runs=\[A,B,...\]"),
        (("runs=[]",), r"ft.compare needs runs=\[A,B,...\]"),
        (("runs=[2026_a]",), "is one run, .*2026_a: there is nothing to compare"),
        (("runs=[2026_a,'2026_a*']",), "is one run"),
        (("runs=[2026_a,2026_c]",), r"runs=2026_c is not a run folder.* Did you mean 2026"),
        (("runs='none*'",), r"runs=none\* matches no run folder"),
        (("runs=[2026_a,bare]",), r"no predictions of its test split: python -m ft.evaluate run='.*/bare' split=test"),
        (
            ("runs=[2026_a,bare,bare_too]",),
            r"2 of 3 runs have no predictions .*: bare, bare_too.\nFor each of them: py",
        ),
        ((both, "split=val"), r"have no predictions of their val split: 2026_a, 2026_b"),
        ((both, "split=tset"), "split=tset is not a choice.*Did you mean test"),
        (("runs=[2026_a,others]",), r"different classes: 1 differ \(c2\)"),
        (
            ("runs=[2026_a,another_metric]",),
            r"different metrics \(2026_a for acc, another_metric for f1\).*metric=NAME",
        ),
        (("runs=[by_loss,by_loss_too]",), r"metric=loss is not a choice: it must be one of acc, .*nll"),
        ((both, "resamples=5"), "resamples must be at least 100, got 5"),
        ((both, f"output='{tmp_path}/there.json'"), "there.json exists, and is kept: .*overwrite=true"),
        ((both, f"output='{tmp_path}/none/x.json'"), "there is no folder .*none"),
        ((both, f"output='{tmp_path}'"), "is a folder: name a file"),
    ):
        with pytest.raises(UserError, match=told) as caught:
            run_compare(*overrides)
        assert len(str(caught.value).splitlines()) <= 3
    assert (tmp_path / "there.json").read_text() == "mine"
    run_compare(both, f"output='{tmp_path}/there.json'", "overwrite=true", "metric=f1")
    assert json.loads((tmp_path / "there.json").read_text())["metric"] == "f1"


def test_runs_of_one_name_are_told_by_their_folders(run_compare, two, tmp_path):
    other = tmp_path / "elsewhere" / "2026_a"
    other.parent.mkdir()
    two[1].rename(other)
    run_compare(f"runs=[2026_a,'{other}']", f"output='{tmp_path}/found.json'")
    assert set(json.loads((tmp_path / "found.json").read_text())["folders"]) == {str(two[0]), str(other)}


@pytest.mark.full
def test_a_mistake_ends_with_code_2_and_one_line(two, tmp_path):
    command = [sys.executable, "-m", "ft.compare", "runs=[2026_a,2026_x]", f"runs_dir='{tmp_path}/runs'"]
    ended = subprocess.run(command, cwd=CONF.parent, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("ft: runs=2026_x is not a run folder: it has no config.yaml. Did you mean 2026")
    assert len(ended.stderr.splitlines()) == 1
