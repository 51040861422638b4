"""The images of a ``multipart/form-data`` body (RFC 7578), as it arrives: what is not an image is not kept.

Starlette's own parser, and so FastAPI's, writes temporary files, takes a form that was cut for one that is whole, and
counts only files.
"""

from fastapi import HTTPException
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

UNPROCESSABLE = 422
FIELD = "image"
# Beside the images, and ignored.
MAX_OTHER_FIELDS = 16


class Form:
    """Takes pieces of a body, and gives the files of its field ``image``.

    Args:
        content_type: The header, with the boundary.
        max_images: As soon as there are more, the rest is not looked at.

    Raises:
        HTTPException: 422, as all of its methods.
    """

    def __init__(self, content_type: str, max_images: int) -> None:
        self.max_images = max_images
        self.files: list[bytearray] = []
        self.others: list[str] = []
        self._is_file = self._is_whole = False
        self._name = self._value = b""
        self._disposition = b""
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise _refused("its content type names no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _refused(str(error)) from None

    def write(self, piece: bytes) -> None:
        """The next bytes of the body."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _refused(str(error)) from None

    def images(self) -> list[bytes]:
        """The files, in their order, at least one, once the body has ended."""
        if not self._is_whole:
            raise _refused("it ends in the middle")
        if not self.files:
            names = ", ".join(dict.fromkeys(self.others))[:200] or "none"
            raise HTTPException(UNPROCESSABLE, f"the form needs a field {FIELD!r} with a file; its fields: {names}")
        return [bytes(file) for file in self.files]

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = name == FIELD and b"filename" in options
        if name == FIELD and not self._is_file:
            raise HTTPException(UNPROCESSABLE, f"the form's field {FIELD!r} must be a file, and is text")
        if self._is_file:
            self.files.append(bytearray())
        else:
            self.others.append(name)
        if len(self.files) > self.max_images:
            raise HTTPException(UNPROCESSABLE, f"more images than the limit of {self.max_images}")
        if len(self.others) > MAX_OTHER_FIELDS:
            raise _refused(f"it has more than {MAX_OTHER_FIELDS} other fields")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.files[-1] += data[start:end]

    def _on_end(self) -> None:
        self._is_whole = True


def _refused(reason: str) -> HTTPException:
    return HTTPException(UNPROCESSABLE, f"the form cannot be read: {reason}")
