"""What a server answers, to those who ask as they should and to those who do not."""

import asyncio
import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ft.deploy.server.loop import PatientLoop
from tests.deploy.serving import COLOURS, ByColour, answering, form_of, image_of, predictor_of, text_of

RED, GREEN, BLUE = (image_of(colour) for colour in COLOURS)


@pytest.fixture(scope="module")
def client():
    with answering(predictor_of()) as client:
        yield client


def labels(response) -> list[str]:
    assert response.status_code == 200, response.text
    return [each["label"] for each in response.json()["predictions"]]


def test_an_image_is_told_with_its_probability_and_the_model(client):
    answer = client.post("/predict", files=form_of(RED)).json()
    share = math.exp(10) / (math.exp(10) + 2)
    assert answer["model"] == {"name": "by_colour", "version": "first"}
    (said,) = answer["predictions"]
    assert said["label"] == "red"
    assert said["probability"] == pytest.approx(share, abs=1e-6)
    assert [each["label"] for each in said["top_k"]] == ["red", "green", "blue"]


def test_many_images_are_told_in_their_order(client):
    assert labels(client.post("/predict", files=form_of(BLUE, RED, RED, GREEN))) == ["blue", "red", "red", "green"]
    images = [text_of(each) for each in (GREEN, BLUE)]
    assert labels(client.post("/predict", json={"images": images})) == ["green", "blue"]


def test_base64_may_come_as_a_browser_writes_it(client):
    assert labels(client.post("/predict", json={"image": text_of(GREEN)})) == ["green"]
    assert labels(client.post("/predict", json={"image": f"data:image/png;base64,{text_of(BLUE)}"})) == ["blue"]


def test_top_k_says_how_many_classes_are_named(client):
    for top_k in (1, 2, 3):
        (said,) = client.post(f"/predict?top_k={top_k}", files=form_of(BLUE)).json()["predictions"]
        assert len(said["top_k"]) == top_k


