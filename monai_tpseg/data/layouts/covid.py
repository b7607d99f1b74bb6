"""COVID-19 CT: the NIfTI files of medicalsegmentation.com and of Zenodo 3757476, slice by slice."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from monai_tpseg.data.layouts.base import (
    DatasetContent,
    Layout,
    LayoutError,
    Pair,
    Source,
    find_folder,
    write_mask,
    write_picture,
)
from monai_tpseg.io.meta_keys import INTENSITY
from monai_tpseg.keys import IMAGE
from monai_tpseg.suffixes import NIFTI_SUFFIXES
from monai_tpseg.transforms import LoadMedicalImage, load_pipeline, match_label

__all__ = ["COVID_19_CT"]

_FOLDERS = (("rp_im", "rp_msk"), ("COVID-19-CT-Seg_20cases", "Infection_Mask"))


def _find(root: Path) -> DatasetContent:
    sources, unpaired = [], []
    stack = [_nifti(root, name) for name in ("tr_im", "tr_mask")]
    if stack[0] is not None and stack[1] is not None:
        sources.append(_source(stack[0], stack[1], "medseg", ""))
    for folder, masks in _FOLDERS:
        images, labels = (_volumes(find_folder(root, name)) for name in (folder, masks))
        unpaired += [f"{folder}/{name}" for name in sorted(images.keys() ^ labels.keys())] if images else []
        shared = sorted(images.keys() & labels.keys())
        sources += [_source(images[name], labels[name], f"{folder}/{name}", f"{folder}/{name}") for name in shared]
    if not sources:
        raise LayoutError(
            f"No tr_im with tr_mask, no rp_im with rp_msk, no COVID-19-CT-Seg_20cases with Infection_Mask in '{root}'; "
            "give the folder with the unpacked data."
        )
    return DatasetContent(sources, unpaired)


def _nifti(root: Path, stem: str) -> Path | None:
    found = (path for suffix in reversed(NIFTI_SUFFIXES) for path in sorted(root.rglob(stem + suffix)))
    return next((path for path in found if path.is_file()), None)


def _volumes(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return {}
    found = {
        s: [p for p in sorted(folder.iterdir()) if p.name.endswith(s) and p.is_file()] for s in reversed(NIFTI_SUFFIXES)
    }
    return {path.name.removesuffix(suffix): path for suffix, paths in found.items() for path in paths}


def _source(image: Path, label: Path, name: str, patient: str) -> Source:
    return Source(name, partial(_write, image, label, name, patient))


def _write(image: Path, label: Path, name: str, patient: str, files: Path) -> list[Pair]:
    """Write the axial slices that show infection as the CT pipeline shows them; masks hold 1 to 3, all of it lesion."""
    volume = LoadMedicalImage(plane="axial")(image)
    masks = match_label(LoadMedicalImage("label", plane="axial")(label), volume).as_tensor()[0]
    shown = load_pipeline("ct", volume.meta[INTENSITY], network=False)({IMAGE: volume[:1]})[IMAGE].as_tensor()[0]
    pairs = []
    for number in masks.flatten(0, 1).any(0).nonzero().flatten().tolist():
        slice_name = f"{name}/{number:03d}"
        picture = write_picture(shown[..., number].numpy(), files / "images" / f"{slice_name}.png")
        mask = write_mask(masks[..., number].numpy(), files / "labels" / f"{slice_name}.png")
        pairs.append(Pair(slice_name, picture, mask, "covid-19-ct", patient))
    return pairs


COVID_19_CT = Layout(
    "covid-19-ct",
    "lung_infection",
    "COVID-19 CT",
    _find,
    {"covid-19-ct": (894, 385)},
    remarks=(
        "How the paper chose its 1279 slices is not published; these are the slices with infection, no others.",
        "Volumes of rp_im and of COVID-19-CT-Seg_20cases may come from the same patients: use only one of the two.",
    ),
)
