"""Options of `tpseg train`, and their record, which a resumed training compares."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from monai_tpseg.files import write_atomically
from monai_tpseg.parsing import json_of, read_record

__all__ = ["REQUEST_FILE", "TrainOptions", "TrainingError", "check_ranges", "recorded_request"]

REQUEST_FILE = "asked.json"
"""The name of the record in the folder of a training."""


class TrainingError(ValueError):
    """A training that cannot start or go on: one line that names the value and the way out."""


def check_ranges(*numbers: tuple[str, float, bool, str]) -> None:
    """Check numbers that were asked for.

    Args:
        *numbers: of each the option's name with underscores, its value, whether that is good, and what would be.

    Raises:
        TrainingError: the first that is not good.
    """
    for name, value, good, range_of in numbers:
        if not good:
            raise TrainingError(f"--{name.replace('_', '-')} must be {range_of}, got {value:g}.")


@dataclass(frozen=True)
class TrainOptions:
    """Options of a training.

    Attributes:
        data: a datalist, a folder with one, or a folder of pictures and masks.
        task: task of all pictures, if `data` is a folder without a datalist.
        tasks: those of a datalist that are trained; all by default.
        modalities: modality of tasks that neither the catalogue nor the weights know, by name.
        checkpoint: weights to start from, a file or a name in the catalogue; the starter weights by default.
        from_scratch: start from nothing instead.
        encoder: file of a pretrained trunk, of `tpseg pretrain` or of SAM 2; all else starts from nothing.
        minutes: the training may take, its validations included.
        epochs: passes over the training list, instead of minutes.
        image_size: pixels of a side of the network's input, for `from_scratch`.
        batch_size: pictures of a step.
        val_share: part of the pictures that is held out where the data name none, in (0, 1).
        patient_regex: finds the patient in a path of a folder's picture.
        device: device; by default the first GPU, or the CPU.
        seed: random seed.
        options: options of the bundle's train.json by name, which take precedence.
    """

    data: str
    task: str = ""
    tasks: tuple[str, ...] = ()
    modalities: dict[str, str] = field(default_factory=dict)
    checkpoint: str = ""
    from_scratch: bool = False
    encoder: str = ""
    minutes: float = 10.0
    epochs: int = 0
    image_size: int = 192
    batch_size: int = 8
    val_share: float = 0.2
    patient_regex: str = ""
    device: str = ""
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ranges(
            ("minutes", self.minutes, 0 < self.minutes < math.inf, "above 0"),
            ("epochs", self.epochs, self.epochs >= 0, "0 or more"),
            ("batch_size", self.batch_size, self.batch_size >= 1, "1 or more"),
            ("image_size", self.image_size, self.image_size >= 32 and self.image_size % 32 == 0, "a multiple of 32"),
            ("val_share", self.val_share, 0 < self.val_share < 1, "above 0 and below 1"),
        )
        if self.from_scratch and self.checkpoint:
            raise TrainingError("Give --checkpoint or --from-scratch, not both.")
        if self.encoder and self.checkpoint:
            raise TrainingError("Give --checkpoint or --encoder, not both: weights include their own trunk.")

    @property
    def starts_from_scratch(self) -> bool:
        """Whether the network, but perhaps its trunk, starts from nothing."""
        return self.from_scratch or bool(self.encoder)


@contextmanager
def recorded_request(request: Any, out: Path, resume: bool) -> Iterator[None]:
    """Prepare a training in its folder, which is as it was before if the preparation fails.

    The options are written there, or compared with the existing record.

    Args:
        request: `TrainOptions` or `PretrainOptions`.
        out: the folder.
        resume: go on with what is there.

    Raises:
        TrainingError: the folder holds a training and `resume` is not set, another training, or none to resume.
    """
    path, now = out / REQUEST_FILE, json_of(json.dumps(asdict(request)))
    if path.is_file():
        _check_same(request, now, read_record(path), out, resume)
        yield
        return
    if resume:
        raise TrainingError(f"Nothing to resume in '{out}'; start without --resume.")
    if out.is_dir() and any(out.iterdir()):
        raise TrainingError(f"'{out}' is not empty and contains no training; choose another --out.")
    there = out.is_dir()
    out.mkdir(parents=True, exist_ok=True)
    try:
        write_atomically(path, (json.dumps(now, indent=1) + "\n").encode())
        yield
    except BaseException:
        shutil.rmtree(out)
        if there:
            out.mkdir()
        raise


def _check_same(request: Any, now: dict[str, Any], record: dict[str, Any], out: Path, resume: bool) -> None:
    if not resume:
        raise TrainingError(f"'{out}' contains a training; add --resume to continue, or choose another --out.")
    # an option that an older version did not have was at its default
    unset = {one.name: None if one.default is MISSING else one.default for one in fields(request)}
    before = {**unset, **record}
    other = [f"{key} was {before[key]!r}, now {value!r}" for key, value in now.items() if before[key] != value]
    if other:
        raise TrainingError(f"'{out}' contains a training with other options ({'; '.join(other)}); repeat its command.")
