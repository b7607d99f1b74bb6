"""The MONAI Label app on a DICOMweb archive (Orthanc), asked as the OHIF plugin of MONAI Label 0.8.5 asks it.

Requests, fields and the reading of the answer are those of `MonaiLabelClient` and `SegmentationReader` in the OHIF that
MONAI Label serves; no browser runs. MONAI Label needs an environment of its own, see docs/monailabel.md:

python -m benchmarks.monailabel_ohif --environment /opt/monailabel --out docs/results/monailabel_ohif.json
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import requests
import SimpleITK as sitk

from benchmarks.logs import run_with_environment
from benchmarks.monailabel_app import ROOT, TASK, start, wait_for_server
from monai_tpseg.label_app.answers import answer_task
from monai_tpseg.studies import Model
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from tests.pacs.servers import Orthanc, free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ASKED = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False, "restore_label_idx": False}
SECONDS = 600.0


def main() -> None:
    """Start archive and server, make the calls, say what came back."""
    run_with_environment(__doc__, "MONAI Label", measure)


def measure(folder: Path, environment: Path) -> dict[str, Any]:
    """Return the log of the calls."""
    series = write_dicom_series(make_volume(TASK, 0, (96, 96, 8)), folder / "series")
    shutil.copytree(ROOT / "apps" / "monailabel", folder / "app")
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
    if program is None:
        raise SystemExit("There is no Orthanc: apt-get install orthanc orthanc-dicomweb.")
    archive = Orthanc(program, folder, PLUGIN, free_port()).start()
    port = free_port()
    more = {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(folder / "cache"), "MONAI_LABEL_DICOMWEB_READ_TIMEOUT": "300"}
    try:
        archive.store(series)
        server = start(folder, environment, port, archive.web, **more)
        try:
            wait_for_server(server, port)
            calls = list(made_calls(f"http://127.0.0.1:{port}", folder, series))
        finally:
            server.terminate()
            server.wait(60)
            shutil.copy(folder / "server.log", tempfile.gettempdir())
    finally:
        archive.stop()
    return {"machine": f"2 cores, {platform.machine()}", "monailabel": "0.8.5", "calls": calls}


def made_calls(url: str, folder: Path, series: Path) -> Any:
    """Make the calls of the plugin, one after the other, and yield what each answered."""
    info = requests.get(f"{url}/info/", timeout=SECONDS).json()
    kinds = {name: model["type"] for name, model in info["models"].items()}
    yield "GET /info/", {"models": kinds, "labels": info["labels"]}
    chosen = requests.post(f"{url}/activelearning/random", json={}, timeout=SECONDS).json()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    source = reader.Execute()
    is_series = chosen["id"] == reader.GetGDCMSeriesIDs(str(series))[0]
    yield "POST /activelearning/random", {"id": "the Series Instance UID" if is_series else chosen["id"]}
    mask = infer(url, f"tpseg_{TASK}", chosen["id"], {}, source)
    (folder / "alone").mkdir()
    alone, _ = answer_task(Model(device="cpu"), series, TASK, {}, folder / "alone")
    expected = sitk.Resample(sitk.ReadImage(str(alone)), source, sitk.Transform(), sitk.sitkNearestNeighbor)
    same = int((mask != sitk.GetArrayFromImage(expected)).sum())
    yield f"POST /infer/tpseg_{TASK}", {"voxels": int(mask.sum()), "voxels_other_than_those_of_tpseg_run": same}
    index, row, column = (int(x) for x in np.argwhere(mask)[int(mask.sum()) // 2])
    points = {"background": [], "foreground": [[column, row, index]]}
    clicked = infer(url, "kprism_clicks", chosen["id"], points, source)
    slices = sorted({int(one) for one in np.argwhere(clicked)[:, 0]})
    yield "POST /infer/kprism_clicks", {"voxels": int(clicked.sum()), "slices": slices, "clicked_slice": index}
    yield "POST /infer/ with output=dicom_seg", segmentation(url, chosen["id"], int(mask.sum()))
    running = requests.get(f"{url}/train/", params={"check_if_running": "true"}, timeout=SECONDS)
    yield "GET /train/?check_if_running=true", {"status": running.status_code, "answer": running.json()}


def infer(url: str, model: str, image: str, params: dict[str, Any], source: sitk.Image) -> np.ndarray:
    """Ask for a mask and read it as OHIF does: raw voxels after the header, as many as the series has, in its order."""
    form = {"params": (None, json.dumps({**params, **ASKED}))}
    asked = {"image": image, "output": "image"}
    answer = requests.post(f"{url}/infer/{model}", params=asked, files=form, timeout=SECONDS)
    answer.raise_for_status()
    head, _, body = answer.content.partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    if fields["encoding"] != "raw" or fields["sizes"].split() != [str(size) for size in source.GetSize()]:
        raise ValueError(f"OHIF cannot place this answer: {fields}")
    return np.frombuffer(body, np.uint8).reshape(source.GetSize()[::-1])


def segmentation(url: str, image: str, voxels: int) -> dict[str, Any]:
    """Ask for a DICOM segmentation, which dcmqi makes of the mask; OHIF does not ask for it, others do."""
    form = {"params": (None, json.dumps({"result_extension": ".nrrd", "label_info": [{"name": "lung infection"}]}))}
    asked = {"image": image, "output": "dicom_seg"}
    answer = requests.post(f"{url}/infer/tpseg_{TASK}", params=asked, files=form, timeout=SECONDS)
    answer.raise_for_status()
    read = pydicom.dcmread(BytesIO(answer.content))
    refers = str(read.ReferencedSeriesSequence[0].SeriesInstanceUID) == image
    same = int(np.unpackbits(np.frombuffer(read.PixelData, np.uint8)).sum()) == voxels
    return {"modality": read.Modality, "refers_to_the_series": refers, "as_many_voxels": same}


if __name__ == "__main__":
    main()
