"""One hash over a folder of source files."""

import hashlib
from pathlib import Path


def tree_hash(folder: str | Path) -> str:
    """sha256 over the path and content of every file but Python's caches, in the order of their paths."""
    whole = hashlib.sha256()
    root = Path(folder)
    for path in sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()):
        if "__pycache__" not in path:
            content = hashlib.sha256((root / path).read_bytes()).hexdigest()
            whole.update(f"{content}  {path}\n".encode())
    return whole.hexdigest()
