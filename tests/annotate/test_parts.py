"""The small parts of a session."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from monai_tpseg.annotate import PromptModel, Session, SessionError
from monai_tpseg.annotate.session.masks import PackedMask, change_of
from monai_tpseg.annotate.session.propagation import centre_click, slices_along
from monai_tpseg.annotate.session.recent import Recent
from monai_tpseg.annotate.session.scribbles import thin_line
from monai_tpseg.catalogue import Modality
from monai_tpseg.networks import kprism_demo, tpseg_hiera
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.transforms import pipelines_hash

from .conftest import NETWORK, SIZE


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (16, 24), (5, 1)])
def test_masks_are_packed_without_loss(shape: tuple[int, int]) -> None:
    prob = np.random.default_rng(0).random(shape, np.float32)
    for threshold in (0.3, 0.5, 1.1):
        packed = PackedMask.of(prob >= threshold, prob)
        assert np.array_equal(packed.mask(), prob >= threshold)
        assert packed.mask().dtype == np.uint8
        expected = np.where(prob >= threshold, prob, 0)
        assert np.abs(packed.prob() - expected).max() <= 1 / 510 + 1e-6


def test_changes_are_as_small_as_can_be() -> None:
    before, after = np.zeros((2, 6, 8), np.uint8)
    after[2, 3] = after[4, 6] = 1
    change = change_of(3, before, after)
    assert change.box == (2, 3, 5, 7)
    assert np.array_equal(change.mask, after[2:5, 3:7])
    assert change_of(3, after, after).box is None


def test_recent_forgets_what_was_used_longest_ago() -> None:
    recent: Recent[int, str] = Recent(2)
    assert [recent.get(n, lambda n=n: str(n)) for n in (1, 2, 1, 3)] == ["1", "2", "1", "3"]
    assert 1 in recent
    assert 2 not in recent
    assert len(recent) == 2
    with pytest.raises(ValueError, match="At least 1"):
        Recent(0)


def test_lines_are_thinned() -> None:
    dense = [(10.0, c / 4) for c in range(0, 400)]
    line = thin_line(dense, (100, 100))
    assert line[0] == (10.0, 0.0)
    assert line[-1] == pytest.approx((10.0, 99.75))
    steps = np.diff([column for _, column in line])
    assert len(line) == 16
    assert steps == pytest.approx(np.full(15, 99.75 / 15))
    assert thin_line([(3.0, 4.0)], (100, 100)) == [(3.0, 4.0)]
    assert thin_line([(3.0, 4.0), (3.0, 5.0), (3.0, 6.0)], (100, 100)) == [(3.0, 5.0)]
    assert thin_line([(3.0, 4.0)] * 5, (100, 100)) == [(3.0, 4.0)]


def test_the_middle_of_a_mask() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:5, 2:5] = 1
    mask[10:17, 8:17] = 1
    assert centre_click(mask) == (13.0, 12.0, 1)


def test_slices_along_a_direction() -> None:
    assert list(slices_along(2, 3, 1, 10)) == [(2, 3), (3, 4), (4, 5)]
    assert list(slices_along(1, 5, -1, 10)) == [(1, 0)]
    assert list(slices_along(9, 2, 1, 10)) == []
    assert list(slices_along(2, 0, 1, 10)) == []


def test_weights_that_take_no_clicks_are_refused(tmp_path: Path, weights: Path) -> None:
    info = WeightsInfo(("skin_lesion",), {"backbone": "hiera_demo"}, SIZE)
    save_weights(tmp_path / "t.pt", tpseg_hiera("hiera_demo", 1, freeze_encoder=False).state_dict(), info)
    with pytest.raises(SessionError, match="'tpseg' do not accept clicks"):
        PromptModel(tmp_path / "t.pt", "cpu")
    with pytest.raises(SessionError, match="threshold must lie between 0 and 1"):
        PromptModel(weights, "cpu", threshold=1.0)


def test_other_modality_files_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    info = WeightsInfo(("liver_lesion",), NETWORK, SIZE, preprocessing="other", modalities={"liver_lesion": "ct"})
    save_weights(tmp_path / "t.pt", kprism_demo(1).state_dict(), info)
    PromptModel(tmp_path / "t.pt", "cpu")
    assert "differ from those the weights were trained with" in caplog.text


def test_tasks_beyond_the_catalogue(tmp_path: Path, sources: dict[str, Path]) -> None:
    known = {"liver_lesion": "ct"}
    info = WeightsInfo(("liver_lesion",), NETWORK, SIZE, preprocessing=pipelines_hash(), modalities=known)
    save_weights(tmp_path / "t.pt", kprism_demo(1).state_dict(), info)
    session = Session(sources["ct"], PromptModel(tmp_path / "t.pt", "cpu"), "liver_lesion")
    assert session.window_default == Modality.CT.windows["lung"]
    session.click(18, 18, index=2)
    assert session.export(tmp_path)["mask"].name == "chest_liver_lesion_mask.nii.gz"


def test_threads_take_turns(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for n in range(4):
                session.click(4 + n, 5 + index, bool(n % 2), index)
                session.view(index), session.mask(index), session.states()
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    alone = Session(sources["ct"], model, "lung_infection")
    for index in range(4):
        for n in range(4):
            alone.click(4 + n, 5 + index, bool(n % 2), index)
    assert np.array_equal(session.volume_mask(), alone.volume_mask())
    for _ in range(16):
        session.undo()
    assert not session.can_undo
    assert not session.volume_mask().any()


def test_what_is_kept_is_bounded(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    for n in range(40):
        session.click(4 + n % 30, 5, bool(n % 2), n % 6)
    predictor = session._predictor
    assert len(predictor._states) <= 4
    assert len(predictor._logits) <= 32
    kept = session.mask(0)
    predictor._logits._kept.clear()  # found again from what was asked
    session.click(9, 9, index=0)
    again = session.mask(0)
    session.undo()
    assert np.array_equal(session.mask(0), kept)
    session.click(9, 9, index=0)
    assert np.array_equal(session.mask(0), again)
