"""``python -m ft.serve run=RUN``: a trained or an exported model behind HTTP, with a page to try it on."""

import sys
from typing import TYPE_CHECKING

from ft.command.imports import heavy_imports
from ft.command.verb import run_verb
from ft.errors import Answer, require_extra

if TYPE_CHECKING:
    from omegaconf import DictConfig


def serve(config: "DictConfig") -> None:
    """Answers requests until Ctrl-C; with ``dry=true`` only tells how to ask."""
    from ft.deploy.server.examples import examples, welcome
    from ft.deploy.server.listen import Address

    if config.dry:
        raise Answer(examples(Address.of(config).url()))
    for package in ("litserve", "python_multipart"):
        require_extra(package, "serve", "ft.serve")
    with heavy_imports():
        from functools import partial
        from pathlib import Path

        from ft.build.trained import load_predictor
        from ft.deploy.load import is_exported, load_exported
        from ft.deploy.server.app import build_server
        from ft.deploy.server.options import Serving
        from ft.deploy.server.run import serve_forever
        from ft.machine.allocator import keep_freed_memory
        from ft.run_folder import RunFolder

    serving = Serving.from_config(config)
    exported = Path(serving.run).expanduser()
    if is_exported(exported):
        load = partial(load_exported, exported)
    else:
        load = partial(load_predictor, RunFolder.find(serving.run, runs_dir=serving.runs_dir, key="run"))
    with serving.address.listen() as listener:
        server = build_server(serving, load, prepare=keep_freed_memory)
        port = listener.getsockname()[1]
        serve_forever(
            server,
            listener,
            ready=lambda: print(welcome(serving.address, port, server.app.state.info), flush=True),
        )


if __name__ == "__main__":
    sys.argv = ["dry=true" if word == "--dry" else word for word in sys.argv]
    run_verb(serve, "serve")
