"""What a request may weigh, and how long it may take."""

from dataclasses import dataclass

from ft.errors import require


@dataclass(frozen=True)
class Limits:
    """Of one request.

    Attributes:
        max_bytes: In its body.
        max_images: In all.
        max_pixels: In each image, as its header says: nothing larger is decoded.
        timeout: Seconds it may take to arrive, and then wait for the model.

    Raises:
        UserError: One of them allows nothing.
    """

    max_bytes: int
    max_images: int
    max_pixels: int
    timeout: float

    def __post_init__(self) -> None:
        require(self.max_bytes >= 1, "max_bytes", "must be at least 1", self.max_bytes)
        require(self.max_images >= 1, "max_images", "must be at least 1", self.max_images)
        require(self.max_pixels >= 1, "max_pixels", "must be at least 1", self.max_pixels)
        require(self.timeout > 0, "timeout", "must be above 0", self.timeout)
