"""ft: fine-tune a pretrained timm backbone on your images.

What a plugin author needs is listed here and imported on first use, so that ``import ft`` stays free of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ft.data.batch import Batch
    from ft.data.source import Source, Split
    from ft.errors import Answer, UserError
    from ft.input_spec import InputSpec
    from ft.model.stages import Stage
    from ft.module import FineTuner
    from ft.plugin import Plugin
    from ft.tasks.task import Task

__version__ = "0.1.0"
__all__ = ["Answer", "Batch", "FineTuner", "InputSpec", "Plugin", "Source", "Split", "Stage", "Task", "UserError"]

_HOMES = {
    "Answer": "ft.errors",
    "Batch": "ft.data.batch",
    "FineTuner": "ft.module",
    "InputSpec": "ft.input_spec",
    "Plugin": "ft.plugin",
    "Source": "ft.data.source",
    "Split": "ft.data.source",
    "Stage": "ft.model.stages",
    "Task": "ft.tasks.task",
    "UserError": "ft.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ft' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
