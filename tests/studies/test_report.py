"""The report: one file, worst first, nothing loaded from elsewhere, nothing of a record taken for markup."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from monai_tpseg.cli import main
from monai_tpseg.report import write_report
from monai_tpseg.report.case_list import collect, write_run_tables
from monai_tpseg.report.thumbnails import make_thumbnail
from monai_tpseg.results import StudyError
from monai_tpseg.results.measurements import Lesion, lesions_csv
from monai_tpseg.studies import Model, Run, find_entries, prepare_output
from monai_tpseg.studies.manifest import Entry, write_manifest
from monai_tpseg.transforms import draw_overlay

from .conftest import MARKER


@pytest.fixture(scope="module")
def done(corpus: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run for one task."""
    out = tmp_path_factory.mktemp("report") / "out"
    Run(model, out, quiet=True)(prepare_output(out, find_entries(corpus, "skin_lesion"), "salted", False))
    return out


def test_a_run_without_results_has_empty_tables_but_no_report(tmp_path: Path) -> None:
    write_run_tables(tmp_path)
    for name, start in (("cases.csv", "case,task,status"), ("lesions.csv", "case,task")):
        (line,) = (tmp_path / name).read_text().splitlines()
        assert line.startswith(start)
    with pytest.raises(StudyError, match="contains no results"):
        write_report(tmp_path)


def test_all_cases_are_shown_worst_first(done: Path) -> None:
    page = write_report(done).read_text()
    shown = re.findall(r'<li data-status="(\w+)" data-task="(\w*)"', page)
    order = ["failed", "review", "ok_empty", "ok", "skipped"]
    assert len(shown) == len(list((done / "cases").iterdir()))
    assert [status for status, _ in shown] == sorted((status for status, _ in shown), key=order.index)
    assert shown[0][0] == "failed"
    assert page.count("data:image/webp;base64,") == len(shown) - sum(status == "failed" for status, _ in shown)
    for case in collect(done):
        assert page.count(case.record["case"]) >= 1 + len(case.lesions)


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_private(done: Path) -> None:
    page = write_report(done).read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"(base64,|sha256-)[\w+/=]+", "", page))
    assert MARKER not in page


def test_sources_are_named_on_request_alone(tmp_path: Path) -> None:
    for run in ("plain", "named"):
        out, name = tmp_path / run, "c0ffee_skin_lesion"
        (out / "cases" / name).mkdir(parents=True)
        (out / "cases" / name / "result.json").write_text(record(name, "skin_lesion"))
        entry = Entry("ward <b>3</b>/mole.png", tmp_path, "skin_lesion", "ab" * 16, case=name, part="1/2")
        write_manifest(out / "manifest.csv", [entry])
    assert main(["report", str(tmp_path / "plain")]) == main(["report", str(tmp_path / "named"), "--sources"]) == 0
    plain, named = (tmp_path / run / "report.html" for run in ("plain", "named"))
    assert "mole.png" not in plain.read_text()
    assert "ward &lt;b&gt;3&lt;/b&gt;/mole.png (1 of 2)" in named.read_text()
    assert "may name patients: do not share it" in named.read_text()
    assert "<b>3</b>" not in named.read_text()
    assert named.stat().st_mode & 0o777 == 0o600


