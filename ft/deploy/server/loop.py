"""When a worker takes requests from the queue."""

from queue import Empty
from typing import Any

from litserve.loops.simple_loops import BatchedLoop


class PatientLoop(BatchedLoop):
    """Sleeps until there is a request, then takes those that are there as well, or come within the batch timeout.

    LitServe's own loop asks the queue, which is in another process, a thousand times a second, or without any pause
    where no batch timeout is set: an idle server then keeps two processors busy.
    """

    def get_batch_requests(self, lit_api: Any, request_queue: Any, transport: Any) -> tuple[list, list]:
        """Requests to answer together, and those that have waited too long.

        Raises:
            SystemExit: The queue is gone.
        """
        try:
            first = request_queue.get(timeout=1.0)
        except Empty:
            return [], []
        except (EOFError, ConnectionError):
            # The process that holds the queues has ended: nobody is left to ask, or to be answered.
            raise SystemExit(1) from None
        ahead: Any = _PutBack(first, request_queue)
        return super().get_batch_requests(lit_api, ahead, transport)


class _PutBack:
    """A queue with one entry before its own."""

    def __init__(self, first: Any, queue: Any) -> None:
        self._first = [first]
        self._queue = queue

    def get_nowait(self) -> Any:
        return self._first.pop() if self._first else self._queue.get_nowait()

    def get(self, timeout: float) -> Any:
        return self._first.pop() if self._first else self._queue.get(timeout=timeout)
