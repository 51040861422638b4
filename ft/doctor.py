"""``python -m ft.doctor data=folder data.root=PATH``: what is wrong with a data set, before or after training."""

from typing import TYPE_CHECKING

from ft.command.imports import heavy_imports
from ft.command.verb import run_verb
from ft.errors import require_extra

if TYPE_CHECKING:
    from omegaconf import DictConfig


def doctor(config: "DictConfig") -> None:
    """Looks at the data, prints what was found, and writes ``doctor.json`` and two contact sheets."""
    require_extra("imagehash", "doctor", "ft.doctor")
    if config.labels:
        require_extra("cleanlab", "doctor", "labels=true")
    with heavy_imports():
        from ft.build.examination import build_examination, find_run
        from ft.results.doctor.examine import Limits, examine
        from ft.results.doctor.place import Place
        from ft.results.doctor.progress import bars
        from ft.results.doctor.subject import Part, Subject
        from ft.results.doctor.summary import exit_code, show
        from ft.show.console import console

    limits = Limits(**config.limits)
    folder = find_run(config)
    place = Place.of_output(config.output) if folder is None else Place.of_run(folder.path)
    place.refuse_existing(overwrite=config.overwrite)
    found = build_examination(config, folder)
    parts = {name: Part(s.images, s.targets.numpy(), s.names) for name, s in found.data.splits.items()}
    out = console()
    with bars(out) as progress:
        diagnosis = examine(
            Subject(parts, found.task.name, found.task.classes),
            found.spec,
            limits,
            bad_headers=list(found.data.bad_images.found.items()),
            features=found.features,
            no_features=found.no_features,
            seed=config.seed,
            progress=progress,
        )
    written = place.write(diagnosis)
    show(out, diagnosis, examples=config.examples, written=written)
    if code := exit_code(diagnosis, strict=config.strict):
        raise SystemExit(code)


if __name__ == "__main__":
    run_verb(doctor, "doctor")
