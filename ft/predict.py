"""``python -m ft.predict run=RUN input=FOLDER output=predictions.csv``: what a trained model says of images."""

from typing import TYPE_CHECKING

from ft.command.imports import heavy_imports
from ft.command.verb import run_verb

if TYPE_CHECKING:
    from omegaconf import DictConfig


def predict(config: "DictConfig") -> int:
    """Predicts every image of the input, writes a table, and returns how many images it holds."""
    with heavy_imports():
        import time
        from pathlib import Path
        from typing import Any

        from omegaconf import OmegaConf

        from ft.build.trained import load_predictor
        from ft.data.module import num_workers
        from ft.deploy.load import is_exported, load_exported
        from ft.inference.job import Job
        from ft.inference.predict_files import predict_files
        from ft.inference.write import write_predictions
        from ft.run_folder import RunFolder
        from ft.show.predicted import counted, predicted

    wishes: Any = OmegaConf.to_container(config, resolve=True)
    job = Job.from_config(wishes)
    run, where = Path(job.run).expanduser(), {"device": job.device, "precision": job.precision}
    if is_exported(run):
        predictor = load_exported(run, **where)
    else:
        predictor = load_predictor(RunFolder.find(job.run, runs_dir=job.runs_dir, key="run"), **where)
    rows, views = job.rows(predictor), job.views(predictor)
    batches = predict_files(
        predictor,
        job.images,
        views=views,
        batch_size=job.batch_size,
        # One batch is decoded by one process, and that may as well be this one.
        num_workers=num_workers(job.num_workers, in_memory=len(job.images) * views.count <= job.batch_size),
        features=job.outputs.embeddings is not None,
    )
    started = time.perf_counter()
    shown = counted(batches, len(job.images), lambda batch: len(batch.names) + len(batch.failures))
    written = write_predictions(shown, rows, job.outputs, on_bad=job.on_bad, num_images=len(job.images))
    predicted(written, job.outputs.files, time.perf_counter() - started)
    return written.images


if __name__ == "__main__":
    run_verb(predict, "predict")
