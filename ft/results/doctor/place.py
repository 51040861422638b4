"""Where the doctor's findings go, and that nothing is overwritten or half-written."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ft.errors import UserError
from ft.results.doctor.examine import Diagnosis
from ft.results.doctor.sheets import draw_duplicates, draw_labels
from ft.run_folder import write_whole

SHEETS: dict[str, Callable[..., bool]] = {"duplicates": draw_duplicates, "labels": draw_labels}


@dataclass(frozen=True)
class Place:
    """``doctor.json`` and the folder of the pictures."""

    json: Path
    pictures: Path

    @classmethod
    def of_run(cls, run: Path) -> "Place":
        """``RUN/doctor.json``, ``RUN/doctor/*.png``."""
        return cls(run / "doctor.json", run / "doctor")

    @classmethod
    def of_output(cls, folder: str) -> "Place":
        """All in one folder."""
        path = Path(folder).expanduser()
        return cls(path / "doctor.json", path)

    def refuse_existing(self, *, overwrite: bool) -> None:
        """Before anything is computed.

        Raises:
            UserError: There are findings already, and they may not be overwritten; or a file is in the way.
        """
        if self.json.exists() and not overwrite:
            raise UserError(f"{self.json} exists already, and is kept: set overwrite=true to replace it.")
        for folder in (self.pictures, *self.pictures.parents):
            if folder.exists():
                if not folder.is_dir():
                    raise UserError(f"output={self.pictures}: {folder} is a file, and must be a folder.")
                break

    def write(self, diagnosis: Diagnosis) -> list[Path]:
        """Pictures first, ``doctor.json`` last; gives the files.

        Raises:
            UserError: The place cannot be written to.
        """
        try:
            self.json.parent.mkdir(parents=True, exist_ok=True)
            self.json.unlink(missing_ok=True)
            pictures = {name: self._draw(name, diagnosis) for name in SHEETS}
            content = {
                **diagnosis.content,
                "pictures": {
                    name: file.relative_to(self.json.parent).as_posix() for name, file in pictures.items() if file
                },
            }
            write_whole(self.json, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(
                f"the findings cannot be written to {self.json.parent}: {error.strerror or error}. Set output=FOLDER."
            ) from None
        return [self.json, *filter(None, pictures.values())]

    def _draw(self, name: str, diagnosis: Diagnosis) -> Path | None:
        """``None`` where there is nothing to see; an older picture then goes."""
        file = self.pictures / f"{name}.png"
        file.unlink(missing_ok=True)
        self.pictures.mkdir(exist_ok=True)
        fresh = file.with_name(f".{name}.new")
        if not SHEETS[name](fresh, diagnosis.subject, diagnosis.findings):
            return None
        fresh.replace(file)
        return file
