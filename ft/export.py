"""``python -m ft.export run=RUN format=timm,onnx,pt2``: a run's model for others, and compared with it."""

from typing import TYPE_CHECKING, Any

from ft.command.imports import heavy_imports
from ft.command.verb import run_verb

if TYPE_CHECKING:
    from omegaconf import DictConfig


def export(config: "DictConfig") -> list[str]:
    """Exports in every format that is asked for, tells how each compares, and returns the folders."""
    with heavy_imports():
        from omegaconf import OmegaConf

        from ft.build.sample import Sample, data_name, run_sample
        from ft.build.trained import load_predictor
        from ft.deploy.facts import card_facts, stored_test
        from ft.deploy.images import folder_pixels
        from ft.deploy.options import Options
        from ft.deploy.push import check_address, push
        from ft.deploy.write import look_at, places, write_export
        from ft.errors import require
        from ft.run_folder import RunFolder
        from ft.scoring.intervals import intervals
        from ft.show.console import console

    wishes: Any = OmegaConf.to_container(config, resolve=True)
    options, address, asked = Options.of(wishes), wishes["push"], wishes["images"]
    require(bool(wishes["run"]), "run", "must be a run folder, its name, or last", wishes["run"])
    folder = RunFolder.find(wishes["run"], runs_dir=wishes["runs_dir"], key="run")
    targets = places(options.formats, wishes["output"], folder.path, overwrite=wishes["overwrite"])
    if address:
        check_address(address)
    predictor = load_predictor(folder)
    spec, count = predictor.spec, options.check_images
    sample = Sample(asked, folder_pixels(asked, spec, count), {}) if asked else run_sample(folder, spec, count)
    test = stored_test(folder)
    sure = {name: each.as_dict() for name, each in intervals(test).items()} if test else {}
    said = {"data": data_name(folder), "license": wishes["license"]}
    card = card_facts(predictor, folder, **said, counts=sample.counts, intervals=sure, test=test)
    images, out = look_at(predictor, sample.source, sample.pixels), console()
    for format, path in targets.items():
        # One repository has one front page.
        top = address if format == options.formats[0] else None
        found = write_export(predictor, images, format, path, options=options, card=card, address=top)
        out.print(str(found), markup=False, soft_wrap=True)
    if address:
        out.print(f"pushed: {push(targets, address, private=wishes['private'])}", markup=False, soft_wrap=True)
    return [str(path) for path in targets.values()]


if __name__ == "__main__":
    run_verb(export, "export", lists=["format"])
