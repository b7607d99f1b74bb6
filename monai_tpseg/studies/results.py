"""The folder of one case: complete or absent, and without a name of the patient or a path in it."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from monai_tpseg import __version__
from monai_tpseg.files import write_atomically
from monai_tpseg.networks.weights import WeightsInfo
from monai_tpseg.studies.codes import Outcome
from monai_tpseg.studies.model import digest
from monai_tpseg.transforms import meta as m

__all__ = ["RESULT", "case_folder", "decisions", "provenance", "read_result", "write_result"]

RESULT = "result.json"
"""The name of a case's record; written last, so that a folder with it is complete."""

_PACKAGES = ("monai", "numpy", "pydicom", "highdicom", "nibabel", "pillow", "scipy", "torch")

_MODALITIES = ("CT", "MR", "US", "OPT", "OCT", "OP", "ES", "GM", "SM", "XC", "DMS", "CR", "DX", "MG", "PT", "NM", "OT")
_PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "PALETTE_COLOR")
_PIL_MODES = ("1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "I;16B")
_OWN = (
    "axial",
    "coronal",
    "sagittal",
    "stored",
    "picture",
    "volume",
    "display",
    "physical",
    "dicom",
    "nifti",
    "itk",
    "gap",
    "tilt",
)
_WORDS = frozenset((*_MODALITIES, *_PHOTOMETRIC, *_PIL_MODES, *_OWN))

_DECISIONS = (
    *(m.KIND, m.FORMAT, m.INTENSITY, m.INVERTED, m.PLANE, m.SPACING, m.SOURCE_SHAPE, m.EXIF),
    *(m.PHOTOMETRIC, m.MODALITY, m.NON_FINITE, m.SKIPPED, m.REGION, m.IRREGULAR),
)


@contextmanager
def case_folder(folder: Path, tag: str) -> Iterator[Path]:
    """Give an empty folder beside `folder`, which takes its place once the block is through; else nothing changes.

    Args:
        folder: to make or replace.
        tag: a word that the other processes of the run do not use.
    """
    new, old = (folder.with_name(f".{kind}-{tag}-{folder.name}") for kind in ("new", "old"))
    for path in (new, old):
        shutil.rmtree(path, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        for path in (new, old):
            shutil.rmtree(path, ignore_errors=True)


def provenance(info: WeightsInfo, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what made a result: weights, settings, versions.

    Args:
        info: the description of the weights.
        config: what decides a result besides them.
    """
    return {
        "model": {
            "tasks": list(info.tasks),
            "weights": info.title,
            "weights_sha256": info.sha256,
            "trained_preprocessing": info.preprocessing,
            "modalities": dict(info.modalities),
        },
        "config": dict(config),
        "config_sha256": digest(config),
        "versions": {
            "monai_tpseg": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
    }


def decisions(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the reader decided; words that a header could have made up become `other`."""
    return {key: _plain(meta[key]) for key in _DECISIONS if key in meta}


def write_result(
    folder: Path,
    name: str,
    task: str,
    outcome: Outcome,
    key: str,
    made_by: Mapping[str, Any],
    file: str = RESULT,
    **more: Any,
) -> None:
    """Write the record of a case; `result.schema.json` in this package describes it.

    Args:
        folder: of the case.
        name: of the case.
        task: name of the task, or "".
        outcome: how it ended.
        key: what `--resume` goes by.
        made_by: see `provenance`.
        file: the name of the record.
        **more: e.g. `decisions`, `lesions`, `files`.
    """
    record = {
        "schema": 2,
        "case": name,
        "task": task,
        "status": outcome.status.value,
        "code": outcome.code,
        "next_action": outcome.action,
        "detail": outcome.detail,
        "flags": list(outcome.flags),
        "key": key,
        **more,
        "provenance": dict(made_by),
    }
    write_atomically(folder / file, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the record of a case, None where there is none (yet) or it is damaged."""
    try:
        record = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.replace(" ", "_") in _WORDS else "other"
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return np.asarray(value).round(6).tolist()
