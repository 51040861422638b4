"""Where weights come from, in which order, and that nothing else than named tensors is ever read."""

import json
import pickle
import socket
import time

import pytest
import timm
import torch
from safetensors.torch import save_file

from ft.errors import UserError
from ft.model import hub, weights
from ft.model.weights import find_weights
from tests.model.test_timm_model import images_for, make

HUB_ID = "timm/test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """A fake hub folder, and no way out of this machine."""
    monkeypatch.delenv("FT_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "try_to_load_from_cache", cached_below(tmp_path / "hub"))

    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def cached_below(folder):
    from huggingface_hub import try_to_load_from_cache

    return lambda repo, file: try_to_load_from_cache(repo, file, cache_dir=folder)


@pytest.fixture
def state():
    torch.manual_seed(5)
    return {name: tensor.contiguous() for name, tensor in timm.create_model("test_resnet").state_dict().items()}


def find(name="test_resnet", *, asked="auto", folder=None, hub_id=None):
    return find_weights(name, weights=asked, weights_dir=folder, hub_id=hub_id)


def fake_cache(tmp_path, state, file="model.safetensors"):
    """The layout huggingface_hub keeps: refs, snapshots."""
    repo = tmp_path / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    (repo / "snapshots" / "abc").mkdir(parents=True)
    save_file(state, repo / "snapshots" / "abc" / file)


def test_a_file_comes_first_then_the_folder_then_the_package_then_the_cache(tmp_path, state, monkeypatch):
    fake_cache(tmp_path, state)
    assert find(hub_id=HUB_ID).kind == "cache"
    monkeypatch.setitem(weights.PACKAGES, "test_resnet", weights.PACKAGES["tf_efficientnet_lite0"])
    assert find(hub_id=HUB_ID).kind == "package"
    folder = tmp_path / "weights"
    folder.mkdir()
    save_file(state, folder / "test_resnet.safetensors")
    assert find(folder=str(folder), hub_id=HUB_ID).kind == "folder"
    monkeypatch.setenv("FT_WEIGHTS_DIR", str(folder))
    assert find(hub_id=HUB_ID).kind == "folder"
    assert find("test_resnet.r160_in1k", hub_id=HUB_ID).kind == "folder"
    assert find(asked=str(folder / "test_resnet.safetensors"), hub_id=HUB_ID).kind == "file"
    assert find(asked="none", hub_id=HUB_ID).kind == "random"


def test_the_loaded_weights_are_those_of_the_file(tmp_path, state):
    fake_cache(tmp_path, state)
    model = make(weights="auto", head={})
    assert str(model.weights) == f"cache: {HUB_ID}"
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_another_number_of_channels_adapts_the_first_layer(tmp_path, state):
    fake_cache(tmp_path, state)
    grey = make(weights="auto", in_chans=1)
    assert torch.allclose(grey.backbone.conv1[0].weight, state["conv1.0.weight"].sum(1, keepdim=True), atol=1e-6)


def test_every_key_of_the_package_is_mapped_onto_timm(tmp_path):
    model = make("tf_efficientnet_lite0", weights="auto", suggested={"img_size": 64}).eval()
    assert model.weights.kind == "package"
    source = torch.load(model.weights.path, weights_only=True)
    # The port and timm list their layers in the same order: an independent check of the renaming.
    ours = model.backbone.state_dict()
    originals = [tensor for name, tensor in source.items() if not name.startswith("_fc")]
    assert len(originals) == len(ours)
    for mine, theirs in zip(ours.values(), originals, strict=True):
        assert torch.equal(mine, theirs)
    assert model(images_for(model)).isfinite().all()


def test_weights_say_how_they_want_to_be_used(tmp_path, state):
    save_file(state, tmp_path / "test_resnet.safetensors")
    card = {"mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 0.8, "model_kwargs": {"act_layer": "gelu"}, "note": "x"}
    (tmp_path / "test_resnet.json").write_text(json.dumps(card))
    model = make(weights="auto", weights_dir=str(tmp_path))
    assert model.input_spec.mean == (0.5, 0.5, 0.5)
    assert model.input_spec.std == (0.25, 0.25, 0.25)
    assert model.input_spec.crop_pct == 0.8
    assert any(type(module).__name__ == "GELU" for module in model.modules())
    assert make(weights="auto", weights_dir=str(tmp_path), input={"mean": [0.1] * 3}).input_spec.mean == (0.1,) * 3


def test_no_source_in_reach_is_random_or_an_error_that_lists_the_ways_out():
    assert find(hub_id=HUB_ID).kind == "random"
    with pytest.raises(UserError, match=r"model.weights=FILE.safetensors, or model.weights_dir=FOLDER") as caught:
        find(asked="required", hub_id=HUB_ID)
    assert "model.weights=none" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_offline_means_no_attempt_at_all(monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda *_, **__: pytest.fail("the network was tried"))
    assert find(hub_id=HUB_ID).kind == "random"


def test_a_hub_that_never_answers_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(hub, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda *_, **__: time.sleep(5))
    started = time.monotonic()
    assert hub.download_file(HUB_ID, weights.HUB_FILES) is None
    # For both files together, not for each.
    assert time.monotonic() - started < 1


def test_a_download_that_stalls_is_given_up(monkeypatch):
    monkeypatch.setattr(hub, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda *_, **__: object())
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_: time.sleep(5))
    started = time.monotonic()
    assert hub.download_file(HUB_ID, weights.HUB_FILES) is None
    assert time.monotonic() - started < 1.5


def test_a_download_that_arrives_is_used(monkeypatch, tmp_path, state):
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda *_, **__: object())
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_: str(tmp_path / "model.safetensors"))
    assert str(find(hub_id=HUB_ID)) == f"hub: {HUB_ID}"


class Payload:
    def __reduce__(self):
        return (print, ("a pickle was executed",))


def test_a_pickle_is_never_executed(tmp_path, capsys):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"weight": Payload()}, protocol=2))
    torch.save({"weight": Payload()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(UserError, match="cannot be read"):
            make(weights=str(tmp_path / name))
    assert "executed" not in capsys.readouterr().out


def test_a_damaged_weights_file_is_named(tmp_path, state):
    save_file(state, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cut.safetensors cannot be read"):
        make(weights=str(tmp_path / "cut.safetensors"))
