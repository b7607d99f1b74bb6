"""Data sets whose pictures and masks serve as they are: EBHI-Seg, TNUI-2021, BUSI and ISIC 2018."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from monai_tpseg.data.layouts.base import (
    DatasetContent,
    Layout,
    LayoutError,
    Pair,
    Source,
    direct_source,
    find_folder,
    find_pair_of_folders,
    merge_contents,
    pair_up,
    pictures,
    write_mask,
)
from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage

__all__ = ["BUSI", "EBHI_SEG", "ISIC_2018", "TNUI_2021"]

_EBHI_PATIENT = re.compile(r"^\D*(\d+)")  # GTxc2012324-1-400-003: case, slide, magnification, picture
_BUSI_NAME = re.compile(r"^(?P<image>.+?)(?P<mask>_mask(?:_\d+)?)?$")  # benign (4), benign (4)_mask, benign (4)_mask_1
_ISIC_FOLDERS = {"Training": "training", "Validation": "validation", "Test": "testing"}


def _find_ebhi(root: Path) -> DatasetContent:
    folder = find_folder(root, "Adenocarcinoma")
    found = find_pair_of_folders(folder, [("image", "label")]) if folder else None
    if found is None:
        raise LayoutError(f"No folder Adenocarcinoma with image and label in '{root}'; give the unpacked EBHI-SEG.")

    def patient(stem: str) -> str:
        number = _EBHI_PATIENT.match(stem)
        return number[1] if number else ""

    return pair_up(pictures(found[0]), pictures(found[1]), "ebhi-seg", patient=patient)


def _find_tnui(root: Path) -> DatasetContent:
    folder = find_folder(root, "thyroid_data") or root
    parts = []
    for name, section in (("train", "training"), ("val", "validation"), ("test", "testing")):
        images, masks = folder / name / "images", folder / name / "masks"
        if images.is_dir() and masks.is_dir():
            found = pair_up(pictures(images), pictures(masks), "tnui-2021", section=section, prefix=f"{name}/")
            parts.append(found)
        elif section != "testing":
            raise LayoutError(f"No {name}/images and {name}/masks in '{folder}'; give the folder thyroid_data.")
    return merge_contents(parts)


def _find_busi(root: Path) -> DatasetContent:
    found = {name: find_folder(root, name) for name in ("benign", "malignant", "normal")}
    if found["benign"] is None or found["malignant"] is None:
        raise LayoutError(f"No folders benign and malignant in '{root}'; give the unpacked Dataset_BUSI_with_GT.")
    return merge_contents(_busi_class(folder) for folder in found.values() if folder is not None)


def _busi_class(folder: Path) -> DatasetContent:
    images: dict[str, Path] = {}
    masks: dict[str, list[Path]] = defaultdict(list)
    for path in pictures(folder):
        name = _BUSI_NAME.match(path.stem)
        if name is not None and name["mask"]:
            masks[name["image"]].append(path)
        else:
            images[path.stem] = path
    lone = [path.name for stem, paths in masks.items() if stem not in images for path in paths]
    lone += [path.name for stem, path in images.items() if stem not in masks]
    sources = [_busi_source(images[stem], masks[stem], folder.name) for stem in images if stem in masks]
    return DatasetContent(sources, [f"{folder.name}/{name}" for name in lone])


def _busi_source(image: Path, masks: list[Path], kind: str) -> Source:
    name = f"{kind}/{image.stem}"
    if len(masks) == 1:
        return direct_source(Pair(name, image, masks[0], "busi"))

    def merge(files: Path) -> list[Pair]:
        parts = [LoadMedicalImage("label")(mask)[0].numpy() for mask in masks]
        if len({part.shape for part in parts}) > 1:
            raise ReadError("E_SHAPE_MISMATCH", f"The masks of {image.name} differ in size; export them again.")
        return [Pair(name, image, write_mask(np.maximum.reduce(parts), files / f"{name}_mask.png"), "busi")]

    return Source(name, merge)


def _find_isic(root: Path) -> DatasetContent:
    parts = []
    for name, section in _ISIC_FOLDERS.items():
        images = find_folder(root, f"ISIC2018_Task1-2_{name}_Input")
        masks = find_folder(root, f"ISIC2018_Task1_{name}_GroundTruth")
        if images is not None and masks is not None:
            images, masks = (find_folder_twice(folder) for folder in (images, masks))
            found = pair_up(
                pictures(images),
                pictures(masks),
                "isic-2018",
                section=section,
                prefix=f"{section}/",
                mask_stem=lambda stem: stem.removesuffix("_segmentation"),
            )
            parts.append(found)
        elif section == "training":
            raise LayoutError(
                f"No ISIC2018_Task1-2_Training_Input and ISIC2018_Task1_Training_GroundTruth in '{root}'; "
                "give the folder with the unpacked data."
            )
    return merge_contents(parts)


def find_folder_twice(folder: Path) -> Path:
    """Return the folder of the same name inside, which some ways of unpacking leave, or the folder itself."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


EBHI_SEG = Layout(
    "ebhi-seg",
    "adenocarcinoma",
    "EBHI-Seg, adenocarcinoma",
    _find_ebhi,
    {"ebhi-seg": (636, 159)},
    with_empty=True,
    remarks=("The first number in a file name is taken as the patient.",),
)
TNUI_2021 = Layout(
    "tnui-2021", "thyroid_nodule", "TNUI-2021", _find_tnui, {"tnui-2021": (966, 276)}, "official", with_empty=True
)
BUSI = Layout(
    "busi",
    "breast_lesion",
    "BUSI",
    _find_busi,
    {"busi": (486, 161)},
    remarks=("The paper's sizes are those of the benign and malignant pictures; the layout names no patients.",),
)
ISIC_2018 = Layout(
    "isic-2018",
    "skin_lesion",
    "ISIC 2018 task 1",
    _find_isic,
    {"isic-2018": (1886, 808)},
    with_empty=True,
    remarks=("The paper's sizes are 70 and 30 % of the official training and validation pictures together.",),
)
