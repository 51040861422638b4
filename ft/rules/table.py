"""What values must be, by verb and key: what the kind of the default does not say.

A test builds with a wrong value of each, and holds this table against what the code itself refuses.
"""

from typing import Literal

from ft.rules.rule import Rule, above, at_least, below_one, between, share, up_to_one

Workers = at_least(0, int | Literal["auto"])
Precision = Rule(Literal["fp32", "bf16"])
Accelerator = Rule(Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"])
# The same in evaluation as in training, where nothing else is said.
AS_IN_TRAINING = {
    "batch_size": at_least(1, int | None),
    "num_workers": at_least(0, int | Literal["auto"] | None),
    "accelerator": Accelerator,
}

TRAIN = {
    "seed": at_least(0),
    "on_nan": Rule(Literal["stop", "skip", "rollback"]),
    "checkpoint.on_error": Rule(Literal["stop", "go_on"]),
    "autoresume": Rule(bool),
    "model.weights": Rule(str),
    "model.num_classes": at_least(1, int | None),
    "model.in_chans": Rule(int, "one of [1, 3, 4]", lambda value: value in (1, 3, 4)),
    "model.img_size": at_least(1, int | None),
    "model.drop_path_rate": below_one(float | None),
    "model.act_layer": Rule(str | None),
    "model.head_init": Rule(Literal["random", "solved"] | None),
    "model.input.crop_pct": up_to_one(float | None),
    "model.input.interpolation": Rule(Literal["nearest", "bilinear", "bicubic", "lanczos"] | None),
    "model.head.pool": Rule(Literal["own", "avg", "max", "avgmax", "catavgmax"]),
    "model.head.hidden": Rule(list[int]),
    "model.head.activation": Rule(Literal["relu", "tanh", "gelu", "silu", "sigmoid", "leaky_relu"]),
    "model.head.drop_rate": below_one(),
    "model.head.norm": Rule(Literal["none", "batch", "layer"]),
    "data.batch_size": at_least(1),
    "data.num_workers": Workers,
    "data.val_fraction": below_one(),
    "data.test_fraction": below_one(),
    "data.limit": at_least(1, int | None),
    "data.on_bad": Rule(Literal["error", "skip", "quarantine"]),
    "data.changed": Rule(Literal["error", "warn"]),
    "data.timeout": at_least(0, float),
    # YAML reads off as false.
    "data.decoded": Rule(Literal["auto", "off", False]),
    "data.decoded_limit": above(0),
    "data.class_weights": Rule(Literal["balanced"] | list[float] | None),
    "task.mode": Rule(Literal["max", "min"]),
    "task.label_smoothing": below_one(),
    "task.focal_gamma": at_least(0, float),
    "optimizer.lr": above(0),
    "optimizer.weight_decay": at_least(0, float),
    "optimizer.layer_decay": up_to_one(),
    "optimizer.head_lr_scale": above(0),
    "schedule.unit": Rule(Literal["epoch", "step"]),
    "recipe.name": Rule(Literal["auto", "full", "linear", "head"]),
    "recipe.epochs": at_least(1),
    "recipe.mixup": at_least(0, float),
    "recipe.min_epochs": at_least(1),
    "recipe.max_epochs": at_least(1),
    "recipe.always": at_least(0),
    "recipe.min_gain": at_least(0, float),
    "recipe.min_loss_gain": share(),
    "recipe.head_rate": above(0),
    "recipe.layer_decay": up_to_one(),
    "recipe.frozen_statistics": Rule(bool),
    "recipe.flip": share(),
    "recipe.crop": Rule(list[float]),
    "recipe.head_training.steps": at_least(1),
    "recipe.head_training.batch_size": at_least(1),
    "recipe.head_training.lr": above(0),
    "recipe.head_training.weight_decay": at_least(0, float),
    "recipe.views": at_least(1, int | None),
    "recipe.head_init": Rule(Literal["random", "solved"]),
    "cache.dtype": Rule(Literal["auto", "fp32", "bf16", "int8"]),
    "trainer.accelerator": Accelerator,
    "trainer.num_nodes": at_least(1),
    "trainer.precision": Rule(
        Literal[
            "auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", "transformer-engine",
            "transformer-engine-float16", "32", "16", "bf16", "64", 32, 16, 64,
        ]
    ),
    "trainer.strategy": Rule(
        Literal[
            "auto", "ddp", "fsdp", "ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_find_unused_parameters_false",
            "ddp_find_unused_parameters_true", "ddp_spawn_find_unused_parameters_false",
            "ddp_spawn_find_unused_parameters_true", "ddp_fork_find_unused_parameters_false",
            "ddp_fork_find_unused_parameters_true", "ddp_notebook_find_unused_parameters_false",
            "ddp_notebook_find_unused_parameters_true", "deepspeed", "deepspeed_stage_1", "deepspeed_stage_2",
            "deepspeed_stage_2_offload", "deepspeed_stage_3", "deepspeed_stage_3_offload",
            "deepspeed_stage_3_offload_nvme", "fsdp_cpu_offload", "single_device", "single_xla", "xla_debug", "xla",
            "single_tpu",
        ]
    ),
    "trainer.max_epochs": Rule(int | None),
    "trainer.max_steps": at_least(-1),
    "trainer.accumulate_grad_batches": at_least(1),
    "trainer.micro_batch": at_least(1, int | None),
    "trainer.gradient_clip_val": at_least(0, float | None),
    "trainer.check_val_every_n_epoch": at_least(1, int | None),
    "trainer.profiler": Rule(Literal["simple", "advanced", "pytorch", "xla"] | None),
    "sweep.method": Rule(Literal["trials", "backbones"]),
    "sweep.sampler": Rule(Literal["grid", "random", "tpe", "gp", "cmaes", "nsga2"]),
    "sweep.pruner": Rule(Literal["none", "median", "asha", "hyperband"]),
    "sweep.soup": Rule(Literal["none", "greedy"]),
    "sweep.isolate": Rule(bool),
    "sweep.share": Rule(bool),
    "sweep.report": Rule(bool),
}  # fmt: skip

TABLE: dict[str, dict[str, Rule]] = {
    "train": TRAIN,
    "doctor": {
        **TRAIN,
        "precision": Precision,
        "examples": at_least(0),
        "limits.phash_bits": between(0, 64),
        "limits.dhash_bits": between(0, 64),
        "limits.likeness": up_to_one(),
        "limits.max_ratio": at_least(1, float),
        "limits.extreme_aspect": at_least(1, float),
        "limits.folds": at_least(2),
    },
    "evaluate": {**AS_IN_TRAINING, "split": Rule(Literal["train", "val", "test"]), "seed": at_least(0)},
    "report": {**AS_IN_TRAINING, "split": Rule(Literal["auto", "test", "val", "train"])},
    "predict": {
        "tta": Rule(Literal["none", "flip", "ten_crop"]),
        "on_bad": Rule(Literal["skip", "error"]),
        "precision": Precision,
        "batch_size": at_least(1),
        "num_workers": Workers,
        "top_k": at_least(1, int | None),
        "abstain_below": share(float | None),
        "threshold": share(float | None),
    },
    "export": {
        "format": Rule(Literal["timm", "onnx", "pt2"] | list[Literal["timm", "onnx", "pt2"]]),
        "temperature": Rule(Literal["fold", "store"]),
        "tolerance": above(0),
        "check_images": at_least(1),
        "onnx.preprocess": Rule(Literal["normalized", "uint8"]),
        "pt2.preprocess": Rule(Literal["normalized", "uint8"]),
    },
    "serve": {
        "port": between(0, 65_535),
        "port_taken": Rule(Literal["next", "error"]),
        "precision": Precision,
        "max_batch_size": at_least(1),
        "workers": at_least(1),
        "threads": at_least(1, int | None),
    },
    "compare": {"split": Rule(Literal["train", "val", "test"]), "seed": at_least(0)},
}
