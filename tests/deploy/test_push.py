"""Uploading, against a hub that is not there."""

import time
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest

from ft.deploy import push as pushing
from ft.deploy.push import check_address, push
from ft.errors import UserError


class FakeHub:
    """What is called, in order."""

    calls: ClassVar[list] = []

    def whoami(self):
        self.calls.append(("whoami",))

    def create_repo(self, address, *, private, exist_ok):
        self.calls.append(("create_repo", address, private, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, path_in_repo, commit_message):
        self.calls.append(("upload_folder", repo_id, folder_path, path_in_repo, commit_message))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(FakeHub, "calls", [])
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return FakeHub


FOLDERS = {"onnx": Path("here/onnx"), "timm": Path("here/timm")}


def test_the_first_format_lies_on_top_and_others_in_folders(hub):
    assert push(FOLDERS, "me/model", private=True) == "https://huggingface.co/me/model"
    assert hub.calls == [
        ("whoami",),
        ("create_repo", "me/model", True, True),
        ("upload_folder", "me/model", Path("here/onnx"), None, "Export as onnx"),
        ("upload_folder", "me/model", Path("here/timm"), "timm", "Export as timm"),
    ]


def test_a_hub_that_does_not_answer_is_given_up(hub, monkeypatch):
    monkeypatch.setattr(hub, "whoami", lambda self: time.sleep(60))
    limit = pushing.ANSWER_SECONDS
    monkeypatch.setattr(pushing, "ANSWER_SECONDS", 0.2)
    assert limit < 10
    started = time.monotonic()
    with pytest.raises(UserError, match=r"did not answer within 0 s\nThe export is complete: here/onnx, here/timm"):
        push(FOLDERS, "me/model", private=True)
    assert time.monotonic() - started < 5


def test_a_hub_that_refuses_is_quoted(hub, monkeypatch):
    def refuse(self, *_, **__):
        raise OSError("403: you may not\nand more")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(UserError, match=r"push=me/model: not uploaded: 403: you may not\nThe export is complete"):
        push(FOLDERS, "me/model", private=False)


@pytest.mark.parametrize("address", ["model", "me/you/model", "me/mo del", "/model", "me/"])
def test_an_address_is_two_names(hub, address):
    with pytest.raises(UserError, match="must be org/name"):
        check_address(address)


def test_without_a_token_or_a_network_nothing_is_begun(hub, monkeypatch):
    check_address("me/model")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UserError, match=r"nobody is logged in. Run 'hf auth login', or set HF_TOKEN"):
        check_address("me/model")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        check_address("me/model")


def test_the_command_pushes_what_it_has_exported(hub, trained, tmp_path):
    from ft.export import export
    from tests.conftest import composed

    with composed(
        f"run='{trained.path}'", f"output='{tmp_path}/out'", "push=me/model", "private=false", config="export"
    ) as config:
        export(config)
    assert hub.calls[1:] == [
        ("create_repo", "me/model", False, True),
        ("upload_folder", "me/model", tmp_path / "out", None, "Export as timm"),
    ]
    assert 'timm.create_model("hf-hub:me/model", pretrained=True)' in (tmp_path / "out" / "README.md").read_text()
