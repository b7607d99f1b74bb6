"""The folder of one case: complete or absent, without patient names or paths."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np

from monai_tpseg.files import write_atomically
from monai_tpseg.io import meta_keys
from monai_tpseg.io.dicom.image_check import PHOTOMETRIC_INTERPRETATIONS
from monai_tpseg.io.dicom.modalities import MODALITIES
from monai_tpseg.io.dicom.slices import Fault
from monai_tpseg.io.orientation import Plane
from monai_tpseg.io.pictures import PICTURE_MODES
from monai_tpseg.networks.weights_info import WeightsInfo
from monai_tpseg.parsing import read_json
from monai_tpseg.results.codes import Outcome, Status
from monai_tpseg.version import __version__

__all__ = ["RESULT", "case_folder", "decisions", "digest", "provenance", "read_result", "sweep", "write_result"]

RESULT = "result.json"
"""The name of a case's record; written last, so that a folder with it is complete."""

_NEW, _OLD = "new", "old"  # kinds of temporary folders beside those of the cases
_TEXTS = ("case", "task", "status", "code", "next_action", "detail", "key")
_PACKAGES = ("monai", "numpy", "pydicom", "highdicom", "nibabel", "pillow", "scipy", "torch")

_TRUST = {
    "expected_dice": ("value", "low", "high", "coverage"),
    "not_this_task": ("score", "limit"),
    "contours": ("inner_voxels", "outer_voxels"),
}

_OWN = (
    *(word for choices in (Plane, meta_keys.SourceKind, meta_keys.Intensity, Fault) for word in get_args(choices)),
    *("stored", "picture", "dicom", "nifti", "itk"),
)
_WORDS = frozenset((*MODALITIES, *PHOTOMETRIC_INTERPRETATIONS, *PICTURE_MODES, *_OWN))
"""What is repeated of what a header says: the terms that the readers accept, and nothing that somebody made up."""

_DECISIONS = (
    *(
        meta_keys.KIND,
        meta_keys.FORMAT,
        meta_keys.INTENSITY,
        meta_keys.INVERTED,
        meta_keys.PLANE,
        meta_keys.SPACING,
        meta_keys.SOURCE_SHAPE,
        meta_keys.EXIF,
    ),
    *(
        meta_keys.PHOTOMETRIC,
        meta_keys.MODALITY,
        meta_keys.NON_FINITE,
        meta_keys.SKIPPED,
        meta_keys.REGION,
        meta_keys.IRREGULAR,
    ),
)


def digest(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of settings, independent of their order."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


@contextmanager
def case_folder(folder: Path, tag: str) -> Iterator[Path]:
    """Provide an empty temporary folder that replaces `folder` if the block succeeds; otherwise nothing changes.

    Args:
        folder: folder to create or replace.
        tag: tag of the run, without `-`, by which the remains of a killed run are found.
    """
    unique = secrets.token_hex(4)
    new, old = (folder.with_name(f".{kind}-{tag}-{unique}-{folder.name}") for kind in (_NEW, _OLD))
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for path in (new, old):
            shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path, tag: str) -> None:
    """Remove incomplete folders of a killed run and restore those that it was replacing.

    Args:
        folder: parent folder of the cases.
        tag: tag of the run, see `case_folder`.
    """
    before = f".{_OLD}-{tag}-"
    for path in folder.glob(f"{before}*"):
        name = path.name[len(before) :].partition("-")[2]
        if name and not (folder / name).exists():
            path.rename(folder / name)
    for kind in (_NEW, _OLD):
        for path in folder.glob(f".{kind}-{tag}-*"):
            shutil.rmtree(path, ignore_errors=True)


def provenance(info: WeightsInfo, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of a result: weights, settings, versions.

    Args:
        info: description of the weights.
        config: all other settings that affect the result.
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
    """Return the decisions of the reader; values not in a closed list become `other`."""
    return {key: _plain(meta[key]) for key in _DECISIONS if key in meta}


def write_result(
    folder: Path,
    name: str,
    task: str,
    outcome: Outcome,
    key: str,
    made_by: Mapping[str, Any],
    file: str = RESULT,
    **fields: Any,
) -> None:
    """Write the record of a case; `result.schema.json` in this package describes it.

    Args:
        folder: folder of the case.
        name: name of the case.
        task: name of the task, or "".
        outcome: outcome of the case.
        key: digest compared by `--resume`.
        made_by: see `provenance`.
        file: name of the record.
        **fields: further fields, e.g. `decisions`, `lesions`, `files`.
    """
    record = {
        "schema": 3,
        "case": name,
        "task": task,
        "status": outcome.status.value,
        "code": outcome.code,
        "next_action": outcome.action,
        "detail": outcome.detail,
        "flags": list(outcome.flags),
        "key": key,
        **fields,
        "provenance": dict(made_by),
    }
    write_atomically(folder / file, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the record of a case, or None if it is missing or damaged."""
    try:
        record = read_json(folder / RESULT)
    except (OSError, ValueError):
        return None
    return record if _is_record(record) else None


def _is_record(record: Any) -> bool:
    """Return whether a record has all fields that this package reads, with their types."""
    if not _has(record, _TEXTS, str) or not _has(record, ("provenance",), dict):
        return False
    made_by = record["provenance"]
    if not _has(made_by, ("model", "config", "versions"), dict) or not _has(made_by, ("config_sha256",), str):
        return False
    model = made_by["model"]
    return (
        record["status"] in {status.value for status in Status}
        and _are_texts(record.get("flags"))
        and _names_files(record.get("files", {}))
        and _is_trust(record.get("trust"))
        and _has(record, {"decisions"} & record.keys(), dict)
        and _has(record, {"lesions"} & record.keys(), int)
        and _has(model, ("weights_sha256", "trained_preprocessing"), str)
        and _has(model, {"modalities"} & model.keys(), dict)
        and _are_texts(model.get("tasks"))
        and _has(made_by["config"], ("preprocessing",), str)
    )


def _names_files(files: Any) -> bool:
    """Whether the list of files is valid; it may be empty."""
    return isinstance(files, dict) and _are_texts(list(files.values()))


def _is_trust(trust: Any) -> bool:
    """Whether the trust estimates are valid; they may be absent."""
    return trust is None or (
        isinstance(trust, dict)
        and all(not trust.get(key) or _has(trust[key], numbers, (int, float)) for key, numbers in _TRUST.items())
    )


def _has(value: Any, keys: Collection[str], kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), kind) for key in keys)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value if value in _WORDS else "other"
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return _finite(np.asarray(value).round(6).tolist())


def _finite(value: Any) -> Any:
    """NaN and infinity become null, since JSON cannot represent them."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
