"""The viewer's server over real connections: what the page asks for, and what is refused with one line."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_tpseg.annotate import PromptModel, Session
from monai_tpseg.annotate.web.serve import listen
from monai_tpseg.annotate.web.wire import runs
from monai_tpseg.annotate.web.workspace import SESSIONS, check_sessions
from monai_tpseg.results import StudyError
from monai_tpseg.studies.case import CASES

from .serving import Viewer, decoded, serving

PAGE = Path(__file__).resolve().parents[2] / "monai_tpseg" / "annotate" / "web" / "page"


@pytest.fixture(scope="module")
def folder(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT series, a file that holds nothing, and a volume whose header says nothing."""
    made = tmp_path_factory.mktemp("cases")
    shutil.copytree(sources["series"], made / "a_series")
    (made / "b_broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 40)
    shutil.copy(sources["mr"], made / "c_head.nii.gz")
    return made


@pytest.fixture
def viewer(folder: Path, model: PromptModel, tmp_path: Path) -> Iterator[Viewer]:
    """The series is open."""
    with serving(folder, model, tmp_path / "out") as found:
        found.post("open", task=None)
        yield found


@pytest.fixture(scope="module")
def calm(folder: Path, model: PromptModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """The same for tests that change nothing."""
    with serving(folder, model, tmp_path_factory.mktemp("calm")) as found:
        found.post("open", task=None)
        yield found
        assert found.ask("GET", "/api/state").json["status"]["revision"] == 1


def test_the_page_is_ours_alone(calm: Viewer) -> None:
    html = calm.ask("GET", "/")
    assert html.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in html.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=|//", html.text)
    for file in PAGE.iterdir():
        answer = calm.ask("GET", "/" if file.name == "index.html" else f"/page/{file.name}")
        assert answer.body == file.read_bytes()
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        outside = [url for url in re.findall(r"https?://[\w.]+", answer.text) if url != "http://www.w3.org"]
        assert outside == []


@pytest.mark.parametrize(
    "path",
    [
        *("/page/../server.py", "/page/%2e%2e/server.py", "/page/..%2fserver.py", "/page//etc/passwd", "/page/"),
        *("/docs", "/redoc", "/openapi.json", "/api/", "/api/view/../../etc/passwd", "//etc/passwd", "/index.html"),
    ],
)
def test_no_path_leads_to_a_file(calm: Viewer, path: str) -> None:
    answer = calm.ask("GET", path)
    assert (answer.status, answer.text) == (404, "Not Found.")


def test_the_state_lists_cases_and_what_their_headers_say(calm: Viewer) -> None:
    state = calm.ask("GET", "/api/state").json
    assert [case["name"] for case in state["cases"]] == ["a_series", "b_broken.png", "c_head.nii.gz"]
    assert [case["task"] for case in state["cases"]] == ["lung_infection", None, None]
    assert state["opened"]["shape"] == [32, 40, 6]
    assert state["opened"]["sides"] == {"up": "A", "down": "P", "west": "R", "east": "L"}
    assert state["status"]["states"] == ["empty"] * 6
    assert {preset["name"] for preset in state["status"]["presets"]} >= {"default", "lung", "bone", "all values"}


def test_a_slice_is_what_the_session_shows(calm: Viewer) -> None:
    answer = calm.ask("GET", "/api/view?case=0&index=3&low=-1000&high=400.5")
    assert answer.headers["content-type"] == "image/png"
    picture = np.asarray(Image.open(io.BytesIO(answer.body)).convert("RGB"))
    assert np.array_equal(picture, calm.workspace.session(0).view(3, (-1000, 400.5)))


def test_scrolling_does_not_wait_for_the_network(viewer: Viewer) -> None:
    with viewer.workspace.session(0)._lock:  # another thread is inside, for as long as it takes
        assert viewer.ask("GET", "/api/view?case=0&index=1&low=0&high=1").status == 200


def test_patches_add_up_to_the_masks_of_a_session_without_a_server(
    viewer: Viewer, folder: Path, model: PromptModel
) -> None:
    alone = Session(folder / "a_series", model, "lung_infection")
    shape = alone.shape[:2]
    shown = {n: np.zeros(shape, np.uint8) for n in range(alone.shape[2])}
    steps: list[tuple[str, dict[str, Any], Any]] = [
        ("click", {"index": 2, "row": 10, "column": 12, "positive": True}, lambda: alone.click(10, 12, True, 2)),
        ("click", {"index": 2, "row": 3, "column": 30, "positive": False}, lambda: alone.click(3, 30, False, 2)),
        ("undo", {}, alone.undo),
        ("redo", {}, alone.redo),
        (
            "scribble",
            {"index": 1, "points": [[4, 5], [20, 33]], "positive": True},
            lambda: alone.scribble([(4, 5), (20, 33)], True, 1),
        ),
        ("use-class", {"use": False}, lambda: alone.set_use_class(False)),
        ("exemplar/slice", {"index": 2}, lambda: alone.add_slice_exemplar(2)),
        ("segment", {"index": 4}, lambda: alone.segment(4)),
        ("propagate", {"index": 4, "steps": 1, "direction": 1}, lambda: alone.propagate(4, 1, 1)),
        ("exemplar/remove", {"number": 0}, lambda: alone.remove_exemplar(0)),
        ("accept", {"index": 2}, lambda: alone.accept(2)),
        ("clear", {"index": 1}, lambda: alone.clear(1)),
        ("task", {"task": None}, lambda: alone.set_task(None)),
    ]
    for number, (name, content, work) in enumerate(steps):
        reply = viewer.post(name, **content)
        work()
        for change in reply["changes"]:
            if change["box"]:
                top, left, bottom, right = change["box"]
                size = bottom - top, right - left
                shown[change["index"]][top:bottom, left:right] = decoded(change["runs"], size)
        status = reply["status"]
        assert status["revision"] == number + 2  # opening was the first
        assert (status["states"], status["task"]) == (alone.states(), alone.task), name
        assert status["clicks"].get("2", []) == [list(click) for click in alone.clicks(2)]
        for index, mask in shown.items():
            assert np.array_equal(mask, alone.mask(index)), (name, index)
            assert np.array_equal(decoded(viewer.mask(index), shape), mask)
    assert any(mask.any() for mask in shown.values())


def png(values: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_an_exemplar_can_be_uploaded(viewer: Viewer, sources: dict[str, Path]) -> None:
    pair = {key: base64.b64encode(sources[key].read_bytes()).decode() for key in ("picture", "label")}
    reply = viewer.post("exemplar", image=pair["picture"], label=pair["label"])
    assert reply["status"]["exemplars"] == ["picture"]


CLICK = {"case": 0, "index": 0, "row": 1, "column": 1, "positive": True}


@pytest.mark.parametrize(
    ("path", "content", "status", "words"),
    [
        ("click", {**CLICK, "row": 99}, 422, "row 99, column 1 lies outside the picture of 32 x 40 pixels"),
        ("click", {**CLICK, "row": -0.6}, 422, "lies outside"),
        ("click", {**CLICK, "row": float("nan")}, 422, "wrong at row"),
        ("click", {**CLICK, "row": "1"}, 422, "wrong at row"),
        ("click", {**CLICK, "positive": 1}, 422, "wrong at positive"),
        ("click", {**CLICK, "index": 6}, 422, "no slice 6"),
        ("click", {**CLICK, "index": 1.5}, 422, "wrong at index"),
        ("click", {**CLICK, "path": "/etc/passwd"}, 422, "wrong at path"),
        ("click", {**CLICK, "case": 1}, 409, "Another case is open"),
        ("click", [], 422, "wrong at body"),
        ("click", None, 422, "wrong at body"),
        ("scribble", {"case": 0, "index": 0, "points": [], "positive": True}, 422, "wrong at points"),
        ("scribble", {"case": 0, "index": 0, "points": [[1, 1]] * 1001, "positive": True}, 422, "wrong at points"),
        ("scribble", {"case": 0, "index": 0, "points": [[1, 1, 1]], "positive": True}, 422, "wrong at points.0"),
        ("scribble", {"case": 0, "index": 0, "points": [[1, 99]], "positive": True}, 422, "lies outside"),
        ("undo", {"case": 0}, 422, "nothing to undo"),
        ("accept", {"case": 0, "index": -1}, 422, "no slice -1"),
        ("propagate", {"case": 0, "index": 0, "steps": 1, "direction": 1}, 422, "has no mask yet"),
        ("propagate", {"case": 0, "index": 0, "steps": 0, "direction": 1}, 422, "wrong at steps"),
        ("propagate", {"case": 0, "index": 0, "steps": 1, "direction": 1, "by": "magic"}, 422, "wrong at by"),
        ("task", {"case": 0, "task": "lung"}, 422, "do not know the task 'lung'"),
        ("exemplar", {"case": 0, "image": "/etc/passwd", "label": ""}, 422, "The picture arrived damaged"),
        ("exemplar", {"case": 0, "image": "Zm9v", "label": ""}, 422, "The picture is not a PNG"),
        ("exemplar", {"case": 0, "image": "iVBORw0KGgoAAAA=", "label": "iVBORw0KGgoAAAA="}, 422, "picture.png"),
        ("exemplar", {"case": 0, "image": png(np.ones((8, 8))), "label": png(np.zeros((9, 9)))}, 422, "mask.png"),
        ("exemplar/remove", {"case": 0, "number": 0}, 422, "no exemplar 0"),
        ("open", {"case": 3}, 422, "no case 4"),
        ("open", {"case": -1}, 422, "no case 0"),
        ("open", {"case": 1}, 422, "b_broken.png"),
        ("open", {"case": 2}, 422, "give a task"),
        ("nothing", {}, 404, "Not Found"),
    ],
)
def test_requests_that_cannot_be_end_in_one_line(
    calm: Viewer, path: str, content: Any, status: int, words: str
) -> None:
    answer = calm.ask("POST", f"/api/{path}", content)
    assert (answer.status, "\n" in answer.text) == (status, False), answer.text
    assert words in answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert calm.ask("GET", "/api/state").json["status"]["revision"] == 1  # nothing has changed


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b'{"case": 0,}', b"[" * 50_000])
def test_bodies_that_are_no_json_end_in_one_line(calm: Viewer, body: bytes) -> None:
    answer = calm.ask("POST", "/api/undo", body=body)
    assert (answer.status, "\n" in answer.text) in ((422, False), (400, False)), answer.text


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/view?case=0&index=9&low=0&high=1", "no slice 9"),
        ("/api/view?case=0&index=0&low=1&high=1", "lower one first"),
        ("/api/view?case=0&index=0&low=nan&high=1", "finite"),
        ("/api/view?case=0&index=0&low=0", "wrong at high"),
        ("/api/view?case=0&index=../../etc/passwd&low=0&high=1", "wrong at index"),
        ("/api/mask?case=0&index=6", "no slice 6"),
    ],
)
def test_slices_that_are_not_there(calm: Viewer, path: str, words: str) -> None:
    answer = calm.ask("GET", path)
    assert answer.status == 422
    assert words in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"cookie": "tpseg=wrong"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_length": str(2**40)}, 413),  # nothing of the terabyte is sent: it is refused before it is read
    ],
)
def test_strangers_reach_nothing(calm: Viewer, headers: dict[str, str], status: int) -> None:
    answer = calm.ask("POST", "/api/click", CLICK, **headers)
    assert answer.status == status
    assert "\n" not in answer.text
    assert calm.ask("GET", "/api/state").json["status"]["can_undo"] is False


