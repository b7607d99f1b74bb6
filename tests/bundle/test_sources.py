"""What a bundle is asked to segment is looked for and tried in processes that may be ended."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from monai_tpseg.bundle import cases
from monai_tpseg.bundle.cases import check_readable, inference_cases
from monai_tpseg.io import ReadError
from monai_tpseg.testing.phantoms import make_phantom, write_png


def reads(image: str) -> None:
    """Read as usual, but for what is called so; in a process apart."""
    if "hang" in image:
        time.sleep(100)
    if "crash" in image:
        os.abort()
    cases.reads(image)


def test_pipes_are_left_out_of_a_folder_and_refused_by_name(tmp_path: Path) -> None:
    write_png(make_phantom("skin_lesion", 1, 40).image, tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert [Path(case["image"]).name for case in inference_cases(str(tmp_path), None, "skin_lesion")] == ["a.png"]
    with pytest.raises(ReadError, match=r"pipe\.png is a pipe and not a regular file"):
        inference_cases(str(tmp_path / "pipe.png"), None, "skin_lesion")


@pytest.mark.parametrize(("name", "words"), [("hang", "did not answer within 2 s"), ("crash", "ends the process")])
def test_an_image_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setattr(cases, "READS", f"{__name__}:reads")
    paths = [str(tmp_path / "a.png"), str(tmp_path / f"{name}.png")]
    for path in paths:
        write_png(make_phantom("skin_lesion", 1, 40).image, Path(path))
    check_readable(paths[:1])
    with pytest.raises(ValueError, match=f"^{name}.png {words}"):
        check_readable(paths, seconds=2.0)
