"""Exemplars: of the same task, never the picture itself, drawn anew or by seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data.utils import set_rnd
from monai.transforms import Compose, MapTransform, RandomizableTransform

from monai_tpseg.data import CachedCases, DatalistError, ExemplarCases, ExemplarPool


def cases(tasks: str) -> list[dict[str, Any]]:
    return [{"image": f"{i}.png", "label": f"{i}_label.png", "task": task} for i, task in enumerate(tasks)]


class Read(MapTransform):
    """A picture that knows its number."""

    def __call__(self, data: Any) -> dict[str, Any]:
        number = float(str(data["image"]).split(".")[0])
        return {"image": torch.full((3, 4, 4), number), "label": torch.full((1, 4, 4), number), "task": data["task"]}


class Shift(RandomizableTransform):
    """An augmentation: adds a number in [0, 0.5)."""

    def __call__(self, data: Any) -> dict[str, Any]:
        return {**data, "image": data["image"] + 0.5 * self.R.rand()}


def test_exemplars_are_other_pictures_of_the_task() -> None:
    data = ExemplarCases(cases("aaabbab"), Compose([Read(keys="image"), Shift()]), exemplars=2, progress=False)
    for _ in range(20):
        for i, task in enumerate("aaabbab"):
            case = data[i]
            assert case["exemplar_image"].shape == (2, 3, 4, 4)
            assert case["exemplar_label"].shape == (2, 1, 4, 4)
            shown = case["exemplar_label"][:, 0, 0, 0].int().tolist()
            assert len(set(shown)) == 2
            assert i not in shown
            assert all("aaabbab"[j] == task for j in shown)
            assert case["exemplar_image"][:, 0, 0, 0].int().tolist() == shown  # image and label belong together


def test_the_same_picture_under_another_entry_is_no_exemplar() -> None:
    listed = cases("aaa")
    listed[1]["image"] = "0.png"
    pool = ExemplarPool(listed)
    assert pool.candidates(listed[0]) == [2]
    assert pool.candidates(listed[2]) == [0, 1]


def test_exemplars_are_augmented_on_their_own_and_follow_the_seed() -> None:
    data = ExemplarCases(cases("aaaaaaaa"), Compose([Read(keys="image"), Shift()]), progress=False)
    set_rnd(data, 5)
    first = [data[i]["exemplar_image"][0, 0, 0, 0].item() for i in range(8)]
    set_rnd(data, 5)
    assert first == [data[i]["exemplar_image"][0, 0, 0, 0].item() for i in range(8)]
    set_rnd(data, 6)
    assert first != [data[i]["exemplar_image"][0, 0, 0, 0].item() for i in range(8)]
    assert len({x % 1 for x in first}) > 4


def test_a_seed_fixes_the_exemplars_of_each_case() -> None:
    read = Compose([Read(keys="image")])
    pool = CachedCases(cases("aaaaaaaabb"), read, progress=False)
    held_out = [{"image": f"{i}.png", "label": "", "task": "a"} for i in (20, 21, 22)]
    drawn = [ExemplarCases(held_out, read, 3, pool, seed=s, progress=False) for s in (0, 0, 1)]
    shown = [[d[i]["exemplar_label"][:, 0, 0, 0].tolist() for i in (2, 1, 0)] for d in drawn]
    assert shown[0] == shown[1] != shown[2]
    assert all(number < 8 for case in shown[0] for number in case)


def test_kept_cases_do_not_grow() -> None:
    data = ExemplarCases(cases("aaa"), Compose([Read(keys="image")]), cache_rate=1.0, progress=False)
    data.fill()
    assert "exemplar_image" in data[0]
    assert "exemplar_image" not in data._cache[0]


def test_none_are_added_where_none_are_asked_for() -> None:
    assert "exemplar_image" not in ExemplarCases(cases("ab"), Compose([Read(keys="image")]), 0, progress=False)[0]


def test_too_few_pictures_are_refused_at_once() -> None:
    with pytest.raises(DatalistError, match=r"Task 'b' has 0 other pictures with labels than '2\.png': 1"):
        ExemplarCases(cases("aab"), Compose([Read(keys="image")]), progress=False)
    with pytest.raises(ValueError, match="at least 1, got -1"):
        ExemplarPool(cases("aa"), -1)