def test_records_are_text_and_never_markup(done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    path = next((out / "cases").glob("*/result.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"case": "<script>alert(1)</script>"}))
    page = write_report(out).read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


LESION = Lesion(1, "", 4, 4.0, "px", 2.0, "px", None, None, None, 1.0, 1.0, None, 0.9)
MADE_BY = {
    "model": {"tasks": ["skin_lesion"], "weights_sha256": "0" * 64, "trained_preprocessing": ""},
    "config": {"preprocessing": ""},
    "config_sha256": "0" * 64,
    "versions": {},
}


def record(name: str, task: str, **more: Any) -> str:
    """A record that has all of its keys."""
    texts = {"status": "ok", "code": "", "next_action": "", "detail": "", "key": "", "flags": []}
    return json.dumps({"case": name, "task": task, **texts, "provenance": MADE_BY, **more})


def test_what_is_unlike_the_others_and_what_is_grave_comes_first(done: Path, tmp_path: Path) -> None:
    def put(name: str, size: float, mean: float, flags: tuple[str, ...] = ()) -> None:
        folder = tmp_path / "cases" / name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(record(name, "skin_lesion", flags=flags, files={"lesions": "lesions.csv"}))
        (folder / "lesions.csv").write_bytes(lesions_csv([replace(LESION, size=size, mean_probability=mean)]))

    for n in range(6):
        put(f"plain{n}", 100 + n, 0.9)
    put("huge", 4000, 0.99)
    put("tiny", 3, 0.99)
    put("doubtful", 100, 0.55)
    put("edge", 100, 0.99, ("touches_border",))
    put("odd", 100, 0.99, ("a_new_flag",))
    found = collect(tmp_path)
    assert [case.record["case"] for case in found][:5] == ["odd", "edge", "huge", "tiny", "doubtful"]
    assert {case.record["case"] for case in found if "outlying_size" in case.flags} == {"huge", "tiny"}


def test_settings_read_as_words_and_options_stay_whole(tmp_path: Path) -> None:
    config = {"preprocessing": "", "mpp": None, "contours": True, "image_size": [192, 160], "trust": {"a.json": "0f"}}
    folder = tmp_path / "cases" / "one"
    folder.mkdir(parents=True)
    action = {"code": "S_NO_TASK", "next_action": "<b> run again with --resume"}
    (folder / "result.json").write_text(record("one", "", provenance=MADE_BY | {"config": config}, **action))
    page = write_report(tmp_path).read_text()
    for key, value in (("mpp", "not given"), ("contours", "yes"), ("image_size", "192 x 160"), ("trust", "a.json 0f")):
        assert f"<dt>{key}</dt><dd>{value}</dd>" in page
    assert page.count('&lt;b&gt; run again with <span class="option">--resume</span>') == 2  # table and card


def test_text_in_ultrasound_is_blurred_and_the_outline_is_not(tmp_path: Path) -> None:
    overlay = Image.new("RGB", (400, 324))
    text = ImageFont.load_default(size=18)
    ImageDraw.Draw(overlay).text((20, 40), "DOE JANE 1970-01-01", fill="white", font=text)
    overlay.save(tmp_path / "overlay.png")
    mask = np.zeros((150, 200), np.uint8)
    mask[60:120, 80:160] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")

    def shown(blurred: bool) -> NDArray[np.int16]:
        small = make_thumbnail(tmp_path / "overlay.png", tmp_path / "mask.png", blurred)
        picture = Image.open(io.BytesIO(base64.b64decode(small.base64))).convert("RGB")
        return np.asarray(picture).astype(np.int16)

    sharp, soft = shown(False), shown(True)
    letters = np.s_[36:64, 15:220]
    strokes = [int(np.abs(np.diff(picture[letters], axis=1)).max()) for picture in (sharp, soft)]
    assert strokes[0] > 150
    assert strokes[1] < 60
    line = soft[24 + 2 * 60 + 1, 200]  # the upper edge of the mask, below the caption
    assert line[0] < 100
    assert min(line[1:]) > 150


@pytest.mark.parametrize("shape", [(128, 128), (200, 60)])
def test_the_outline_of_a_blurred_picture_lies_on_its_lesion(tmp_path: Path, shape: tuple[int, int]) -> None:
    """A caption wider than the picture leaves black beside it, which is not part of the scene."""
    mask = np.zeros(shape, np.uint8)
    mask[shape[0] // 2 : shape[0] // 2 + 20, -20:-8] = 255
    grey = np.full((3, *shape), 0.5, np.float32)
    drawn = draw_overlay(grey, mask // 255, "thyroid nodule, unlike the task's pictures, expected Dice 0.07")
    assert drawn.width > drawn.height  # wider than the scene
    drawn.save(tmp_path / "overlay.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    small = make_thumbnail(tmp_path / "overlay.png", tmp_path / "mask.png", blurred=True)
    picture = Image.open(io.BytesIO(base64.b64decode(small.base64))).convert("RGB").resize(drawn.size)
    found = [np.argwhere(_cyan(one)) for one in (drawn, picture)]
    for ends in (np.min, np.max):
        np.testing.assert_allclose(ends(found[0], axis=0), ends(found[1], axis=0), atol=4)


def _cyan(picture: Image.Image) -> NDArray[np.bool_]:
    red, green, blue = np.asarray(picture).astype(int).transpose(2, 0, 1)
    found: NDArray[np.bool_] = (red < 110) & (green > 150) & (blue > 150)
    return found


def test_ultrasound_without_a_region_is_shown_blurred_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("monai_tpseg.report.case_list.make_thumbnail", lambda *given: asked.append(given[2]))
    for n, (task, made) in enumerate(
        [("breast_lesion", {}), ("breast_lesion", {"region": [0, 0, 9, 9]}), ("wet_amd", {})]
    ):
        folder = tmp_path / "cases" / str(n)
        folder.mkdir(parents=True)
        files = {"mask": "m.png", "overlay": "o.png"}
        (folder / "result.json").write_text(record(str(n), task, decisions=made, files=files))
    collect(tmp_path)
    assert asked == [True, False, False]


def test_a_case_that_a_run_replaces_right_now_does_no_harm(done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    kept = next(path for path in out.glob("cases/*/*_overlay.png"))
    kept.unlink()
    assert len(collect(out)) == len(list((out / "cases").iterdir()))


def test_an_output_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no results"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("result.json", b"{"),
        ("result.json", b"[" * 200_000),
        ("result.json", b'{"status": "fine"}'),
        ("result.json", b"[]"),
        ("result.json", None),
        ("lesions.csv", b"lesion,size\n1,large\n"),
        ("lesions.csv", b"lesion,size\n1,2\n"),
        ("lesions.csv", b"\xff\xfe"),
        ("*_overlay.png", b"no picture"),
        ("*_overlay.png", None),
    ],
)
def test_a_report_names_what_is_damaged_and_shows_the_rest(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: bytes | None
) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    path = next(path for path in sorted((out / "cases").glob(f"*/{file}")) if len(list(path.parent.iterdir())) > 3)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert main(["report", str(out)]) == 3
    said = capsys.readouterr().err
    assert f"{path} is damaged" in said
    assert said.count("damaged: ") == 1
    page = (out / "report.html").read_text()
    assert page.count("<li data-status") == len(list((out / "cases").iterdir()))
    assert f"<b>E_RESULT</b> ({path.name})" in page


@pytest.mark.parametrize(
    "damage",
    [
        {"files": ["overlay"]},
        {"trust": [1]},
        {"trust": {"expected_dice": "high"}},
        {"trust": {"expected_dice": None, "not_this_task": {"score": "1"}, "contours": None}},
    ],
)
def test_values_of_a_record_that_are_none_are_damage(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: dict[str, Any]
) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    path = next(iter((out / "cases").glob("*/*_overlay.png"))).with_name("result.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    os.mkdir(os.path.join(os.fsencode(out / "cases"), b"\xff \xe4"))  # a name that is no UTF-8
    assert main(["report", str(out)]) == 3
    assert f"{path} is damaged" in capsys.readouterr().err
    assert 'href="cases/' in (out / "report.html").read_text()


def test_a_result_without_a_mask_has_no_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "cases" / "a").mkdir(parents=True)
    (tmp_path / "cases" / "a" / "result.json").write_text(record("a", "skin_lesion", files={"seg": "a_seg.dcm"}))
    page = write_report(tmp_path).read_text()
    assert 'href="cases/a/"' in page
    assert ">mask<" not in page
