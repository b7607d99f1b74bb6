"""Files beside the weights: `model.trust.safetensors` (refusal, expected Dice) and `model.contours.json`.

Both contain the SHA-256 of the weights for which they were fitted, and are rejected for other weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from monai_tpseg.files import complete, write_atomically
from monai_tpseg.networks.checkpoint import CheckpointError
from monai_tpseg.parsing import check_safetensors, json_of, read_json
from monai_tpseg.trust.contours import Threshold, Thresholds
from monai_tpseg.trust.quality import DiceModel
from monai_tpseg.trust.refusal import Refusal

__all__ = [
    "ContourFile",
    "Fitted",
    "FittedFiles",
    "contours_path",
    "read_contours",
    "read_fitted",
    "trust_path",
    "write_contours",
    "write_fitted",
]  # fmt: skip

_HALF = {"references": np.float16}  # most of the file, with unit variance
_AGAIN = "fit it again with tpseg calibrate, or remove the file"


@dataclass(frozen=True)
class Fitted:
    """Estimates fitted for weights.

    Attributes:
        refusal: refusal of pictures outside the task; None if the network provides no features for it.
        dice: model of the expected Dice.
        provenance: number of cases per task; list, number and digest of the cases (`data`); the same of the
            cases that set the limits of the refusal (`limits`), null if these are the former; those of the expected
            Dice (`dice`), if it was fitted separately.
    """

    refusal: Refusal | None
    dice: DiceModel | None
    provenance: dict[str, Any] = field(default_factory=dict)

    def with_dice(self, dice: DiceModel, provenance: Mapping[str, Any]) -> Fitted:
        """Return a copy with another model of the expected Dice.

        Args:
            dice: the new model.
            provenance: entries to add.
        """
        return replace(self, dice=dice, provenance={**self.provenance, **provenance})


@dataclass(frozen=True)
class ContourFile:
    """Calibrated thresholds by task.

    Attributes:
        miss: guaranteed maximum share of the lesion's pixels outside the outer contour.
        false: guaranteed maximum share of the inner contour's pixels that are not lesion.
        tasks: thresholds by name of the task.
        data: provenance: list, number of cases and digest.
    """

    miss: float
    false: float
    tasks: dict[str, Thresholds]
    data: dict[str, Any] = field(default_factory=dict)


def trust_path(weights: str | os.PathLike[str]) -> Path:
    """Return the path of the fitted file of weights."""
    return Path(weights).with_suffix(".trust.safetensors")


def contours_path(weights: str | os.PathLike[str]) -> Path:
    """Return the path of the calibrated thresholds of weights."""
    return Path(weights).with_suffix(".contours.json")


def write_fitted(weights: str | os.PathLike[str], sha256: str, fitted: Fitted) -> Path:
    """Write the fitted estimates beside the weights and return their path.

    Args:
        weights: file of the weights.
        sha256: SHA-256 of the weights.
        fitted: estimates to write.
    """
    parts = {"refusal": fitted.refusal, "dice": fitted.dice}
    tensors = {
        f"{part}.{name}": np.ascontiguousarray(value, _HALF.get(name, np.float32))
        for part, model in parts.items()
        if model is not None
        for name, value in model.tensors().items()
    }
    metadata = json.dumps({**fitted.provenance, "format": 1, "weights_sha256": sha256}, sort_keys=True)
    path = trust_path(weights)
    with complete(path) as part_file:
        save_file(tensors, part_file, metadata={"about": metadata})
    return path


def read_fitted(weights: str | os.PathLike[str], sha256: str) -> Fitted | None:
    """Return the estimates fitted for weights, or None if there are none.

    Args:
        weights: file of the weights.
        sha256: SHA-256 of the weights.

    Raises:
        CheckpointError: the file is damaged or belongs to other weights; one line.
    """
    path = trust_path(weights)
    if not path.is_file():
        return None
    with _reading(path):
        check_safetensors(path)
        with safe_open(path, framework="np") as file:
            provenance = json_of((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        _check(path, provenance, sha256)
        refusal, dice = (_part(tensors, part) for part in ("refusal", "dice"))
        return Fitted(
            Refusal.of_tensors(refusal) if refusal else None, DiceModel.of_tensors(dice) if dice else None, provenance
        )


def write_contours(weights: str | os.PathLike[str], sha256: str, content: ContourFile) -> Path:
    """Write thresholds beside the weights and return their path.

    Args:
        weights: file of the weights.
        sha256: SHA-256 of the weights.
        content: thresholds to write.
    """
    record = {"format": 1, "weights_sha256": sha256, **asdict(content)}
    path = contours_path(weights)
    write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())
    return path


def read_contours(weights: str | os.PathLike[str], sha256: str) -> ContourFile | None:
    """Return the calibrated thresholds of weights, or None if there are none.

    Args:
        weights: file of the weights.
        sha256: SHA-256 of the weights.

    Raises:
        CheckpointError: the file is damaged or belongs to other weights; one line.
    """
    path = contours_path(weights)
    if not path.is_file():
        return None
    with _reading(path):
        record = read_json(path)
        _check(path, record, sha256)
        tasks = {
            name: Thresholds(*(Threshold(**found[kind]) for kind in ("outer", "inner")))
            for name, found in record["tasks"].items()
        }
        return ContourFile(float(record["miss"]), float(record["false"]), tasks, dict(record["data"]))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file in the error if its content cannot be used."""
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"'{path}' is damaged ({type(error).__name__}); {_AGAIN}.") from error


@dataclass(frozen=True)
class FittedFiles:
    """All files beside weights, for writing beside a copy of the weights.

    Attributes:
        fitted: fitted estimates, or None.
        contours: calibrated thresholds, or None.
    """

    fitted: Fitted | None
    contours: ContourFile | None

    @classmethod
    def of(cls, weights: str | os.PathLike[str], sha256: str) -> FittedFiles:
        """Return the content of the files beside weights.

        Raises:
            CheckpointError: see `read_fitted` and `read_contours`.
        """
        return cls(read_fitted(weights, sha256), read_contours(weights, sha256))

    def write(self, weights: str | os.PathLike[str], sha256: str) -> list[Path]:
        """Write the files beside other weights, bound to their SHA-256, replacing existing ones; return the paths.

        Args:
            weights: file of a copy of the original weights, e.g. in another precision.
            sha256: SHA-256 of the copy.
        """
        for path, there in ((trust_path(weights), self.fitted), (contours_path(weights), self.contours)):
            if there is None:
                path.unlink(missing_ok=True)
        written = [] if self.fitted is None else [write_fitted(weights, sha256, self.fitted)]
        return written if self.contours is None else [*written, write_contours(weights, sha256, self.contours)]


def _check(path: Path, provenance: Mapping[str, Any], sha256: str) -> None:
    if provenance.get("format") != 1:
        raise CheckpointError(f"'{path}' was written by another version (format {provenance.get('format')}); {_AGAIN}.")
    if provenance.get("weights_sha256") != sha256:
        raise CheckpointError(f"'{path}' belongs to weights other than those beside it; {_AGAIN}.")


def _part(tensors: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith(f"{part}.")}
