"""The Hugging Face hub and its local cache, with an end to every wait.

``huggingface_hub`` retries for some 25 seconds when there is no network, and longer when a connection stalls.
Here the first answer has to come within ``CONNECT_SECONDS`` in total, and bytes have to keep coming after that.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

CONNECT_SECONDS = 10.0
STALL_SECONDS = 10.0

log = logging.getLogger(__name__)
T = TypeVar("T")


def offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids every network attempt."""
    return constants.HF_HUB_OFFLINE


def cached_file(repo: str, file: str) -> Path | None:
    """The file in the local cache, without any network."""
    found = try_to_load_from_cache(repo, file)
    return Path(found) if isinstance(found, str) else None


def download_file(repo: str, files: Sequence[str]) -> Path | None:
    """Downloads the first of ``files`` that the repository has; ``None`` if the hub is not in reach."""
    if offline():
        return None
    deadline = time.monotonic() + CONNECT_SECONDS
    for file in files:
        url = hf_hub_url(repo, file)
        found = _in_thread(lambda url=url: get_hf_file_metadata(url, timeout=CONNECT_SECONDS), lambda: deadline)
        if found is not None:
            return _in_thread(lambda file=file: Path(hf_hub_download(repo, file)), _stalls(repo))
    return None


def _stalls(repo: str) -> Callable[[], float]:
    """A deadline for a download, moved on whenever its partial file has grown."""
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "blobs"
    grown_at, size = time.monotonic(), 0

    def deadline() -> float:
        nonlocal grown_at, size
        now = sum(part.stat().st_size for part in blobs.glob("*.incomplete"))
        if now != size:
            grown_at, size = time.monotonic(), now
        return grown_at + STALL_SECONDS

    return deadline


def _in_thread(call: Callable[[], T], deadline: Callable[[], float]) -> T | None:
    """The result of ``call``; ``None`` if it fails or has not come when the deadline, asked again and again, is over.

    A thread, because a name lookup cannot be given a time limit.
    """
    results: list[T] = []

    def work() -> None:
        try:
            results.append(call())
        # Any failure to reach the hub has the same consequence; which one it was is for the log.
        except Exception as error:
            log.debug("the hub is not in reach: %s", error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive() and time.monotonic() < deadline():
        thread.join(0.1)
    return results[0] if results else None
