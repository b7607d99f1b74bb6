"""Cases that are kept on disk: read once, and again when something has changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose, MapTransform, RandScaleIntensityd

from monai_tpseg.data import CachedCases

reads: list[str] = []


class ReadNumber(MapTransform):
    """Reads a file with one number; counts what it reads."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__("image")
        self.scale = scale

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        reads.append(data["image"])
        return {**data, "image": self.scale * torch.full((1, 2, 2), float(Path(data["image"]).read_text()))}


def dataset(folder: Path, cache_rate: float = 0.0, scale: float = 1.0) -> CachedCases:
    cases = [{"image": str(folder / name), "task": name} for name in ("a", "b")]
    transform = Compose([ReadNumber(scale), RandScaleIntensityd("image", factors=0.5, prob=1.0)])
    made = CachedCases(cases, transform, cache_rate, cache_dir=folder / "cache", progress=False)
    made.fill()
    return made


def test_kept_between_data_sets(tmp_path: Path) -> None:
    for name, number in (("a", "1"), ("b", "2")):
        (tmp_path / name).write_text(number)
    reads.clear()
    first = dataset(tmp_path)
    drawn = {float(first[1]["image"][0, 0, 0]) for _ in range(8)}
    assert len(drawn) > 1  # what is random is drawn each time
    assert all(1.0 <= value <= 3.0 for value in drawn)
    first[0]
    assert len(reads) == 2
    for cache_rate in (0.0, 0.5, 1.0):
        again = dataset(tmp_path, cache_rate)
        assert again[0]["task"] == "a"
        assert 1.0 <= float(again[1]["image"][0, 0, 0]) <= 3.0
    assert len(reads) == 2


def test_read_again_when_file_or_transform_changes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("1")
    reads.clear()
    dataset(tmp_path, cache_rate=1.0)
    assert len(reads) == 2
    (tmp_path / "a").write_text("8")
    os.utime(tmp_path / "a", (1, 1))
    changed = dataset(tmp_path)
    assert float(changed[0]["image"][0, 0, 0]) >= 4.0
    changed[1]
    assert len(reads) == 3
    dataset(tmp_path, scale=2.0)[1]
    assert len(reads) == 4
