"""A real Orthanc and a node of ours, each a process on loopback; and what is sent between them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
MARKER = "ZZMARKER"
"""In every text of a study that names somebody."""

RULES = """\
rules:
  - modality: CT
    series_description: "*scout*"
    ignore: true
  - modality: CT
    body_part: [CHEST, THORAX]
    task: lung_infection
"""
_LUA = """\
function OnStableStudy(studyId, tags, metadata)
  if PUSH then
    RestApiPost('/modalities/tpseg/store', DumpJson({Resources = {studyId}, Asynchronous = true}))
  end
end
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Orthanc:
    """Orthanc with DICOMweb; it pushes each study that is stable to the node where it was told to."""

    def __init__(self, program: str, folder: Path, plugin: Path, node_port: int, push: bool = False) -> None:
        self.program, self.folder = program, folder
        self.dicom, self.http, self.node_port = free_port(), free_port(), node_port
        (folder / "push.lua").write_text(_LUA.replace("PUSH", "true" if push else "false"))
        config = {
            "Name": "test", "DicomAet": "ORTHANC", "DicomPort": self.dicom, "HttpPort": self.http, "StableAge": 1,
            "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(plugin)], "LuaScripts": [str(folder / "push.lua")], "AuthenticationEnabled": False,
            "RemoteAccessAllowed": False, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True,
            "DicomModalities": {"tpseg": {"AET": "TPSEG", "Host": "127.0.0.1", "Port": node_port}},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "ExecuteLuaEnabled": False, "JobsHistorySize": 10,
            "DicomThreadsCount": 2, "HttpThreadsCount": 4, "MediaArchiveSize": 1,
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(config))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Orthanc:
        log = (self.folder / "orthanc.log").open("ab")
        self.process = subprocess.Popen([self.program, str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        wait_for(self._answers)
        return self

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except (urllib.error.URLError, ConnectionError):
            return False

    @property
    def peer(self) -> str:
        return f"ORTHANC@127.0.0.1:{self.dicom}"

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=20) as answer:
            content = answer.read()
            return json.loads(content) if answer.headers.get_content_type() == "application/json" else content

    def post(self, path: str, content: bytes) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", content)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def store(self, study: Path) -> None:
        for path in sorted(study.rglob("*.dcm")):
            self.post("/instances", path.read_bytes())

    def push(self, study_uid: str) -> None:
        """Send a study to the node."""
        self.post("/modalities/tpseg/store", json.dumps({"Resources": [self.find(study_uid)]}).encode())

    def find(self, study_uid: str) -> str:
        asked = {"Level": "Study", "Query": {"StudyInstanceUID": study_uid}}
        (found,) = self.post("/tools/find", json.dumps(asked).encode())
        return str(found)

    def series(self, study_uid: str) -> dict[str, list[str]]:
        """Modality -> instances of Orthanc, of a study."""
        found: dict[str, list[str]] = {}
        for series in self.get(f"/studies/{self.find(study_uid)}/series"):
            found.setdefault(series["MainDicomTags"]["Modality"], []).extend(series["Instances"])
        return found

    def results(self, study_uid: str) -> dict[str, list[str]]:
        return {kind: found for kind, found in self.series(study_uid).items() if kind in ("SEG", "SR")}

    def dataset(self, instance: str) -> Any:
        from io import BytesIO

        return pydicom.dcmread(BytesIO(self.get(f"/instances/{instance}/file")))


class NodeProcess:
    """`tpseg listen` as a process of its own."""

    def __init__(self, folder: Path, weights: Path, port: int, send_to: str, *more: str) -> None:
        self.folder, self.port, self.monitor = folder, port, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rules.yaml").write_text(RULES)
        self.command = [
            sys.executable, "-m", "monai_tpseg", "listen", "--out", str(folder / "work"),
            "--rules", str(folder / "rules.yaml"), "--checkpoint", str(weights), "--port", str(port),
            "--allow", "ORTHANC,STORESCU", "--send-to", send_to, "--quiet-period", "1", "--device", "cpu",
            "--monitor-port", str(self.monitor), *more,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "node.log"

    def start(self) -> NodeProcess:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment)
        wait_for(self.health, 300)  # a busy machine takes its time to import PyTorch
        return self

    def health(self) -> dict[str, Any] | None:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            found: dict[str, Any] = json.loads(self.page("/health"))
        except (urllib.error.URLError, ConnectionError):
            return None
        return found

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def counter(self, name: str) -> int:
        found = self.health()
        return int((found or {"counters": {}})["counters"].get(name, 0))

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)


def write_study(folder: Path, seed: int, slices: int = 6) -> str:
    """Write a chest CT whose header names somebody; return its Study Instance UID."""
    series = write_dicom_series(make_volume("lung_infection", seed, (32, 32, slices)), folder)
    study, of_series, place = (generate_uid(entropy_srcs=[str(seed), what]) for what in ("study", "series", "place"))
    for path in series.iterdir():
        header = pydicom.dcmread(path)
        for keyword in ("PatientName", "PatientID", "InstitutionName", "StudyDescription", "AccessionNumber"):
            setattr(header, keyword, f"{MARKER}{seed}" + "^A" * (keyword == "PatientName"))
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = study, of_series, place
        header.SOPInstanceUID = generate_uid(entropy_srcs=[str(seed), path.name])
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.BodyPartExamined, header.SeriesDescription = "CHEST", f"{MARKER} thorax"
        header.save_as(path)
    return str(study)
