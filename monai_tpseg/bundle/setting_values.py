"""Which values the settings of the bundles' configs may have, where it can be said without building anything."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from monai_tpseg.bundle.command_line import flag
from monai_tpseg.catalogue import Modality
from monai_tpseg.engines.optim import LR_SCHEDULES
from monai_tpseg.inferers.task_inferer import Amp, Window, image_size_2d
from monai_tpseg.networks.adapter import Routes
from monai_tpseg.networks.hiera import ADAPTERS, STEMS
from monai_tpseg.networks.kprism import MODES
from monai_tpseg.networks.tpseg_hiera import DECODERS, Layout
from monai_tpseg.segment import Finish
from monai_tpseg.words import choose

__all__ = ["check_values", "is_checked", "is_expression"]

_MAX = 2**32 - 1  # a seed of NumPy, and more than any other whole number here

_WHOLE: dict[str, tuple[int, tuple[Any, ...]]] = {
    "max_epochs": (1, ()),
    "batch_size": (1, ()),
    "val_interval": (1, ()),
    "num_workers": (0, ()),
    "epoch_cases": (1, (None,)),
    "seed": (0, ()),
    "sw_batch_size": (1, ()),
    **dict.fromkeys(("num_experts", "width", "bottleneck", "num_layers"), (1, (None,))),
    "detail": (0, (None,)),
    "slice_batch": (1, ("auto",)),
}
"""Setting -> its smallest value, and the words that are allowed besides whole numbers."""

_NUMBER: dict[str, tuple[float, float, bool]] = {
    "lr": (0, math.inf, True),
    "final_lr": (0, math.inf, False),
    "gate_lr": (0, math.inf, True),
    "weight_decay": (0, math.inf, False),
    "layer_decay": (0, 1, False),
    "warmup": (0, 1, False),
    "reinforcement_ramp": (0, 1, False),
    "contrastive_weight": (0, math.inf, False),
    "click_weight": (0, math.inf, False),
    "obey_weight": (0, math.inf, False),
    "max_norm": (0, math.inf, False),
    "balance": (0, 1, False),
    "cache_rate": (0, 1, False),
    "memory_mb": (0, math.inf, True),
    **dict.fromkeys(("semantic_share", "in_context_share", "interactive_share"), (0, 1, False)),
    "alpha": (0, 1, False),
    "reinforcement": (0, math.inf, False),
    **dict.fromkeys(("one_lesion", "opposite", "foreign"), (0, 1, False)),
}
"""Setting -> its smallest and largest value, and whether it must be above the smallest."""

_OF_SOME_NETWORKS = ("alpha", "reinforcement", "momentum")
"""Null where the network has none."""

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "amp": get_args(Amp),
    "window": get_args(Window),
    "metric_resolution": ("original", "network"),
    "lr_schedule": LR_SCHEDULES,
    "start": MODES,
    "val_start": MODES,
    "layout": (None, *get_args(Layout)),
    "routes": (None, *get_args(Routes)),
    "adapter": (None, *ADAPTERS),
    "decoder": (None, *DECODERS),
    "stem": (None, *STEMS),
}

_SWITCHES = (
    *("progress", "tf32", "deterministic", "overlay_images", "check_data", "check_inputs", "freeze_encoder"),
    *("checkpoint_activations", "channels_last", "fused_optimizer", "compile"),
    *("save_probabilities", "save_overlay", "seg", "sr", "contours", "refuse"),
    *("tta_flips", "fast", "skip_empty", "half_probabilities", "use_class"),
)

_BELOW_ONE = ("momentum", "ema", "overlap")


def is_expression(value: Any) -> bool:
    """Whether MONAI computes a value of a config (`$...`), or takes it from elsewhere (`@...`, `%...`)."""
    return isinstance(value, str) and value[:1] in {"$", "@", "%"}


def is_checked(name: str) -> bool:
    """Whether `check_values` knows a setting."""
    return name in _CHECKS


def check_values(settings: Mapping[str, Any]) -> None:
    """Check settings by name; those that this module does not know, and expressions, pass.

    Args:
        settings: value of each setting.

    Raises:
        ValueError: the first value that is not allowed, with its name and what is.
    """
    for name, value in settings.items():
        if is_checked(name) and not is_expression(value):
            _CHECKS[name](name, value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(name: str, value: Any) -> None:
    low, words = _WHOLE[name]
    if any(value is word or value == word for word in words):
        return
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= _MAX:
        other = "".join(f", or {'null' if word is None else word}" for word in words)
        raise ValueError(f"{name} must be a whole number of at least {low}{other}, got {value!r}.")


def _number(name: str, value: Any) -> None:
    low, high, above = _NUMBER[name]
    if value is None and name in _OF_SOME_NETWORKS:
        return
    if _is_number(value) and (low < value if above else low <= value) and value <= high:
        return
    if high == math.inf:
        allowed = f"above {low:g}" if above else f"of at least {low:g}"
    else:
        allowed = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
    raise ValueError(f"{name} must be a number {allowed}, got {value!r}.")


def _odd(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or value % 2 == 0:
        raise ValueError(f"{name} must be an odd number of pixels such as 3, or 1, got {value!r}.")


def _below_one(name: str, value: Any) -> None:
    if value is None and name in _OF_SOME_NETWORKS:
        return
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number from 0 to below 1, got {value!r}.")


def _widths(name: str, value: Any) -> None:
    numbers = value if isinstance(value, list | tuple) else [value]
    if value is not None and not all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in numbers):
        raise ValueError(f"{name} must be whole numbers above 0, or null, got {value!r}.")


def _choice(name: str, value: Any) -> None:
    if value not in _CHOICES[name]:
        raise ValueError(f"Unknown {name} {value!r}; {choose(value, filter(None, _CHOICES[name]))}.")


def _removed(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, list | tuple) or not all(one in (1, 2, 3) for one in value)):
        raise ValueError(f"{name} must be a list of the numbers 1, 2, 3, got {value!r}.")


def _temperatures(name: str, value: Any) -> None:
    pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    if not pair or not all(_is_number(one) and one > 0 for one in value):
        raise ValueError(f"{name} must be two numbers above 0, of the first and the last epoch, got {value!r}.")


def _size(name: str, value: Any) -> None:
    try:
        image_size_2d(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be one or two multiples of 32, got {value!r}.") from None


def _tasks(name: str, value: Any) -> None:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} must be a list of names such as ['skin_lesion'], got {value!r}.")


def _modalities(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be modalities by name of the task such as {{'mole': 'ct'}}, got {value!r}.")
    for modality in value.values():
        known = [one.value for one in Modality]
        if modality not in known:
            raise ValueError(f"Unknown modality {modality!r} in {name}; {choose(modality, known)}.")


def _device(name: str, value: Any) -> None:
    try:
        torch.device(value)
    except (RuntimeError, TypeError):
        raise ValueError(f"{name} must be cpu, cuda, cuda:1, ..., got {value!r}.") from None


def _finish(name: str, value: Any) -> None:
    Finish(**{name: value})


def _seconds(name: str, value: Any) -> None:
    if not _is_number(value) or value <= 0:
        raise ValueError(f"{name} must be more than 0 seconds, got {value!r}.")


def _switch(name: str, value: Any) -> None:
    flag(value, name)


def _resume(name: str, value: Any) -> None:
    choices = ("true", "false", "auto")
    if str(value).lower() not in choices:
        raise ValueError(f"Unknown {name} {value!r}; {choose(value, choices)}.")


def _path(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise ValueError(f"{name} must be a path, got {value!r}.")


def _folder(name: str, value: Any) -> None:
    _path(name, value)
    if value and Path(value).exists() and not Path(value).is_dir():
        raise ValueError(f"{name} must be a folder, and '{value}' is a file; choose another.")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    **dict.fromkeys(_WHOLE, _whole),
    **dict.fromkeys(_NUMBER, _number),
    **dict.fromkeys(_BELOW_ONE, _below_one),
    "gate_temperature": _temperatures,
    "soft_rim": _odd,
    **dict.fromkeys(("image_size", "roi_size"), _size),
    **dict.fromkeys(("channels", "rfb_channels"), _widths),
    **dict.fromkeys(_CHOICES, _choice),
    "without_pgtd": _removed,
    "tasks": _tasks,
    "device": _device,
    **dict.fromkeys(("threshold", "min_lesion_area"), _finish),
    "read_timeout": _seconds,
    **dict.fromkeys(_SWITCHES, _switch),
    **dict.fromkeys(("dataset_dir", "datalist", "output_dir"), _path),
    "cache_dir": _folder,
    **dict.fromkeys(("checkpoint", "encoder_checkpoint"), _path),
    "modalities": _modalities,
    "resume": _resume,
}
