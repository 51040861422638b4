"""What ``ft.serve`` is asked to do, checked before a model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ft.deploy.server.limits import Limits
from ft.deploy.server.listen import Address
from ft.errors import UserError, one_of, require
from ft.inference.pixels import DTYPES


@dataclass(frozen=True)
class Serving:
    """The keys of ``conf/serve.yaml``.

    Attributes:
        run: As the user names it.
        runs_dir: Where its name is looked up.
        address: Where to listen.
        limits: Of one request.
        max_batch_size: Requests answered together, and images in one forward pass.
        batch_timeout: Seconds to wait for more requests.
        workers: Processes with a model each.
        threads: Each computes with; ``None``: torch's own number, shared among them.
        device: As torch names it, or ``auto``.
        precision: ``fp32`` or ``bf16``.
    """

    run: str
    runs_dir: str
    address: Address
    limits: Limits
    max_batch_size: int
    batch_timeout: float
    workers: int
    threads: int | None
    device: str
    precision: str

    @classmethod
    def from_config(cls, wishes: Mapping[str, Any]) -> "Serving":
        """Checks every value.

        Raises:
            UserError: One of them is none that can be.
        """
        if not isinstance(wishes["run"], str):
            raise UserError("ft.serve needs run=RUN_FOLDER, run=last, or run=EXPORTED_FOLDER.")
        for key in ("max_batch_size", "workers"):
            require(wishes[key] >= 1, key, "must be at least 1", wishes[key])
        one_of(wishes["precision"], DTYPES, "precision")
        threads, limits = wishes["threads"], {key: wishes[key] for key in Limits.__annotations__}
        require(threads is None or (isinstance(threads, int) and threads >= 1), "threads", "must be 1 or more", threads)
        found = Limits(**limits)
        wait = wishes["batch_timeout"]
        require(0 <= wait < found.timeout, "batch_timeout", "must be at least 0 and below timeout", wait)
        rest = ("run", "runs_dir", "max_batch_size", "batch_timeout", "workers", "threads", "device", "precision")
        return cls(address=Address.of(wishes), limits=found, **{key: wishes[key] for key in rest})
