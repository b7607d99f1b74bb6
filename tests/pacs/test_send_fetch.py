"""Results go to a real archive and images come from it, over DICOM and DICOMweb."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pydicom
import pytest
from pynetdicom import _config

from monai_tpseg.cli.main import main
from monai_tpseg.pacs.node import Node
from monai_tpseg.pacs.query_retrieve import SeriesQuery, fetch
from monai_tpseg.pacs.queue import Queue, Received, Result
from monai_tpseg.pacs.receiver import Address, Receiver
from monai_tpseg.pacs.remote_nodes import DicomPeer, PeerError, peer_from
from monai_tpseg.pacs.rules import Rule
from monai_tpseg.pacs.segmenting import Segmenting
from monai_tpseg.pacs.store import Store
from monai_tpseg.studies import Limits, Model, Run, Settings, find_entries, prepare_output
from tests.full_disc import largest_file
from tests.pacs.servers import Orthanc, free_port, write_study


@pytest.fixture(scope="module")
def model(weights: Path) -> Model:
    return Model(weights, "cpu", Settings(0.4))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model: Model) -> tuple[Path, Path, str]:
    """Study, the results of a run on it, and its UID."""
    folder = tmp_path_factory.mktemp("run")
    uid = write_study(folder / "study", 11)
    out = folder / "out"
    Run(model, out, quiet=True)(prepare_output(out, find_entries(folder / "study", "lung_infection"), "salted", False))
    return folder / "study", out, uid


@pytest.mark.parametrize(("way", "on_disk"), [("peer", False), ("peer", True), ("web", False)])
def test_results_are_sent_and_images_come_back(
    orthanc: Orthanc,
    run: tuple[Path, Path, str],
    tmp_path: Path,
    way: str,
    on_disk: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_config, "STORE_RECV_CHUNKED_DATASET", on_disk)  # as a node in this process sets it
    study, out, uid = run
    orthanc.store(study)
    peer = str(getattr(orthanc, way))
    assert main(["send", str(out), "--to", peer, "--quiet"]) == 0
    assert {kind: len(found) for kind, found in orthanc.results(uid).items()} == {"SEG": 1, "SR": 1}
    command = ["fetch", "--from", peer, "--study", uid, "--out", str(tmp_path / "in"), "--quiet"]
    assert main(command) == 0
    fetched = sorted((tmp_path / "in").rglob("*.dcm"))
    of_study = {str(d.SOPInstanceUID): d.PixelData for d in map(pydicom.dcmread, study.iterdir())}
    assert {str(d.SOPInstanceUID): d.PixelData for d in map(pydicom.dcmread, fetched)} == of_study
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in fetched} == {0o600}
    got = fetch(peer_from(peer, "TPSEG"), SeriesQuery(study=uid, modality="CT"), tmp_path / "in")
    assert (got.studies, got.series, got.fetched, got.there, got.failed) == (1, 1, 0, len(of_study), 0)
    assert fetch(peer_from(peer, "TPSEG"), SeriesQuery(study=uid, modality="MR"), tmp_path / "in").fetched == 0


@pytest.mark.parametrize("way", ["peer", "web"])
def test_a_full_disc_ends_fetching_with_its_reason(
    orthanc: Orthanc,
    run: tuple[Path, Path, str],
    tmp_path: Path,
    way: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_config, "STORE_RECV_CHUNKED_DATASET", False)  # no node in the process of the command
    study, _, uid = run
    orthanc.store(study)
    command = ["fetch", "--from", str(getattr(orthanc, way)), "--study", uid, "--out", str(tmp_path / "in")]
    with largest_file(1000):
        assert main(command) == 1
    assert "File too large; free some space, then repeat the command." in capsys.readouterr().err.splitlines()[-1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert main([*command, "--quiet"]) == 0


def test_what_arrived_before_a_kill_is_not_sent_again(
    orthanc: Orthanc, run: tuple[Path, Path, str], tmp_path: Path, model: Model
) -> None:
    """The node was killed between the archive's answer and its own record."""
    _, out, uid = run
    sent: list[Path] = []

    class Counting(DicomPeer):
        def send(self, files):  # type: ignore[no-untyped-def]
            sent.extend(files)
            yield from super().send(files)

    destination = Counting("ORTHANC", "127.0.0.1", orthanc.dicom)
    files = sorted(out.rglob("*_s[er]*.dcm"))
    assert [why for _, why in peer_from(orthanc.peer, "TPSEG").send(files[:1])] == [""]  # the second never arrived
    queue = Queue(tmp_path / "queue.sqlite", 0.0)
    store = Store(tmp_path, queue, 10**9)
    other = tmp_path / "results" / "other.dcm"
    dataset = pydicom.dcmread(files[1])
    dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:-4]}1234"
    dataset.save_as(other)
    listed = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in (files[0], other)}
    queue.add(Received("s", "s1", "s0", "0" * 64, 1, "A"))
    queue.begin("s")
    queue.segmented("s", [Result(found, os.path.relpath(path, tmp_path)) for found, path in listed.items()], 1)
    for found in listed:
        queue.sending(found)
    receiver = Receiver(Address("TPSEG", "127.0.0.1", free_port(), ("A",)), queue, store)
    segmenting = Segmenting(model, [Rule({"modality": ("CT",)}, ("lung_infection",))], queue, store, Limits())
    node = Node(receiver, segmenting, destination, queue, store, 3600, None)
    node.process_next()
    segmenting.close()
    assert sent == [tmp_path / os.path.relpath(other, tmp_path)]
    assert queue.states()["done"] == 1
    assert len(orthanc.results(uid)["SEG"]) == 1


def test_nobody_there_and_nothing_to_send(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PeerError, match="does not answer"):
        DicomPeer("NOBODY", "127.0.0.1", free_port()).echo()
    assert main(["send", str(tmp_path), "--to", "A@127.0.0.1:1"]) == 1
    assert "contains no results of tpseg run" in capsys.readouterr().err
    assert main(["fetch", "--from", "A@127.0.0.1:1", "--out", str(tmp_path / "x")]) == 2
    assert "No study was selected" in capsys.readouterr().err
    assert main(["send", str(tmp_path), "--to", "nonsense"]) == 2
    assert "AET@HOST:PORT" in capsys.readouterr().err
