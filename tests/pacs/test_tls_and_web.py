"""A node that takes only TLS connections and answers over DICOMweb; label maps on their way to an archive."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pynetdicom import _config

from monai_tpseg.cli.main import main
from monai_tpseg.io.dicom.segmentation import LABELMAP_STORAGE
from monai_tpseg.pacs.queue import Queue
from monai_tpseg.pacs.receiver import Address, Receiver
from monai_tpseg.pacs.remote_nodes import DicomPeer, PeerError, Tls
from monai_tpseg.pacs.store import Store
from monai_tpseg.studies import Model, Run, Settings, find_entries, prepare_output
from tests.pacs.servers import NodeProcess, Orthanc, free_port, write_study
from tests.pacs.test_node import both_back, settled
from tests.waiting import wait_for


class Certificate(NamedTuple):
    """A self-signed certificate and its key, PEM."""

    certificate: Path
    key: Path


def self_signed(folder: Path, name: str) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    openssl = shutil.which("openssl") or pytest.fail("no openssl on this machine (Debian: apt-get install openssl)")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(made.certificate), "-keyout", str(made.key)]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    """Of the node, of a sender that it knows, and of one that it does not."""
    folder = tmp_path_factory.mktemp("certificates")
    return {name: self_signed(folder, name) for name in ("node", "scanner", "stranger")}


@pytest.fixture(scope="module")
def secure(
    tmp_path_factory: pytest.TempPathFactory, weights: Path, orthanc: Orthanc, certificates: dict[str, Certificate]
) -> Iterator[NodeProcess]:
    own = certificates["node"]
    more = ["--tls-cert", str(own.certificate), "--tls-key", str(own.key)]
    more += ["--tls-ca", str(certificates["scanner"].certificate), "--threshold", "0.4"]
    made = NodeProcess(tmp_path_factory.mktemp("secure"), weights, free_port(), orthanc.web, *more).start()
    yield made
    made.stop()


def send(storescu: str, node: NodeProcess, files: list[Path], *tls: object) -> int:
    command = [storescu, "-aet", "STORESCU", "-aec", "TPSEG", "-ta", "10", "-to", "10", *map(str, tls)]
    command += ["127.0.0.1", str(node.port), *map(str, files)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_only_a_known_certificate_comes_in_and_results_go_to_dicomweb(
    orthanc: Orthanc, secure: NodeProcess, certificates: dict[str, Certificate], tmp_path: Path, storescu: str
) -> None:
    uid = write_study(tmp_path / "study", 21)
    files = sorted((tmp_path / "study").iterdir())
    node, scanner, stranger = (certificates[name] for name in ("node", "scanner", "stranger"))
    assert send(storescu, secure, files) != 0  # a plain connection
    assert send(storescu, secure, files, "+tls", stranger.key, stranger.certificate, "+cf", node.certificate) != 0
    assert send(storescu, secure, files, "+tls", scanner.key, scanner.certificate, "+cf", stranger.certificate) != 0
    assert secure.counter("objects_received") == 0
    orthanc.store(tmp_path / "study")
    assert send(storescu, secure, files, "+tls", scanner.key, scanner.certificate, "+cf", node.certificate) == 0
    assert secure.counter("objects_received") == len(files)
    wait_for(lambda: both_back(orthanc, uid), 120)  # by STOW-RS
    wait_for(lambda: settled(secure))
    assert secure.counter("results_sent") == 2


def test_who_connects_and_says_nothing_keeps_nobody_out(certificates: dict[str, Certificate], tmp_path: Path) -> None:
    own, scanner = certificates["node"], certificates["scanner"]
    queue = Queue(tmp_path / "queue.sqlite", 1.0)
    tls = Tls(str(own.certificate), str(own.key), str(scanner.certificate))
    receiver = Receiver(Address("TPSEG", "127.0.0.1", 0, ("A",), tls=tls), queue, Store(tmp_path, queue, 10**9))
    before, folder = {thread.name for thread in threading.enumerate()}, tempfile.gettempdir()
    in_memory = _config.STORE_RECV_CHUNKED_DATASET
    receiver.open()
    with socket.create_connection(("127.0.0.1", receiver.port)):
        known = Tls(str(scanner.certificate), str(scanner.key), str(own.certificate))
        DicomPeer("TPSEG", "127.0.0.1", receiver.port, "A", known).echo()
        with pytest.raises(PeerError):
            DicomPeer("TPSEG", "127.0.0.1", receiver.port, "A").echo()
        receiver.close()  # cuts it off: its thread ends, and so can the process
        wait_for(
            lambda: not [thread for thread in threading.enumerate() if not thread.daemon and thread.name not in before],
            20,
        )
    queue.close()
    assert in_memory == _config.STORE_RECV_CHUNKED_DATASET
    assert tempfile.gettempdir() == folder  # what others write is their own business again


def test_label_maps_reach_archives_that_know_them(
    orthanc: Orthanc, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uid = write_study(tmp_path / "study", 22)
    orthanc.store(tmp_path / "study")
    out = tmp_path / "out"
    model = Model(weights, "cpu", Settings(0.4, encoding="labelmap"))
    Run(model, out, quiet=True)(
        prepare_output(out, find_entries(tmp_path / "study", "lung_infection"), "salted", False)
    )
    assert main(["send", str(out), "--to", orthanc.peer, "--quiet"]) == 3  # Orthanc knows no such class
    assert "does not accept objects of this class" in capsys.readouterr().err
    assert set(orthanc.results(uid)) == {"SR"}
    with pytest.raises(PeerError, match="does not accept objects of this class"):  # nothing else to send
        list(DicomPeer("ORTHANC", "127.0.0.1", orthanc.dicom).send(sorted(out.rglob("*_seg.dcm"))))
    assert main(["send", str(out), "--to", orthanc.web, "--quiet"]) == 0
    (seg,) = orthanc.results(uid)["SEG"]
    assert orthanc.dataset(seg).SOPClassUID == LABELMAP_STORAGE
