"""The folder of one case: complete or absent, and without a name of the patient or a path in it."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_tpseg import __version__
from monai_tpseg.keys import IMAGE, TASK_NAME
from monai_tpseg.studies.codes import Outcome
from monai_tpseg.studies.lesions import Lesion, lesions_csv
from monai_tpseg.studies.model import Model, Segmented
from monai_tpseg.tasks import Modality, get_task
from monai_tpseg.transforms import MaskWriter, NormalizeByModalityd, draw_overlay
from monai_tpseg.transforms import meta as m

__all__ = ["RESULT", "case_folder", "decisions", "draw", "provenance", "read_result", "write_result", "write_segmented"]

RESULT = "result.json"
"""The name of a case's record; written last, so that a folder with it is complete."""

_PACKAGES = ("monai", "numpy", "pydicom", "highdicom", "nibabel", "pillow", "scipy", "torch")

_MODALITIES = ("CT", "MR", "US", "OPT", "OCT", "OP", "ES", "GM", "SM", "XC", "DMS", "CR", "DX", "MG", "PT", "NM", "OT")
_PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "PALETTE_COLOR")
_PIL_MODES = ("1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "I;16B")
_OWN = ("axial", "coronal", "sagittal", "stored", "picture", "volume", "display", "physical", "dicom", "nifti", "itk")
_WORDS = frozenset((*_MODALITIES, *_PHOTOMETRIC, *_PIL_MODES, *_OWN))

_DECISIONS = (
    *(m.KIND, m.FORMAT, m.INTENSITY, m.INVERTED, m.PLANE, m.SPACING, m.SOURCE_SHAPE, m.EXIF),
    *(m.PHOTOMETRIC, m.MODALITY, m.NON_FINITE, m.SKIPPED, m.REGION),
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


def write_segmented(found: Segmented, lesions: list[Lesion], task: str, name: str, folder: Path) -> dict[str, str]:
    """Write mask, overlay and `lesions.csv` of a case into `folder`.

    Returns:
        `mask`, `lesions` and, where there is one, `overlay` -> the name of the file in `folder`.
    """
    writer = MaskWriter(folder, save_overlay=False)
    written = {"mask": writer.write(found.mask, None, found.image.meta, task, name)["mask"].name}
    (folder / "lesions.csv").write_bytes(lesions_csv(lesions))
    written["lesions"] = "lesions.csv"
    picture = draw(found, task)
    if picture is not None:
        written["overlay"] = f"{name}_{task}_overlay.png"
        picture.save(folder / written["overlay"], format="PNG")
    return written


def draw(found: Segmented, task: str) -> Image.Image | None:
    """Return the lesion drawn on the picture or on up to 12 slices.

    Scanners write names and dates into ultrasound pictures, outside of the region that the object declares. So DICOM
    ultrasound is drawn within that region, and not at all (None) where it declares none.
    """
    image, mask = found.image, found.mask[0].numpy()
    shown = _display()({IMAGE: image, TASK_NAME: task})[IMAGE].numpy()
    if get_task(task).modality is Modality.ULTRASOUND and str(image.meta[m.FORMAT]) == "dicom":
        if m.REGION not in image.meta:
            return None
        top, left, bottom, right = (int(n) for n in image.meta[m.REGION])
        shown, mask = shown[:, top:bottom, left:right], mask[top:bottom, left:right]
    spacing = image.meta.get(m.SPACING) if mask.ndim == 3 else None
    return draw_overlay(shown, mask, get_task(task).title, spacing)


def provenance(model: Model) -> dict[str, Any]:
    """Return what made a result: weights, settings, versions."""
    return {
        "model": {
            "tasks": list(model.info.tasks),
            "weights_sha256": model.info.sha256,
            "trained_preprocessing": model.info.preprocessing,
        },
        "config": model.config,
        "config_sha256": model.config_sha256,
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
    folder: Path, name: str, task: str, outcome: Outcome, key: str, made_by: Mapping[str, Any], **more: Any
) -> None:
    """Write `result.json` of a case.

    Args:
        folder: of the case.
        name: of the case.
        task: name of the task, or "".
        outcome: how it ended.
        key: what `--resume` goes by.
        made_by: see `provenance`.
        **more: e.g. `decisions`, `lesions`, `files`.
    """
    record = {
        "schema": 1,
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
    (folder / RESULT).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the record of a case, None where there is none (yet) or it is damaged."""
    try:
        record = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


@cache
def _display() -> NormalizeByModalityd:
    """The pipelines without their last step; read once."""
    return NormalizeByModalityd(network=False)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.replace(" ", "_") in _WORDS else "other"
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return np.asarray(value).round(6).tolist()