@pytest.mark.parametrize("format", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_every_format_of_a_data_set_is_read(client, format):
    assert labels(client.post("/predict", files=form_of(image_of((255, 0, 0), format=format)))) == ["red"]


def test_labels_and_numbers_are_told_as_such():
    with answering(predictor_of("multilabel", thresholds=(0.9, 0.5, 0.5))) as client:
        (said,) = client.post("/predict", files=form_of(RED)).json()["predictions"]
        assert said["labels"] == ["red", "green", "blue"]  # a sigmoid of 0 is a half
        assert set(said["probabilities"]) == set(COLOURS)
        refused = client.post("/predict?top_k=1", files=form_of(RED))
        assert (refused.status_code, "classification" in refused.json()["error"]) == (422, True)
    with answering(predictor_of("regression", mean=(1.0, 0.0, 0.0), std=(2.0, 1.0, 1.0))) as client:
        (said,) = client.post("/predict", files=form_of(RED)).json()["predictions"]
        assert said["values"] == {"red": pytest.approx(21.0), "green": 0.0, "blue": 0.0}


def test_what_comes_while_the_model_is_busy_is_answered_together():
    class Slow(ByColour):
        """Is busy with the first request until the others are there."""

        def __init__(self) -> None:
            super().__init__()
            self.busy, self.go_on = threading.Event(), threading.Event()

        def __call__(self, pixels):
            if len(self.batches) == 1:  # 0: while it is set up
                self.busy.set()
                assert self.go_on.wait(20)
            return super().__call__(pixels)

    model = Slow()
    with answering(predictor_of(run=model), max_batch_size=4) as client, ThreadPoolExecutor(8) as pool:
        asked = [("red", RED), *(("green", GREEN), ("blue", BLUE), ("red", RED)) * 2]
        first = pool.submit(client.post, "/predict", files=form_of(RED))
        assert model.busy.wait(20)
        rest = [(colour, pool.submit(client.post, "/predict", files=form_of(image))) for colour, image in asked[1:]]
        while client.queue.qsize() < len(rest):
            time.sleep(0.01)
        model.go_on.set()
        assert labels(first.result()) == ["red"]
        assert [labels(each.result()) for _, each in rest] == [[colour] for colour, _ in rest]
    assert sum(model.batches) == 1 + 7
    assert max(model.batches) == 4, "requests were answered one by one"


def test_a_request_with_many_images_goes_through_the_model_in_parts():
    model = ByColour()
    with answering(predictor_of(run=model), max_batch_size=1) as client:
        assert labels(client.post("/predict", files=form_of(RED, GREEN, BLUE))) == ["red", "green", "blue"]
    assert model.batches == [1, 1, 1, 1]


JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=x"}
# What is sent, the status, and what the reason must name.
BAD = {
    "no body": ({}, 415, "there is no content type"),
    "text": ({"content": b"hello", "headers": {"content-type": "text/plain"}}, 415, "text/plain"),
    "an image as the body": ({"content": RED, "headers": {"content-type": "image/png"}}, 415, "multipart/form-data"),
    "a form without files": ({"data": {"a": "b"}}, 415, "x-www-form-urlencoded"),
    "another field": ({"files": form_of(RED, field="file")}, 422, "its fields: file"),
    "text in the field": ({"files": {"image": (None, "hello")}}, 422, "must be a file, and is text"),
    "a form without a boundary": (
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        422,
        "boundary",
    ),
    "a form that is none": ({"content": b"hello", "headers": FORM}, 422, "the form cannot be read"),
    "an empty form": ({"content": b"--x--\r\n", "headers": FORM}, 422, "its fields: none"),
    "a cut form": (
        {"content": b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nab', "headers": FORM},
        422,
        "it ends in the middle",
    ),
    "many fields": ({"files": form_of(*[b"a"] * 17, field="other")}, 422, "more than 16 other fields"),
    "a boundary without end": (
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=" + "x" * 5000}},
        422,
        "oundary",
    ),
    "an empty file": ({"files": form_of(b"")}, 422, "the image cannot be read: the file is empty"),
    "no image": ({"files": form_of(b"hello")}, 422, "not an image"),
    "a program": ({"files": form_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")}, 422, "not an image"),
    "a cut image": ({"files": form_of(image_of("red", (90, 90), "JPEG")[:-300])}, 422, "damaged"),
    "a flipped bit": ({"files": form_of(RED[:45] + b"\xff" + RED[46:])}, 422, "cannot be read"),
    "the second is none": ({"files": form_of(RED, b"hello")}, 422, "image 2 of 2"),
    "too many pixels": ({"files": form_of(image_of("red", (101, 100)))}, 413, "101 x 100"),
    "a bomb": ({"files": form_of(image_of(0, (4000, 4000), optimize=True)[:19_000])}, 413, "4000 x 4000"),
    "a thread": ({"files": form_of(image_of("red", (10_000, 1)))}, 200, ""),
    "too many images": ({"files": form_of(*[RED] * 5)}, 422, "more images than the limit of 4"),
    "too many in JSON": ({"json": {"images": [text_of(RED)] * 5}}, 422, "5 images are more than the limit of 4"),
    "too many bytes": ({"files": form_of(b"x" * 20_000)}, 413, "20,000 bytes"),
    "broken JSON": ({"content": b'{"image": ', "headers": JSON}, 422, "not JSON"),
    "no UTF-8": ({"content": b"\xff\xfe\x00", "headers": JSON}, 422, "not JSON"),
    "deep JSON": ({"content": b"[" * 15_000, "headers": JSON}, 422, "not JSON"),
    "a list": ({"json": [text_of(RED)]}, 422, "of type list"),
    "no key": ({"json": {}}, 422, "its keys: none"),
    "a wrong key": ({"json": {"picture": text_of(RED)}}, 422, "its keys: picture"),
    "both keys": ({"json": {"image": text_of(RED), "images": []}}, 422, "its keys: image, images"),
    "a number": ({"json": {"image": 3}}, 422, "must be base64 text, and is of type int"),
    "null in the list": ({"json": {"images": [text_of(RED), None]}}, 422, "image 2 of 2 must be base64 text"),
    "an empty list": ({"json": {"images": []}}, 422, "at least one image"),
    "no list": ({"json": {"images": text_of(RED)}}, 422, "must be a list"),
    "broken base64": ({"json": {"image": "!!" + text_of(RED)}}, 422, "not base64"),
    "base64 cut": ({"json": {"image": text_of(RED)[:-3]}}, 422, "not base64"),
    "base64 that is not ASCII": ({"json": {"image": "ä"}}, 422, "not base64"),
    "base64 of something else": ({"json": {"image": text_of(b"hello")}}, 422, "not an image"),
}
TOP_K = ("0", "-1", "4", "two", "1.0", "", "1_0", "٣", "9" * 5000)


@pytest.mark.parametrize(("asked", "status", "told"), BAD.values(), ids=BAD.keys())
def test_a_bad_request_gets_its_reason_and_the_next_one_its_answer(client, asked, status, told):
    response = client.post("/predict", **asked)
    assert response.status_code == status, response.text
    if status != 200:
        assert response.json().keys() == {"error"}
        assert told in response.json()["error"]
        assert len(response.json()["error"]) < 500
    assert labels(client.post("/predict", files=form_of(GREEN))) == ["green"]


@pytest.mark.parametrize("top_k", TOP_K)
def test_a_bad_top_k_is_refused(client, top_k):
    response = client.post("/predict", params={"top_k": top_k}, files=form_of(RED))
    assert response.status_code == 422
    assert "top_k must be a whole number from 1 to 3" in response.json()["error"]


@pytest.mark.parametrize(("kind", "most"), [("application/json", 21), ("multipart/form-data; boundary=x", 21)])
def test_the_limit_of_bytes_holds_without_a_length_and_before_all_of_them_are_read(client, kind, most):
    """As uvicorn calls the application: 1,000 pieces of 1,000 bytes, of which 20 are allowed."""
    first = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    pieces = [first.ljust(1000, b"."), *[b"." * 1000] * 999]
    taken, sent = [], []

    async def receive():
        taken.append(pieces[len(taken)])
        return {"type": "http.request", "body": taken[-1], "more_body": len(taken) < len(pieces)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "http_version": "1.1"}
    asyncio.run(client.app({**scope, "headers": [(b"content-type", kind.encode())]}, receive, send))
    assert sent[0]["status"] == 413
    assert b"larger than the limit of 20,000 bytes" in sent[1]["body"]
    assert len(taken) <= most


def test_a_length_above_the_limit_is_refused_before_anything_is_read(client):
    async def receive():
        raise AssertionError("the body was asked for")

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "http_version": "1.1"}
    headers = [(b"content-type", b"application/json"), (b"content-length", b"20001")]
    asyncio.run(client.app({**scope, "headers": headers}, receive, send))
    assert sent[0]["status"] == 413


def test_a_request_that_stops_arriving_is_ended_and_one_that_is_broken_off_too():
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "http_version": "1.1"}
    scope = {**scope, "headers": [(b"content-type", b"application/json")]}
    sent = []

    async def stalled():
        await asyncio.sleep(60)

    async def gone():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    with answering(predictor_of(), timeout=0.1) as client:
        asyncio.run(client.app(scope, stalled, send))
        asyncio.run(client.app(scope, gone, send))
    assert [message["status"] for message in sent if "status" in message] == [408, 400]
    assert b"more than 0.1 s to arrive" in sent[1]["body"]


def test_other_paths_and_methods_are_told_what_there_is(client):
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/predict", 405), ("POST", "/info", 405)):
        response = client.request(method, path)
        assert response.status_code == status
        assert "POST /predict" in response.json()["error"]
    assert client.get("/predict").headers["allow"] == "POST"


def test_nothing_offers_a_page_that_loads_from_elsewhere(client):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(path).status_code == 404
    page, again = client.get("/"), client.get("/")
    assert page.status_code == again.status_code == 200
    assert "<script>" in page.text == again.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    addresses = [part for part in page.text.split("http")[1:] if not part.startswith("://www.w3.org/2000/svg")]
    assert not addresses


def test_health_and_info_say_what_is_there(client):
    assert client.get("/health").status_code == 200
    info = client.get("/info").json()
    assert info["task"] == "classification"
    assert info["classes"] == list(COLOURS)
    assert info["preprocessing"]["height"] == 8
    assert info["origin"] == "runs/first"
    assert info["limits"] == {"max_bytes": 20_000, "max_images": 4, "max_pixels": 10_000, "timeout": 60}
    assert info["versions"]["litserve"]
    assert info["model"] == {"name": "by_colour", "version": "first"}


def test_a_fault_of_the_model_is_the_servers_own_and_does_not_end_it():
    class Fails(ByColour):
        """On blue alone; the black image of the set-up goes well."""

        def __call__(self, pixels):
            if (pixels[:, 2] > 0).any():
                raise RuntimeError("out of memory")
            return super().__call__(pixels)

    with answering(predictor_of(run=Fails())) as client:
        response = client.post("/predict", files=form_of(BLUE))
        assert (response.status_code, response.json()) == (500, {"error": "Internal server error"})
        assert labels(client.post("/predict", files=form_of(RED))) == ["red"]


def test_a_request_that_waited_too_long_is_told_so():
    class Sleeps(ByColour):
        def __call__(self, pixels):
            if self.batches:
                time.sleep(0.5)
            return super().__call__(pixels)

    with answering(predictor_of(run=Sleeps()), timeout=0.3, max_batch_size=2) as client, ThreadPoolExecutor(6) as pool:
        statuses = [
            each.status_code for each in pool.map(lambda _: client.post("/predict", files=form_of(RED)), range(6))
        ]
    assert set(statuses) == {200, 504}


def test_damaged_bodies_of_every_kind_are_never_a_500(client):
    generator = random.Random(0)
    form = client.build_request("POST", "/predict", files=form_of(RED, image_of("blue", (30, 30), "JPEG")))
    bodies = [(dict(form.headers), form.read()), (JSON, f'{{"image": "{text_of(RED)}"}}'.encode())]
    seen = set()
    for _ in range(150):
        headers, body = bodies[generator.random() < 0.3]
        damaged = bytearray(body)
        for _ in range(generator.choice((1, 3, 30))):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        if generator.random() < 0.3:
            del damaged[generator.randrange(len(damaged)) :]
        kind = {"content-type": headers["content-type"]}
        seen.add(client.post("/predict", content=bytes(damaged), headers=kind).status_code)
    assert seen <= {200, 413, 422}
    assert 422 in seen
    assert labels(client.post("/predict", files=form_of(GREEN))) == ["green"]


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError])
def test_a_worker_whose_queue_is_gone_ends_without_a_traceback(error):
    class Gone:
        def get(self, timeout):
            raise error

    with pytest.raises(SystemExit) as caught:
        PatientLoop().get_batch_requests(None, Gone(), None)
    assert caught.value.code == 1
