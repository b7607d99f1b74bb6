"""The polyp benchmark: the two archives of PraNet, or the five data sets as their owners publish them."""

from __future__ import annotations

from pathlib import Path

from monai_tpseg.data.layouts.base import (
    DatasetContent,
    Layout,
    LayoutError,
    find_folder,
    find_pair_of_folders,
    merge_contents,
    pair_up,
    pictures,
)

__all__ = ["POLYP", "POLYP_RAW"]

_PAIRS = [("images", "masks"), ("image", "mask"), ("Original", "Ground Truth"), ("Original", "Ground_Truth")]
_TESTS = {"Kvasir": 100, "CVC-ClinicDB": 62, "CVC-300": 60, "CVC-ColonDB": 380, "ETIS-LaribPolypDB": 196}
_RAW = {"Kvasir-SEG": (900, 100), "CVC-ClinicDB": (550, 62), **{name: (0, _TESTS[name]) for name in list(_TESTS)[2:]}}


def _find_pranet(root: Path) -> DatasetContent:
    folders = [find_folder(root, name) for name in ("TrainDataset", "TestDataset")]
    train, test = folders
    if train is None or test is None:
        raise LayoutError(f"No TrainDataset and TestDataset in '{root}'; for the single data sets use polyp-raw.")
    parts = [_set(train, "TrainDataset", "training")]
    for name in _TESTS:
        folder = find_folder(test, name)
        if folder is None:
            raise LayoutError(f"No {name} in '{test}'; the benchmark has {', '.join(_TESTS)}.")
        parts.append(_set(folder, name, "validation"))
    return merge_contents(parts)


def _find_raw(root: Path) -> DatasetContent:
    parts, absent = [], []
    for name, (training, _) in _RAW.items():
        folder = find_folder(root, name)
        if folder is None and training:
            raise LayoutError(f"No {name} in '{root}'; the benchmark trains on Kvasir-SEG and CVC-ClinicDB.")
        if folder is None:
            absent.append(name)
            continue
        parts.append(_set(folder, name, "" if training else "validation"))
    return merge_contents([*parts, DatasetContent([], remarks=[f"Missing: {', '.join(absent)}."] if absent else [])])


def _set(folder: Path, name: str, section: str) -> DatasetContent:
    """ETIS-LaribPolypDB keeps its pictures in a folder of its own name, and puts a p before the name of a mask."""
    folders = find_pair_of_folders(folder, [*_PAIRS, ("ETIS-LaribPolypDB", "Ground Truth")])
    if folders is None:
        raise LayoutError(f"No pictures and masks in '{folder}': no images and masks, no Original and Ground Truth.")
    lettered = all(path.stem.startswith("p") for path in pictures(folders[1]))
    return pair_up(
        pictures(folders[0]),
        pictures(folders[1]),
        name,
        section=section,
        prefix=f"{name}/",
        mask_stem=lambda stem: stem[1:] if lettered else stem,
    )


POLYP = Layout(
    "polyp",
    "colon_polyp",
    "polyp benchmark (PraNet's archives)",
    _find_pranet,
    {"TrainDataset": (1450, 0), **{name: (0, count) for name, count in _TESTS.items()}},
    "official",
    with_empty=True,
)
POLYP_RAW = Layout(
    "polyp-raw",
    "colon_polyp",
    "polyp benchmark (single data sets)",
    _find_raw,
    _RAW,
    with_empty=True,
    remarks=(
        "Which pictures of Kvasir-SEG and CVC-ClinicDB the benchmark trains on is only known from PraNet's archives. "
        "Pictures of CVC-ClinicDB are frames of few sequences, which the layout does not identify: neighbouring frames "
        "may be in different lists.",
    ),
)
