"""`tpseg annotate` as people call it: one line for what cannot be, an address, Ctrl-C, and on with --resume."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from monai_tpseg.annotate import PromptModel
from monai_tpseg.annotate.web.security import AccessMiddleware
from monai_tpseg.annotate.web.serve import listen
from monai_tpseg.cli import main
from tests.studies.conftest import write_weights as write_other

from .serving import Viewer, serving

NAME = "DOE_JANE"


@pytest.fixture(scope="module")
def picture(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture whose name is that of a person."""
    path = tmp_path_factory.mktemp("named") / f"{NAME}.png"
    path.write_bytes(sources["picture"].read_bytes())
    return path


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["none.png"], 1, "'none.png' does not exist"),
        (["--port", "70000"], 2, "--port must be 0 to 65535, got 70000"),
        (["--task", "colon_polyps"], 2, "do not know colon_polyps; did you mean colon_polyp?"),
        (["--task", "lung"], 2, "The weights do not know lung; choose one of wet_amd,"),
        (["--checkpoint", "none.pt"], 1, "none.pt"),
        (["--checkpoint", "other.pt"], 1, "give K-Prism weights"),
        (["--device", "cuda:99"], 1, "--device cpu"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: list[str],
    status: int,
    words: str,
    picture: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_other(tmp_path / "other.pt")
    source = [] if options[0].endswith(".png") else [str(picture)]
    given = [] if "--checkpoint" in options else ["--checkpoint", str(weights)]
    assert main(["annotate", *source, *given, *options]) == status
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "annotations").exists()  # nothing was written


def test_without_its_libraries_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("monai_tpseg.cli.annotate.importlib.util.find_spec", lambda name: None)
    assert main(["annotate", "a.png", "--checkpoint", "w.pt"]) == 2
    assert "needs fastapi and uvicorn: pip install -e '.[annotate]' in the checkout" in capsys.readouterr().err


def test_it_goes_on_with_resume_and_stops_with_ctrl_c(
    picture: Path, model: PromptModel, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with serving(picture, model, out, "skin_lesion") as before:
        before.post("open", task=None)
        before.post("click", index=0, row=12, column=20, positive=True)
        mask = before.mask()
    options = ["annotate", str(picture), "--checkpoint", str(weights), "--out", str(out), "--no-browser"]
    assert main(options) == 1
    assert "holds sessions; add --resume" in capsys.readouterr().err
    command = [sys.executable, "-m", "monai_tpseg", *options, "--resume", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]+)", said)
        assert found is not None, said + process.stderr.read()
        access = AccessMiddleware(None, int(found[1]))
        access.token = found[2]
        viewer = Viewer(before.workspace, access)
        answer = viewer.ask("GET", f"/?token={access.token}", cookie="")
        assert (answer.status, answer.headers["set-cookie"].partition("=")[0]) == (303, f"tpseg_{access.port}")
        state = viewer.post("open", task=None)
        assert state["status"]["clicks"] == {"0": [[12, 20, 1]]}
        assert viewer.mask() == mask
        process.send_signal(signal.SIGINT)
        said += process.stderr.read()
    assert (process.returncode, "--resume to continue" in said, NAME in said) == (0, True, False)
    with socket.socket() as free, pytest.raises(ConnectionRefusedError):
        free.connect(("127.0.0.1", access.port))
    listen(access.port).close()  # --port with the number of before
