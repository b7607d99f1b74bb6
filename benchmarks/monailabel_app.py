"""The MONAI Label app under its real server, asked by the client of MONAI Label's own 3D Slicer plugin.

MONAI Label needs an environment of its own, see docs/monailabel.md:

python -m benchmarks.monailabel_app --environment /opt/monailabel --out docs/results/monailabel.json
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from benchmarks.logs import run_with_environment
from monai_tpseg.testing.phantoms import make_volume, write_nifti
from tests.pacs.servers import free_port

ROOT = Path(__file__).resolve().parents[1]
TASK = "lung_infection"
CLIENT = "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py"


def main() -> None:
    """Start the server, make the calls, say what came back."""
    run_with_environment(__doc__, "MONAI Label", measure)


def measure(folder: Path, environment: Path) -> dict[str, Any]:
    """Return the log of the calls."""
    studies = folder / "studies"
    volumes = {f"chest{n}": make_volume(TASK, n, (96, 96, 8)) for n in range(4)}
    for name, volume in volumes.items():
        write_nifti(volume, folder / f"{name}.nii.gz")
        studies.mkdir(exist_ok=True)
        shutil.move(folder / f"{name}.nii.gz", studies)
    shutil.copytree(ROOT / "apps" / "monailabel", folder / "app")
    port = free_port()
    server = start(folder, environment, port, studies)
    try:
        wait_for_server(server, port)
        calls = list(made_calls(folder, environment, port, sorted(volumes)))
    finally:
        server.terminate()
        server.wait(60)
        shutil.copy(folder / "server.log", tempfile.gettempdir())
    return {"machine": f"2 cores, {platform.machine()}", "monailabel": "0.8.5", "calls": calls}


def start(folder: Path, environment: Path, port: int, studies: str | Path, **more: str) -> subprocess.Popen[bytes]:
    """Start the server, as docs/monailabel.md says, on a folder or the address of an archive."""
    path = os.pathsep.join((str(ROOT / "apps" / "monailabel" / "compat"), str(ROOT)))
    programs = os.pathsep.join((str(environment / "bin"), os.environ["PATH"]))  # dcmqi, which it downloads otherwise
    command = [environment / "bin" / "python", "-m", "monailabel.main", "start_server", "--app", folder / "app"]
    command += ["--studies", studies, "--host", "127.0.0.1", "--port", port, "--conf", "task", TASK]
    settings = {**os.environ, "PYTHONPATH": path, "PATH": programs, **more}
    with (folder / "server.log").open("wb") as log:
        words = [str(word) for word in command]
        return subprocess.Popen(words, stdout=log, stderr=log, env=settings, cwd=folder)


def made_calls(folder: Path, environment: Path, port: int, images: list[str]) -> Any:
    """Make the calls of the plugin, one after the other, and yield what each answered."""
    spec = importlib.util.spec_from_file_location("client", environment / CLIENT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    client = module.MONAILabelClient(f"http://127.0.0.1:{port}", str(folder))
    info = client.info()
    yield "GET /info/", {"models": sorted(info["models"]), "trainers": list(info["trainers"]),
                         "strategies": list(info["strategies"])}  # fmt: skip
    chosen = client.next_sample("expected_dice", {})
    yield "POST /activelearning/expected_dice", {"id": chosen["id"], "expected_dice": chosen["weight"]}
    yield "POST /infer/tpseg_lung_infection", inferred(client, folder, f"tpseg_{TASK}", chosen["id"], {})
    label = folder / f"{images[0]}_label.nii.gz"
    inside = np.argwhere(np.asarray(nibabel.load(label).dataobj) > 0)
    point = [int(x) for x in inside[len(inside) // 2]]
    yield "POST /infer/kprism_clicks", inferred(client, folder, "kprism_clicks", images[0],
                                                {"foreground": [point], "background": []})  # fmt: skip
    session = client.create_session(str(folder / "studies" / f"{images[1]}.nii.gz"))["session_id"]
    path, _ = client.infer(f"tpseg_{TASK}", "", {"result_extension": ".nrrd", "result_dtype": "uint8"},
                           session_id=session)  # fmt: skip
    yield "PUT /session/, POST /infer/tpseg_lung_infection", {"suffix": "".join(Path(path).suffixes)}
    for image in images:
        client.save_label(image, str(folder / f"{image}_label.nii.gz"), "final",
                          {"label_info": [{"name": "lung infection", "idx": 1}]})  # fmt: skip
    store = client.datastore()["objects"]
    yield "PUT /datastore/label", {"labels": sum("final" in store[image]["labels"] for image in images)}
    client.train_start("tpseg", {"task": TASK, "epochs": 1, "batch_size": 4})
    wait_for(lambda: not client.train_status(check_if_running=True), 1800)
    yield "POST /train/tpseg", client.info()["train_stats"]["tpseg"]
    yield "POST /infer/tpseg_lung_infection, new weights", inferred(client, folder, f"tpseg_{TASK}", images[1], {})


def inferred(client: Any, folder: Path, model: str, image: str, params: dict[str, Any]) -> dict[str, Any]:
    """Ask for a mask; say whether it lies on its image, and what was said about it."""
    path, said = client.infer(model, image, params)
    mask, source = nibabel.load(path), nibabel.load(folder / "studies" / f"{image}.nii.gz")
    same = mask.shape == source.shape and np.allclose(mask.affine, source.affine)
    kept = {key: value for key, value in said.items() if key in ("task", "label_names", "expected_dice", "slices")}
    return {"on_the_grid_of_its_image": bool(same), "voxels": int((np.asarray(mask.dataobj) > 0).sum()), **kept}


def answers(port: int) -> bool:
    """Say whether the server is there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/info/", timeout=60):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait_for_server(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers; one that has ended never will."""
    wait_for(lambda: server.poll() is not None or answers(port), 600)
    if server.poll() is not None:
        raise SystemExit(f"The server ended with {server.returncode}; see server.log in {tempfile.gettempdir()}.")


def wait_for(what: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError(f"did not happen within {seconds:g} s")
        time.sleep(1)


if __name__ == "__main__":
    main()
