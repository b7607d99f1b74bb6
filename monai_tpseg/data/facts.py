"""Facts from the pixels of a case: readability, size, share of lesion, and hashes for detecting copies."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from monai_tpseg.cores import cores
from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage, match_label

__all__ = ["CaseFacts", "default_workers", "inspect_case", "inspect_cases"]

_MOST_WORKERS = 8


class CaseFacts(NamedTuple):
    """Facts about a picture or volume with its label.

    Args:
        code: code of the `ReadError`, "" if both are readable and match.
        message: message of the `ReadError`.
        size: (H, W) or (H, W, D) pixels; empty if the image could not be read.
        lesion: share of lesion pixels in [0, 1].
        image_hash: hash of the decoded pixels, equal for equal pictures in any format; "" if unreadable.
        label_hash: hash of the mask, likewise.
    """

    code: str = ""
    message: str = ""
    size: tuple[int, ...] = ()
    lesion: float = 0.0
    image_hash: str = ""
    label_hash: str = ""


def default_workers() -> int:
    """Return the number of processes that read: one per core, 8 at most."""
    return min(_MOST_WORKERS, cores())


def inspect_case(image: str, label: str | None = None) -> CaseFacts:
    """Read a case the way training does, and return its facts; what cannot be read is a fact as well.

    Args:
        image: path of a picture, volume or DICOM series.
        label: path of its mask, None where there is none.
    """
    facts = CaseFacts()
    try:
        pixels = LoadMedicalImage("image")(image)
        facts = facts._replace(size=tuple(pixels.shape[1:]), image_hash=_hash(pixels))
        if label is not None:
            mask = match_label(LoadMedicalImage("label")(label), pixels)
            facts = facts._replace(lesion=float(mask.as_tensor().mean()), label_hash=_hash(mask))
    except ReadError as error:
        return facts._replace(code=error.code, message=error.message)
    return facts


def inspect_cases(
    cases: Sequence[tuple[str, str | None]], workers: int = 0, progress: bool = False, title: str = "reading"
) -> list[CaseFacts]:
    """Return the facts of many cases, in their order.

    Args:
        cases: image and label of each; what stands twice is read once.
        workers: processes that read; 0 reads in this one.
        progress: draw a bar, if standard error is a terminal.
        title: title of the progress bar.
    """
    unique = list(dict.fromkeys(cases))
    # the default collation would turn texts and numbers into tensors
    loader: Any = DataLoader(_Facts(unique), batch_size=None, num_workers=min(workers, len(unique)), collate_fn=_same)
    shown = tqdm(loader, total=len(unique), desc=title, unit="case", disable=not (progress and sys.stderr.isatty()))
    found = dict(zip(unique, shown, strict=True))
    return [found[case] for case in cases]


class _Facts(torch.utils.data.Dataset[CaseFacts]):
    def __init__(self, cases: Sequence[tuple[str, str | None]]) -> None:
        self.cases = cases

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> CaseFacts:
        return inspect_case(*self.cases[index])


def _same(facts: Any) -> Any:
    return facts


def _hash(tensor: Any) -> str:
    plain = tensor.as_tensor().contiguous()
    state = hashlib.blake2b(str(tuple(plain.shape)).encode(), digest_size=16)
    state.update(memoryview(plain.numpy()).cast("B"))
    return state.hexdigest()
