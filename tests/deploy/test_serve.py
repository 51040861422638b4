"""``ft.serve`` before it answers: what it is asked to do, and where it listens."""

import socket

import pytest

from ft.deploy.server.listen import Address
from ft.errors import Answer, UserError
from ft.serve import serve
from tests.conftest import composed
from tests.deploy.serving import serving_of
from tests.test_command_line import ft

WRONG = {
    "run": (None, "ft.serve needs run=RUN_FOLDER"),
    "port": (70_000, "port must be from 0 to 65535, got 70000"),
    "port_taken": ("nxt", "port_taken=nxt is not a choice: it must be one of next, error. Did you mean next"),
    "max_bytes": (0, "max_bytes must be at least 1, got 0"),
    "max_images": (0, "max_images must be at least 1, got 0"),
    "max_pixels": (0, "max_pixels must be at least 1, got 0"),
    "timeout": (0, "timeout must be above 0, got 0"),
    "max_batch_size": (0, "max_batch_size must be at least 1, got 0"),
    "batch_timeout": (60, "batch_timeout must be at least 0 and below timeout, got 60"),
    "workers": (0, "workers must be at least 1, got 0"),
    "threads": (0, "threads must be 1 or more, got 0"),
    "precision": ("fp8", "precision=fp8 is not a choice: it must be one of fp32, bf16"),
}


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.mark.parametrize(("key", "value", "told"), [(key, *rest) for key, rest in WRONG.items()], ids=WRONG)
def test_a_wrong_value_is_refused_with_its_key(key, value, told):
    with pytest.raises(UserError) as caught:
        serving_of(**{key: value})
    assert told in str(caught.value)


def test_a_taken_port_is_the_next_free_one_or_an_error(taken):
    with Address("127.0.0.1", taken, "next").listen() as listener:
        assert taken < listener.getsockname()[1] <= taken + 100
        with socket.create_connection(listener.getsockname(), timeout=5):
            pass  # It listens already.
    with pytest.raises(UserError, match=rf"port={taken} is taken. Set another one, or port_taken=next"):
        Address("127.0.0.1", taken, "error").listen()


def test_a_port_is_free_again_after_a_server_ended():
    with Address("127.0.0.1", 0, "error").listen() as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            listener.accept()[0].close()
    with Address("127.0.0.1", port, "error").listen():
        pass


def test_a_host_that_is_not_of_this_machine_is_refused():
    with pytest.raises(UserError, match=r"host=203\.0\.113\.7 port=0 cannot be listened on: "):
        Address("203.0.113.7", 0, "next").listen()


def test_who_may_reach_it_and_how():
    assert [Address(host, 1, "next").is_public for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::")] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert Address("0.0.0.0", 80, "next").url() == "http://127.0.0.1:80"
    assert Address("::", 80, "next").url(81) == "http://[::1]:81"


def test_dry_only_tells_how_to_ask():
    result = ft("--dry", "port=8123", verb="serve")
    assert result.returncode == 0, result.stderr
    assert "curl -F image=@photo.jpg http://127.0.0.1:8123/predict" in result.stdout
    compile(result.stdout.partition("installed\n")[2], "the two programs", "exec")
    with (
        composed("dry=true", "host=0.0.0.0", config="serve") as config,
        pytest.raises(Answer, match=r"127\.0\.0\.1:8000"),
    ):
        serve(config)


def test_a_run_that_is_not_there_is_told_before_anything_listens(tmp_path, taken):
    wishes = ("run=nowhere", f"runs_dir='{tmp_path}'", f"port={taken}", "port_taken=error")
    with composed(*wishes, config="serve") as config, pytest.raises(UserError, match="run=nowhere is not a run folder"):
        serve(config)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("ft.errors.find_spec", lambda name: None)
    with composed("run=last", config="serve") as config, pytest.raises(UserError, match=r"litserve: .*\[serve\]"):
        serve(config)
