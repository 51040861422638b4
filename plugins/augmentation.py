"""Augmentation: every training image is cropped, flipped, turned and coloured anew in every epoch.

    worker  decode, a view larger than the model's input, [policy]           uint8
    device  crop + flip + zoom + shear + rotation + translation: one matrix, one sampling for the batch
            rescale + contrast + saturation + hue: one matrix, one product; blur; erasing

How much of it is one number, ``strength``, that follows from the epoch. Random resized crops are those of Szegedy et
al. 2014, https://arxiv.org/abs/1409.4842, section 6; the policies TrivialAugment, RandAugment and AugMix are
torchvision's. Turn on with ``plugins=[augmentation]``; ``plugins.augmentation.preview=true`` draws what comes out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from lightning.pytorch import Trainer
from torch import Generator, Tensor
from torchvision.utils import save_image

from ft import FineTuner, InputSpec, Plugin, UserError
from ft.data.augment import blur, colour_matrix, erase, luma, recolour, warp
from ft.data.augment_ranges import BLUR, COLOUR, ERASING, GEOMETRY, NUM_DRAWS, Ranges, require_between
from ft.data.images import UnreadableImage
from ft.data.module import DataModule
from ft.data.randomness import seeded
from ft.data.training_view import POLICIES, TrainingView, density, shared, view_spec
from ft.data.transforms import EvaluationTransform, Transform, normalize
from ft.errors import one_of, require

KEY = "plugins.augmentation"
Ramp = Literal["constant", "linear"]
RAMPS = get_args(Ramp)


def strength_at(epoch: int, *, strength: float, ramp: str, num_epochs: int | None, off_last: int) -> float:
    """How strong augmentation is in an epoch.

    Args:
        epoch: From 0.
        strength: At the end of the ramp.
        ramp: ``constant``, or ``linear``: from 0 in the first epoch to ``strength`` in the last that augments.
        num_epochs: Of the run; ``None`` where nothing depends on it.
        off_last: Epochs at the end without augmentation.
    """
    if num_epochs is None:
        return strength
    last = num_epochs - off_last - 1
    if epoch > last:
        return 0.0
    return strength * epoch / last if ramp == "linear" and last else strength


class Augmentation(Plugin):
    """Augments the images of training.

    Args:
        strength: In ``[0, 1]``: ranges shrink to nothing with it, probabilities are multiplied.
        ramp: ``constant`` or ``linear``.
        frozen_strength: In ``[0, 1]``: a further factor while a stage of the backbone is frozen; ``None`` is 1.
        off_last: Number of last epochs without augmentation.
        policy: ``none``, ``trivial``, ``rand`` or ``augmix``, for each image in the workers.
        presize: In ``[1, 2]``: width of the view that is cropped from, relative to the model's input.
        preview: Draws training images into ``augmentation.png`` when the run starts.
        hflip, vflip, crop, zoom, rotation, shear, translation, padding, rescale, color_jitter, blur, erasing: The
            attributes of ``ft.data.augment_ranges.Ranges``.

    Raises:
        UserError: A value is out of range, the run's length is needed and unknown, or ``policy`` does not know images
            of so many channels.
    """

    neutral: ClassVar = {"strength": 0.0}

    def __init__(
        self,
        *,
        strength: float,
        ramp: Ramp,
        frozen_strength: float | None,
        off_last: int,
        hflip: float,
        vflip: float,
        crop: dict[str, Any],
        zoom: Sequence[float],
        rotation: float,
        shear: float,
        translation: float,
        padding: Literal["reflection", "border", "zeros"],
        presize: float,
        rescale: float,
        color_jitter: dict[str, float],
        blur: dict[str, Any],
        erasing: dict[str, Any],
        policy: Literal["none", "trivial", "rand", "augmix"],
        preview: bool,
    ) -> None:
        self.ranges = Ranges(
            hflip, vflip, crop, zoom, rotation, shear, translation, padding, rescale, color_jitter, blur, erasing
        )
        self.ranges.check(KEY)
        require_between(strength, 0, 1, f"{KEY}.strength")
        if frozen_strength is not None:
            require_between(frozen_strength, 0, 1, f"{KEY}.frozen_strength")
        require_between(presize, 1, 2, f"{KEY}.presize")
        require(isinstance(off_last, int) and off_last >= 0, f"{KEY}.off_last", "must be 0 or more epochs", off_last)
        one_of(ramp, RAMPS, f"{KEY}.ramp")
        one_of(policy, POLICIES, f"{KEY}.policy")
        # A view is stored once: it cannot follow the epochs.
        self.stored_as = "views" if ramp == "constant" and not off_last else "never"
        self.strength = strength
        self.ramp = ramp
        self.frozen_strength = frozen_strength
        self.off_last = off_last
        self.presize = presize
        self.policy = policy
        self.preview = preview
        self.num_epochs: int | None = None
        self.spec: InputSpec | None = None
        self.view: InputSpec | None = None
        self.current = 0.0
        self.in_workers = shared(0.0)

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        self.spec = module.model.input_spec
        if self.policy != "none" and module.model.input_spec.channels == 4:
            raise UserError(
                f"{KEY}.policy={self.policy} takes no images with alpha (model.in_chans=4): set it to none."
            )
        if self.ramp != "constant" or self.off_last:
            epochs = trainer.max_epochs or -1
            rule = f"must say how long the run is for {KEY}.{'off_last' if self.off_last else 'ramp'}"
            require(epochs > 0, "trainer.max_epochs", rule, trainer.max_epochs)
            require(self.off_last < epochs, f"{KEY}.off_last", f"must be below {epochs}, all epochs", self.off_last)
            self.num_epochs = epochs

    def train_transform(self, transform: Transform) -> Transform:
        if self.strength == 0 or not (self.ranges.resamples or self.policy != "none"):
            return transform
        large, fill = transform, (0,)
        # Only the plain view can be rendered larger; what another plugin has made of it is taken as it comes.
        if isinstance(transform, EvaluationTransform):
            fill = tuple(round(255 * mean) for mean in transform.spec.mean)
            if self.ranges.resamples:
                self.view = view_spec(transform.spec, self.presize)
                large = EvaluationTransform(self.view)
        return TrainingView(transform, large, self.policy, fill, self.in_workers)

    def begin_epoch(self, epoch: int, module: FineTuner) -> None:
        assert module.phase is not None
        strength = strength_at(
            epoch, strength=self.strength, ramp=self.ramp, num_epochs=self.num_epochs, off_last=self.off_last
        )
        if self.frozen_strength is not None and set(module.stage_names[:-1]) - module.phase.stages:
            strength *= self.frozen_strength
        self._set(strength)

    def train_batch(self, images: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        if self.current == 0:
            return images, targets
        assert self.spec is not None
        drawn = torch.rand(len(images), NUM_DRAWS, generator=generator).unbind(1)
        # Lightning calls this under autocast: in half precision a coordinate would be off by a pixel.
        with torch.autocast(images.device.type, enabled=False):
            changed = self._augment(images.float(), drawn, self.spec).to(images.dtype)
        return changed.contiguous(memory_format=torch.channels_last), targets

    def _augment(self, images: Tensor, drawn: Sequence[Tensor], spec: InputSpec) -> Tensor:
        ranges, size, view = self.ranges, (spec.height, spec.width), (images.shape[2], images.shape[3])
        enlarged = self.view is not None and view == (self.view.height, self.view.width)
        pixels = density(spec, self.view) if enlarged and self.view is not None else 1.0
        matrices = ranges.matrices(drawn[GEOMETRY], self.current, size=size, view=view, density=pixels)
        images = warp(images, matrices, height=size[0], width=size[1], padding=ranges.padding)
        if ranges.recolours:
            mean, std = (torch.tensor(each, device=images.device) for each in (spec.mean, spec.std))
            colours = ranges.colours(drawn[COLOUR], self.current).to(images.device)
            grey = luma(images, mean=mean, std=std)
            images = recolour(images, colour_matrix(colours, grey=grey, channels=spec.channels), mean=mean, std=std)
        images = blur(images, ranges.sigmas(drawn[BLUR], self.current))
        return erase(images, ranges.boxes(drawn[ERASING], self.current, size))

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.preview and self.strength > 0 and trainer.is_global_zero:
            data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue] -- set by fit
            self._set(self.strength)
            rows = self.preview_rows(data, rows=4, columns=7)
            save_image(rows.flatten(0, 1), Path(trainer.default_root_dir) / f"{self.name}.png", nrow=rows.shape[1])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.log(f"plugins/{self.name}/strength", self.current)

    def preview_rows(self, data: DataModule, *, rows: int, columns: int) -> Tensor:
        """Training images as evaluation sees them, and beside each what augmentation makes of it.

        Args:
            data: Whose training split is shown.
            rows: Images, spread over the split.
            columns: Augmented views of each.

        Returns:
            ``(rows, 1 + columns, C, H, W)`` in ``[0, 1]``, without alpha; fewer rows where images cannot be read.
        """
        assert self.spec is not None
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.spec.mean, self.spec.std))
        images, shown = data.splits["train"].images, []
        for index in torch.linspace(0, len(images) - 1, rows).long().tolist():
            try:
                image = images[index]
            except UnreadableImage:
                continue
            with seeded("preview", index):
                views = torch.stack([data.train_transform(image) for _ in range(columns)])
            generator = torch.Generator().manual_seed(index)
            views, _ = self.train_batch(normalize(views, self.spec), torch.zeros(columns), generator)
            plain = normalize(data.eval_transform(image)[None], self.spec)
            shown.append((torch.cat([plain, views]) * std + mean)[:, :3])
        return torch.stack(shown)

    def _set(self, strength: float) -> None:
        self.current = strength
        self.in_workers.fill_(strength)
