"""Every command that README.md and docs/ show is one that exists: it composes."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import composed

ROOT = Path(__file__).parent.parent
COMMAND = re.compile(r"python -m ft\.(train|evaluate|report|predict|export|serve|compare|doctor)((?: [^\n#|`&(]*)?)")
# What the reader is told to make first.
TO_BE_MADE = ("my_technique", "label_noise", "birds", "best_of")


def commands() -> list[tuple[str, str]]:
    texts = [file.read_text(encoding="utf-8") for file in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]]
    texts += [file.read_text(encoding="utf-8") for file in sorted(ROOT.glob("conf/experiment/*.yaml"))]
    found = [(verb, rest.strip()) for text in texts for verb, rest in COMMAND.findall(text)]
    return [(verb, rest) for verb, rest in dict.fromkeys(found) if not any(name in rest for name in TO_BE_MADE)]


@pytest.mark.parametrize(("verb", "rest"), commands())
def test_every_command_that_is_shown_composes(verb: str, rest: str):
    words = shlex.split(rest.replace("--cfg job", ""))
    overrides = [re.sub(r"=([^\[,]*),.*", r"=\1", word) for word in words if not word.startswith("-")]
    with composed(*overrides, config=verb) as config:
        assert config.runs_dir == "runs"


def test_there_are_commands_to_check():
    # A fork's README shows three.
    assert len(COMMAND.findall((ROOT / "README.md").read_text(encoding="utf-8"))) >= 3


def test_the_readme_shows_measured_results_only():
    assert "@@" not in (ROOT / "README.md").read_text(encoding="utf-8")
