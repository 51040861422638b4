"""Uploads finished exports to the Hugging Face hub. They stay where they are, whatever comes of it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ft.deploy.quiet import quiet
from ft.errors import UserError

# For the first answer of the hub; uploading takes as long as it takes.
ANSWER_SECONDS = 9.0


def check_address(address: str) -> None:
    """Refuses, before anything is computed, what can never be pushed.

    Raises:
        UserError: The address is not ``org/name``, the machine is told to stay offline, or nobody is logged in.
    """
    try:
        validate_repo_id(address)
        valid = address.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise UserError(f"push={address} must be org/name, of letters, digits, '-', '_' and '.'.")
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise UserError(f"push={address}: HF_HUB_OFFLINE is set. Take it away, or leave push out.")
    if huggingface_hub.get_token() is None:
        raise UserError(f"push={address}: nobody is logged in. Run 'hf auth login', or set HF_TOKEN.")


def push(exports: dict[str, Path], address: str, *, private: bool) -> str:
    """Uploads the first export to the top of the repository, others to folders named after their formats.

    Args:
        exports: Folders by format.
        address: ``org/name``; made if it is not there.
        private: Whether a new repository is.

    Returns:
        Where to look at it.

    Raises:
        UserError: The hub is not in reach, does not know the user, or refuses; names the folders that are there.
    """
    api = huggingface_hub.HfApi()
    try:
        with quiet():
            _answered_in_time(api.whoami)
            api.create_repo(address, private=private, exist_ok=True)
            for number, (format, folder) in enumerate(exports.items()):
                api.upload_folder(
                    repo_id=address,
                    folder_path=folder,
                    path_in_repo=format if number else None,
                    commit_message=f"Export as {format}",
                )
    # huggingface_hub raises its own, its HTTP client's, and the system's errors.
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        kept = ", ".join(str(folder) for folder in exports.values())
        raise UserError(f"push={address}: not uploaded: {first}\nThe export is complete: {kept}") from error
    return f"https://huggingface.co/{address}"


def _answered_in_time(call: Callable[[], Any]) -> None:
    """Calls in a thread, because a name lookup cannot be given a time limit.

    Raises:
        TimeoutError: No answer within ``ANSWER_SECONDS``.
    """
    failures: list[Exception] = []

    def work() -> None:
        try:
            call()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if thread.is_alive():
        raise TimeoutError(f"the Hugging Face hub did not answer within {ANSWER_SECONDS:.0f} s")
    if failures:
        raise failures[0]
