"""A node beside a real Orthanc: what is pushed comes back as SEG and SR, once, whatever is killed and when."""

from __future__ import annotations

import socket
import sqlite3
import stat
import subprocess
from pathlib import Path
from typing import Any

import highdicom
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from tests.data.test_phantoms_valid import findings
from tests.pacs.servers import MARKER, NodeProcess, Orthanc, write_study
from tests.waiting import wait_for


def both_back(orthanc: Orthanc, uid: str) -> bool:
    return {kind: len(found) for kind, found in orthanc.results(uid).items()} == {"SEG": 1, "SR": 1}


def settled(node: NodeProcess) -> bool:
    found = node.health()
    return found is not None and not sum(found["states"][s] for s in ("receiving", "segmenting", "sending"))


def sender(port: int, caller: str = "STORESCU", called: str = "TPSEG") -> Any:
    ae = AE(caller)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    return ae.associate("127.0.0.1", port, ae_title=called)


def test_a_pushed_study_comes_back_with_its_results(
    orthanc: Orthanc, node: NodeProcess, tmp_path: Path, dciodvfy: str
) -> None:
    uid = write_study(tmp_path / "study", 1)
    orthanc.store(tmp_path / "study")  # Orthanc's script pushes it
    wait_for(lambda: uid and orthanc.get("/studies") and both_back(orthanc, uid))
    found = orthanc.results(uid)
    seg, sr = (orthanc.dataset(found[kind][0]) for kind in ("SEG", "SR"))
    sources = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / "study").iterdir()}
    named = {str(one.ReferencedSOPInstanceUID) for one in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named == sources
    for name, dataset in (("seg", seg), ("sr", sr)):
        dataset.save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
        assert findings(dciodvfy, tmp_path / f"{name}.dcm") == []
        assert dataset.StudyInstanceUID == uid
    groups = highdicom.sr.srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()
    assert len(groups) == len(seg.SegmentSequence)
    assert orthanc.get(f"/instances/{found['SEG'][0]}/preview").startswith(b"\x89PNG")
    wait_for(lambda: settled(node) and node.counter("objects_ignored") >= 2)  # it was pushed again, with its results
    assert node.counter("results_sent") == 2


def test_only_known_titles_come_in(node: NodeProcess) -> None:
    assert sender(node.port, caller="STRANGER").is_rejected
    assert sender(node.port, called="OTHER").is_rejected
    known = sender(node.port)
    assert known.is_established
    known.release()
    wait_for(lambda: node.counter("associations_refused") == 2)


def test_a_truncated_association_costs_its_sender_alone(
    orthanc: Orthanc, node: NodeProcess, tmp_path: Path, storescu: str
) -> None:
    uid = write_study(tmp_path / "study", 2)
    files = sorted((tmp_path / "study").iterdir())
    cut = sender(node.port)
    for path in files[:2]:
        assert cut.send_c_store(path).Status == 0
    cut.dul.socket.socket.shutdown(socket.SHUT_RDWR)  # the cable is drawn
    wait_for(lambda: "aborted" in node.log.read_text())
    ended = node.counter("studies_ended")
    command = [storescu, "-aet", "STORESCU", "-aec", "TPSEG", "127.0.0.1", str(node.port), *map(str, files)]
    subprocess.run(command, check=True, capture_output=True)
    orthanc.store(tmp_path / "study")
    wait_for(lambda: both_back(orthanc, uid))
    wait_for(lambda: settled(node))
    assert node.counter("studies_ended") == ended + 1  # two slices of six were never taken for the study


def test_a_kill_while_receiving_loses_no_object(orthanc: Orthanc, node: NodeProcess, tmp_path: Path) -> None:
    uid = write_study(tmp_path / "study", 3)
    files = sorted((tmp_path / "study").iterdir())
    before, association = node.counter("objects_received"), sender(node.port)
    for path in files[:3]:
        assert association.send_c_store(path).Status == 0
    node.kill()
    node.start()
    assert node.counter("objects_received") == before + 3
    again = sender(node.port)
    for path in files[3:]:  # what was acknowledged is not sent again
        assert again.send_c_store(path).Status == 0
    again.release()
    orthanc.store(tmp_path / "study")
    wait_for(lambda: both_back(orthanc, uid))
    (seg,) = orthanc.results(uid)["SEG"]
    assert len(orthanc.dataset(seg).ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(files)


def test_a_kill_while_segmenting_or_sending_and_an_archive_that_is_down(
    orthanc: Orthanc, node: NodeProcess, tmp_path: Path
) -> None:
    wait_for(lambda: settled(node))
    sent = node.counter("results_sent")
    uid = write_study(tmp_path / "study", 4)
    orthanc.store(tmp_path / "study")
    wait_for(lambda: (node.health() or {})["states"]["segmenting"])
    node.kill()
    orthanc.stop()
    node.start()
    wait_for(lambda: node.counter("sends_failed") > 0)
    assert "does not answer" in node.log.read_text()
    node.kill()
    orthanc.start()
    node.start()
    wait_for(lambda: both_back(orthanc, uid))
    wait_for(lambda: settled(node))
    assert node.counter("results_sent") == sent + 2


def test_nothing_tells_of_patients(node: NodeProcess) -> None:
    work = node.folder / "work"
    told = [node.log.read_text(), node.page("/metrics"), node.page("/health"), *(str(p) for p in work.rglob("*"))]
    with sqlite3.connect(f"file:{work / 'queue.sqlite'}?mode=ro", uri=True) as base:
        told.append("\n".join(base.iterdump()))
    assert [text for text in told if MARKER in text or "1.2.826" in text] == []
    assert len(told) > 20
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in work.glob("queue.sqlite*")}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
