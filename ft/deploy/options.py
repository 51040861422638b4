"""What the user wants exported, checked before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ft.deploy.folder import FILES, NORMALIZED, UINT8
from ft.deploy.onnx_file import LOWEST_OPSET, require_onnx
from ft.deploy.outputs import FOLD, STORE
from ft.errors import UserError, one_of, require


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes:
        formats: Which, in this order; each once.
        temperature: ``fold`` it into the outputs, or ``store`` it beside them.
        tolerance: Largest difference to the trained model, relative to its largest logit.
        check_images: On how many images it is compared.
        settings: By format, what only that format has.

    Raises:
        UserError: A value is out of range, or the extra of a format is missing.
    """

    formats: tuple[str, ...]
    temperature: str
    tolerance: float
    check_images: int
    settings: Mapping[str, dict[str, Any]]

    def __post_init__(self) -> None:
        if not self.formats:
            raise UserError(f"format=[] asks for nothing: choose out of {', '.join(FILES)}.")
        for format in self.formats:
            one_of(format, FILES, "format")
        one_of(self.temperature, (FOLD, STORE), "temperature")
        require(self.tolerance > 0, "tolerance", "must be above 0", self.tolerance)
        require(self.check_images >= 1, "check_images", "must be at least 1", self.check_images)
        for format, settings in self.settings.items():
            one_of(settings["preprocess"], (NORMALIZED, UINT8), f"{format}.preprocess")
        if "onnx" in self.formats:
            opset = self.settings["onnx"]["opset"]
            require(opset >= LOWEST_OPSET, "onnx.opset", f"must be at least {LOWEST_OPSET}", opset)
            require_onnx()

    @classmethod
    def of(cls, wishes: Mapping[str, Any]) -> "Options":
        """From the plain values of ``conf/export.yaml``; one format need not be a list."""
        given = wishes["format"]
        formats = given if isinstance(given, list) else [] if given is None else [given]
        return cls(
            tuple(dict.fromkeys(formats)),
            wishes["temperature"],
            wishes["tolerance"],
            wishes["check_images"],
            {format: wishes[format] for format in ("onnx", "pt2")},
        )