def test_slow_and_cut_requests_stop_nobody_else(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({**CLICK, "row": 10, "column": 12}).encode()
    address = "127.0.0.1", viewer.access.port
    with socket.create_connection(address) as slow, socket.create_connection(address) as hasty:
        slow.sendall(request_head(viewer, len(body)) + body[:20])  # and the rest is on its way, for ever
        assert viewer.ask("GET", "/api/view?case=0&index=1&low=0&high=1").status == 200
        begun, clicked = Event(), Session.click

        def slowly(self: Session, *given: Any) -> Any:
            begun.set()
            time.sleep(0.05)
            return clicked(self, *given)

        monkeypatch.setattr(Session, "click", slowly)
        hasty.sendall(request_head(viewer, len(body)) + body)
        assert begun.wait(30)  # it is followed, and nobody waits for the answer
    after = viewer.post("undo")["status"]  # after the hasty click, which has the lock
    assert (after["revision"], after["can_undo"], after["can_redo"]) == (3, False, True)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def request_head(viewer: Viewer, length: int) -> bytes:
    """The first lines of a click as the page sends it."""
    port = viewer.access.port
    lines = [
        "POST /api/click HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Origin: http://127.0.0.1:{port}",
        f"Cookie: tpseg_{port}={viewer.access.token}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_a_huge_exemplar_is_refused_before_it_is_read(calm: Viewer) -> None:
    answer = calm.ask("POST", "/api/exemplar", {}, content_length=str(33 * 2**20))
    assert (answer.status, answer.text) == (413, "The request is too large: at most 32 MiB here.")


@pytest.mark.parametrize("kind", [KeyError, ValueError])  # the latter is no refusal unless it is one of ours
def test_what_fails_inside_is_told_without_names_in_the_log(
    kind: type[Exception], calm: Viewer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any) -> None:
        raise kind("PATIENT^NAME")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(Session, "click", broken)
    answer = calm.ask("POST", "/api/click", CLICK)
    assert (answer.status, answer.text) == (500, f"That failed ({kind.__name__}); what was done before is kept.")
    assert [record.getMessage() for record in caplog.records if "fail" in record.getMessage()] == [
        f"A request failed: {kind.__name__}."
    ]
    calm.ask("POST", "/api/open", {"case": 1})
    said = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("monai_tpseg"))
    assert "b_broken" not in said + caplog.text


def test_sessions_are_kept_and_gone_on_with(folder: Path, model: PromptModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(folder, model, out) as viewer:
        viewer.post("open", task=None)
        viewer.post("click", index=2, row=10, column=12, positive=True)
        state = viewer.ask("POST", "/api/open", {"case": 2, "task": "brain_tumor"}).json
        assert state["opened"]["name"] == "c_head.nii.gz"
        assert [case["kept"] for case in state["cases"]] == ["begun", "", "begun"]
        names = [name for name, _ in viewer.workspace.cases]
    assert {path.name for path in (out / SESSIONS).iterdir()} == {names[0], names[2]}
    with pytest.raises(StudyError, match="add --resume"):
        check_sessions(out, names, resume=False)
    with pytest.raises(StudyError, match="another input"):
        check_sessions(out, names[:1], resume=True)
    check_sessions(out, names, resume=True)
    check_sessions(tmp_path / "new", names, resume=False)


def test_none_is_a_task_to_choose(folder: Path, model: PromptModel, tmp_path: Path) -> None:
    with serving(folder / "a_series", model, tmp_path / "out") as viewer:
        assert viewer.post("open", task="")["status"]["task"] is None


def test_a_picture_is_not_called_what_nobody_said(sources: dict[str, Path], model: PromptModel, tmp_path: Path) -> None:
    with serving(sources["picture"], model, tmp_path / "out") as viewer:
        assert viewer.post("open", task="")["status"]["modality"] == ""
        assert viewer.post("task", task="skin_lesion")["status"]["modality"] == "dermoscopy"
    with serving(sources["series"], model, tmp_path / "dicom") as viewer:
        assert viewer.post("open", task="")["status"]["modality"] == "CT"


def test_a_session_opens_as_it_was_left(folder: Path, model: PromptModel, tmp_path: Path) -> None:
    with serving(folder / "a_series", model, tmp_path / "out") as viewer:
        viewer.post("open", task=None)
        viewer.post("click", index=2, row=10, column=12, positive=True)
        before = viewer.mask(2)
        cases = viewer.workspace.cases
        viewer.workspace.close()
        assert viewer.ask("GET", "/api/mask?case=0&index=2").status == 409
        state = viewer.post("open", task=None)
        assert state["status"]["states"][2] == "edited"
        assert viewer.mask(2) == before != [32 * 40]
        assert viewer.post("undo")["status"]["states"][2] == "empty"
    assert len(cases) == 1


def test_saving_writes_what_a_study_gets(viewer: Viewer) -> None:
    refused = viewer.ask("POST", "/api/save", {"case": 0})
    assert (refused.status, "Nothing is marked" in refused.text) == (422, True)
    assert [*(viewer.workspace.out / CASES).iterdir()] == []
    viewer.post("click", index=2, row=10, column=12, positive=True)
    saved = viewer.post("save")
    name = viewer.workspace.cases[0][0]
    assert saved["folder"] == f"cases/{name}_lung_infection"
    assert {"mask", "overlay", "lesions", "result"} <= {*saved["kinds"]}
    assert (viewer.workspace.out / saved["folder"] / "result.json").is_file()
    assert Path(saved["path"]) == viewer.workspace.out / saved["folder"]
    assert viewer.ask("GET", "/api/state").json["cases"][0]["kept"] == "saved"
    viewer.post("clear", index=2)
    assert viewer.post("save", empty=True)["kinds"] == ["mask", "lesions", "sr", "overlay", "result"]
    viewer.post("undo")
    viewer.post("task", task=None)
    refused = viewer.ask("POST", "/api/save", {"case": 0})
    assert (refused.status, "needs a task" in refused.text) == (422, True)


def test_it_listens_on_this_machine_only() -> None:
    with listen(0) as made:
        host, port = made.getsockname()
        assert (host, port > 0) == ("127.0.0.1", True)
        for taken in (port, 2**16):
            with pytest.raises(StudyError, match=rf"Port {taken} of 127\.0\.0\.1 cannot be used"):
                listen(taken)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([[0, 0], [0, 0]], [4]),
        ([[1, 1], [0, 1]], [0, 2, 1, 1]),
        ([[0, 1], [1, 0]], [1, 2, 1]),
        (np.zeros((0, 0)), []),
    ],
)
def test_runs(mask: Any, expected: list[int]) -> None:
    values = np.asarray(mask, np.uint8)
    assert runs(values) == expected
    assert np.array_equal(decoded(expected, values.shape), values)
