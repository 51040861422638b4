"""What a job prints goes into its folder: the terminal belongs to the sweep."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from ft.job_folder import JobFolder


@contextmanager
def printed_to(folder: JobFolder) -> Iterator[None]:
    """Inside, what Python prints is appended to the job's ``output.txt``, line by line."""
    with open(folder.output, "a", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        yield
