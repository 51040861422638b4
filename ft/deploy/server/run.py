"""Starts the processes of a server, and ends them, whatever ends the server.

ft.serve   HTTP (uvicorn) and decoding         listens; gets Ctrl-C and SIGTERM
  manager  the queues between the others       LitServe's, forked
  worker   the model                           one or more, spawned

The last two end with the first, even when that is killed.

``LitServer.run`` is not used: it serves from yet another process, which is forked; binds its port once the model is
loaded; asks a dead worker for ever; and leaves all of them behind on SIGTERM.
"""

import multiprocessing.connection
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import litserve
import uvicorn
from litserve.utils import WorkerSetupStatus, wrap_litserve_start

from ft.deploy.server.api import USER_ERROR

# Seconds that requests get to come to their end after Ctrl-C, and where no model is left to answer them.
GRACE, NO_GRACE = 10, 1


def serve_forever(server: litserve.LitServer, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Answers requests until Ctrl-C or SIGTERM.

    Args:
        server: From ``build_server``.
        listener: Listens already.
        ready: Called when the models are loaded.

    Raises:
        KeyboardInterrupt: After Ctrl-C.
        SystemExit: After SIGTERM (0), when a worker could not start (2, told), or ended by itself (1).
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(_stay_with, os.getpid(), listener))
    with _terminated_as_asked(), listener, _workers(server) as workers:
        _wait_for_models(server, workers)
        ready()
        http = uvicorn.Server(
            uvicorn.Config(server.app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE)
        )

        def watch() -> None:
            multiprocessing.connection.wait([worker.sentinel for worker in workers])
            http.config.timeout_graceful_shutdown = NO_GRACE
            http.should_exit = True

        threading.Thread(target=watch, daemon=True, name="watch-workers").start()
        http.run(sockets=[listener])
        raise SystemExit(f"ft: {_how_it_ended(workers)} The server has ended.")


@contextmanager
def _workers(server: litserve.LitServer) -> Iterator[list[Any]]:
    """Starts LitServe's manager and workers; afterwards none of them is left."""
    context = wrap_litserve_start(server)
    with _ignored(signal.SIGINT):  # What is started inside ignores it for ever.
        context.__enter__()
    workers = server.inference_workers
    try:
        yield workers
    finally:
        with _ignored(signal.SIGINT, signal.SIGTERM):
            try:
                context.__exit__(None, None, None)
            except (OSError, EOFError):  # The manager is gone already: all of us got the signal, or it was killed.
                for worker in workers:
                    worker.kill()
                    worker.join()
                server.manager.shutdown()  # pyright: ignore[reportAttributeAccessIssue]


def _stay_with(server: int, listener: socket.socket) -> None:
    """In a forked process, which has nobody to tell it that the server was killed, and would keep its port."""
    listener.close()

    def watch() -> None:
        while os.getppid() == server:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-server").start()


def _wait_for_models(server: litserve.LitServer, workers: list[Any]) -> None:
    while set(server.workers_setup_status.values()) != {WorkerSetupStatus.READY}:
        if any(worker.exitcode == USER_ERROR for worker in workers):
            raise SystemExit(USER_ERROR)
        if any(worker.exitcode is not None for worker in workers):
            raise SystemExit(f"ft: {_how_it_ended(workers)} The model was not loaded yet.")
        time.sleep(0.05)


def _how_it_ended(workers: list[Any]) -> str:
    codes = [worker.exitcode for worker in workers if worker.exitcode is not None]
    return f"the model's process ended by itself (exit code {', '.join(map(str, codes))})."


@contextmanager
def _ignored(*signals: signal.Signals) -> Iterator[None]:
    before = [(each, signal.signal(each, signal.SIG_IGN)) for each in signals]
    try:
        yield
    finally:
        for each, handler in before:
            signal.signal(each, handler)


@contextmanager
def _terminated_as_asked() -> Iterator[None]:
    """SIGTERM ends the process as any other exit does: with the clean-up, and with exit code 0."""

    def end(*_: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
