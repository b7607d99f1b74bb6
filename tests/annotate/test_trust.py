"""The viewer says how far a mask of the class alone can be trusted, as a run says it; of a corrected one nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from monai_tpseg import load_model
from monai_tpseg.annotate import PromptModel, Session
from monai_tpseg.annotate.web.wire import status
from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.trust.features import FEATURES
from monai_tpseg.trust.fitted_files import Fitted, write_fitted
from monai_tpseg.trust.quality import fit_dice

from .conftest import write_weights
from .serving import serving

TASK = "skin_lesion"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with an expected Dice beside them; nothing tells pictures of something else."""
    weights = write_weights(tmp_path_factory.mktemp("judged") / "model.pt")
    rng = np.random.default_rng(0)
    features, rows = rng.normal(0, 2, (80, len(FEATURES))), rng.integers(0, len(TASK_NAMES), 80)
    dice = np.clip(0.6 + 0.1 * features[:, 0], 0, 1)
    write_fitted(weights, read_info(weights).sha256, Fitted(None, fit_dice(features, rows, dice, len(TASK_NAMES))))
    return weights


def test_a_mask_of_the_class_is_judged_as_in_a_run(tmp_path: Path, judged: Path, sources: dict[str, Path]) -> None:
    picture, model = sources["picture"], PromptModel(judged, "cpu")
    session = Session(picture, model, TASK, tmp_path / "s")
    assert session.trust() is None
    session.segment()
    said = session.trust()
    assert said is not None
    assert said["not_this_task"] is None
    assert said == load_model(judged, "cpu").segment(picture, TASK).trust.record()
    session.click(18, 20)
    assert session.trust() is None  # nobody has fitted what a click makes of it
    session.undo()
    assert session.trust() == said
    about = status(session, 1)
    assert about["knows_trust"] is True
    assert about["trust"] == {0: said}
    session.close()
    again = Session.restore(tmp_path / "s", model)
    assert again.trust() == said
    again.close()


def test_the_page_says_it_calmly(tmp_path: Path, judged: Path, sources: dict[str, Path], browser: Browser) -> None:
    """The line appears with a mask of the class, says why nothing is known after a click, and is none before."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "skin.png").write_bytes(sources["picture"].read_bytes())
    with serving(tmp_path / "in", PromptModel(judged, "cpu"), tmp_path / "out", TASK) as viewer:
        viewer.workspace.open(0, TASK)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(viewer.access.address_once())
        page.locator("#about", has_text="skin.png").wait_for()
        assert page.locator("#trust").is_hidden()
        page.locator('[data-action="segment"]').click()
        page.locator("#trust", has_text="Expected Dice").wait_for()
        said = viewer.workspace.session(0).trust()
        assert said is not None
        assert f"{said['expected_dice']['value']:.2f}" in page.locator("#trust").inner_text()
        viewer.post("click", index=0, row=18, column=20, positive=True)
        page.reload()
        page.locator("#trust", has_text="Not known of a mask that was corrected or clicked.").wait_for()
        page.close()


def test_weights_alone_know_nothing(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["picture"], model, TASK)
    session.segment()
    assert session.trust() is None
    assert status(session, 1)["knows_trust"] is False
