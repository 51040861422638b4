"""``python -m ft.serve`` with its processes, over HTTP: many at once, bad ones, and its end."""

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest
import torch

from ft.build.trained import load_predictor
from ft.data.images import open_image
from ft.inference.predict_images import predict_images
from tests.deploy.serving import Served, form_of, image_of, text_of

pytestmark = [pytest.mark.full, pytest.mark.skipif(not Path("/proc").is_dir(), reason="/proc lists the processes")]

REQUESTS = 200


@pytest.fixture(scope="module")
def served(trained):
    server = Served(f"run='{trained.path}'", "max_bytes=100_000", "max_pixels=100_000")
    yield server
    server.process.send_signal(signal.SIGTERM)
    server.end()


@pytest.fixture(scope="module")
def client(served):
    with httpx.Client(base_url=served.url, timeout=120, trust_env=False) as client:
        yield client


def told_of(predictor, files: list[Path]) -> list[list[float]]:
    return predict_images(predictor, [open_image(str(file)) for file in files]).tolist()


def assert_told(response, classes: tuple[str, ...], rows: list[list[float]]) -> None:
    """Every probability of every image, and so the right one of several requests in a batch."""
    assert response.status_code == 200, response.text
    for said, row in zip(response.json()["predictions"], rows, strict=True):
        shares = {each["label"]: each["probability"] for each in said["top_k"]}
        assert [shares[name] for name in classes] == pytest.approx(row, abs=2e-5)


def test_two_hundred_at_once_are_all_answered_as_ft_predict_does(client, trained, photos):
    predictor = load_predictor(trained)
    files = sorted(photos.rglob("*.png"))
    rows = dict(zip(files, told_of(predictor, files), strict=True))
    assert len({tuple(row) for row in rows.values()}) == len(files), "answers that cannot be told apart prove nothing"
    asked = [[files[(7 * at + more) % len(files)] for more in range(1 + at % 3)] for at in range(REQUESTS)]

    def ask(some: list[Path]):
        contents = [file.read_bytes() for file in some]
        if len(some) == 2:
            return client.post("/predict?top_k=3", json={"images": [text_of(each) for each in contents]})
        return client.post("/predict?top_k=3", files=form_of(*contents))

    with ThreadPoolExecutor(REQUESTS) as pool:
        for some, response in zip(asked, pool.map(ask, asked), strict=True):
            assert_told(response, predictor.reading.classes, [rows[file] for file in some])


@pytest.mark.parametrize("format", ["timm", "onnx", "pt2"])
def test_an_exported_folder_is_served_with_the_same_answers(trained, exports, photos, format):
    predictor, files = load_predictor(trained), sorted(photos.rglob("*.png"))[::9]
    server = Served(f"run='{exports[format].path}'")
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        response = client.post("/predict?top_k=3", files=form_of(*[file.read_bytes() for file in files]))
    assert_told(response, predictor.reading.classes, told_of(predictor, files))
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == (0, "")


def test_bad_requests_over_the_wire_are_4xx_and_the_server_lives(served, client):
    image = image_of("red")
    bad = [
        {"content": b""},
        {"content": b"x", "headers": {"content-type": "text/plain"}},
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"json": {"image": "???"}},
        {"json": {"images": []}},
        {"json": ["x"]},
        {"json": {"picture": text_of(image)}},
        {"files": form_of(image, field="file")},
        {"files": form_of(b"")},
        {"files": form_of(b"no image")},
        {"files": form_of(image[:40])},
        {"files": form_of(image_of("red", (400, 400)))},
        {"files": form_of(*[image] * 33)},
        {"files": form_of(image), "params": {"top_k": "0"}},
        {"files": form_of(b"x" * 200_000)},
        {"content": iter([b"x" * 10_000] * 100), "headers": {"content-type": "application/json"}},
    ]
    statuses = [client.post("/predict", **each).status_code for each in bad]
    assert set(statuses) <= {413, 415, 422}
    assert statuses[-2:] == [413, 413]
    for method, path, status in (("GET", "/predict", 405), ("GET", "/docs", 404), ("DELETE", "/", 405)):
        assert client.request(method, path).status_code == status
    host, port = served.url.removeprefix("http://").split(":")
    for rubbish in (b"\x00\xff" * 500, b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\nabc"):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(rubbish)
    assert client.get("/health").text == "ok"
    assert client.post("/predict", files=form_of(image)).status_code == 200
    assert served.process.poll() is None


def gone(server: Served) -> bool:
    """Whether all of its processes are, after at most a few seconds: Python's resource tracker is the last."""
    deadline = time.monotonic() + 10
    while server.family() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not server.family()


@pytest.mark.parametrize(
    ("sent", "to_all", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 0), (signal.SIGTERM, True, 0)]
)
def test_it_ends_cleanly_and_leaves_nobody_and_a_free_port(trained, sent, to_all, code):
    server = Served(f"run='{trained.path}'")
    family = server.family()
    assert len(family) >= 3, "the server, its manager and its worker"
    assert httpx.get(f"{server.url}/health", trust_env=False).text == "ok"
    port = int(server.url.rpartition(":")[2])
    if to_all:
        os.killpg(server.process.pid, sent)  # as a terminal does
    else:
        server.process.send_signal(sent)
    server.process.wait(30)
    assert gone(server), "somebody is left"
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert server.end() == (code, "")


def test_a_request_that_is_being_answered_is_answered_before_the_end(trained):
    server = Served(f"run='{trained.path}'", "batch_timeout=1.5")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"{server.url}/predict", files=form_of(image_of("red")), timeout=30)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert asked.result().status_code == 200
    assert server.end() == (0, "")


def test_a_worker_that_dies_ends_the_server_with_a_reason(trained):
    server = Served(f"run='{trained.path}'")
    worker = max(server.family(), key=lambda pid: "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(worker, signal.SIGKILL)
    code, errors = server.end()
    assert code == 1
    assert "the model's process ended by itself (exit code -9)" in errors
    assert "Traceback" not in errors


def test_a_server_that_is_killed_takes_the_others_along(trained):
    server = Served(f"run='{trained.path}'")
    server.process.kill()
    assert gone(server), "the model or the queues are orphans"
    server.end()


def test_a_device_that_is_not_there_is_told_in_a_line(trained):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(AssertionError, match=r"it never answered: \[\] ft: device=cuda cannot be used: ") as caught:
        Served(f"run='{trained.path}'", "device=cuda")
    assert "Traceback" not in str(caught.value)


def test_nothing_is_sent_anywhere_and_nothing_is_written(trained, tmp_path, monkeypatch):
    """Every connection that is not to this machine, in any of its processes, would end it."""
    guard = tmp_path / "sitecustomize.py"
    guard.write_text(
        "import sys\n"
        "def refuse(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'):\n"
        "        where = arguments[1] if event == 'socket.connect' else arguments\n"
        "        host = where[0] if isinstance(where, tuple) else 'unix'\n"
        "        if host not in ('127.0.0.1', 'unix', None):\n"
        "            print('CALLED', where, file=sys.stderr, flush=True)\n"
        "sys.addaudithook(refuse)\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    before = sorted(each.name for each in Path.cwd().iterdir())
    server = Served(f"run='{trained.path}'", PYTHONPATH=path)
    assert httpx.post(f"{server.url}/predict", files=form_of(image_of("red")), trust_env=False).status_code == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == (0, "")
    assert sorted(each.name for each in Path.cwd().iterdir()) == before
