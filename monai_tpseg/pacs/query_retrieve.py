"""Retrieval of images from an archive into a folder: C-FIND and C-GET, or QIDO-RS and WADO-RS."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as Get

from monai_tpseg.files import complete
from monai_tpseg.pacs.receiver import SYNTAXES
from monai_tpseg.pacs.remote_nodes import DicomPeer, PeerError, WebPeer, connected

__all__ = ["RetrievalCounts", "SeriesQuery", "check_query", "fetch"]

logger = logging.getLogger(__name__)

_NO_IMAGES = frozenset(
    {"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "DOC", "REG", "PLAN", "AU", "ECG", "HD"}
)
_PENDING = (0xFF00, 0xFF01)
_FULL = 0xA700
_CONTEXTS = 127  # maximum presentation contexts of an association, in addition to that of the query
_NAME = 20  # hexadecimal digits of a file name


class SeriesQuery(NamedTuple):
    """Query for series; an empty string matches any value.

    Attributes:
        accession, patient, study: Accession Number, Patient ID, Study Instance UID.
        date: Study Date, `YYYYMMDD` or a range of two.
        modality: Modality of the series.
    """

    accession: str = ""
    patient: str = ""
    study: str = ""
    date: str = ""
    modality: str = ""


class Series(NamedTuple):
    """Study and series UIDs of a series."""

    study: str
    series: str


class RetrievalCounts(NamedTuple):
    """Counts of a retrieval.

    Attributes:
        studies, series: number of matches.
        fetched, there, failed: number of images fetched, already in the folder, and failed.
    """

    studies: int
    series: int
    fetched: int
    there: int
    failed: int


def fetch(peer: DicomPeer | WebPeer, wanted: SeriesQuery, out: Path) -> RetrievalCounts:
    """Fetch the matching images into `out`, one folder per study and series, with names that do not identify patients.

    Args:
        peer: the archive.
        wanted: query for series.
        out: folder, created with mode 0700; existing files are kept.

    Raises:
        PeerError: the archive does not respond, or does not support the services.
        OSError: the folder cannot be written; what was fetched before stays.
    """
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = _Folder(out)
    try:
        series = _find(peer, wanted) if isinstance(peer, DicomPeer) else list(_search(peer, wanted))
        for one in series:
            if isinstance(peer, DicomPeer):
                _get(peer, one, folder)
            else:
                _retrieve(peer, one, folder)
    except requests.RequestException as error:
        raise PeerError(f"'{_address(peer)}' does not answer as a DICOMweb server ({type(error).__name__}).") from error
    finally:
        if made:
            with suppress(OSError):  # not empty: what was fetched stays
                out.rmdir()
    return RetrievalCounts(len({one.study for one in series}), len(series), folder.fetched, folder.there, folder.failed)


def _address(peer: DicomPeer | WebPeer) -> str:
    """Where a DICOMweb server is, without a password that its URL may hold."""
    url = urlsplit(peer.url if isinstance(peer, WebPeer) else f"//{peer.host}")
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def check_query(wanted: SeriesQuery) -> None:
    """Check a query that an archive may otherwise answer with nothing, or with all that it has.

    Raises:
        ValueError: the date, the UID or the modality has another form than DICOM gives it.
    """
    first, _, last = wanted.date.partition("-")
    for day in filter(None, (first, last)):
        try:
            valid = len(day) == 8 and bool(datetime.strptime(day, "%Y%m%d"))
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"'{wanted.date}' is not a date of DICOM; give 20240131, or a range 20240101-20240131.")
    if wanted.study and not re.fullmatch(r"[0-9.\\]+", wanted.study):
        raise ValueError(f"'{wanted.study}' is not a UID; it consists of digits and dots.")
    if wanted.modality and not re.fullmatch(r"[A-Z0-9_ \\*?]+", wanted.modality):
        raise ValueError(f"'{wanted.modality}' is not a modality of DICOM; give e.g. CT, MR or US.")


class _Folder:
    """The folder of the images, with counts."""

    def __init__(self, out: Path) -> None:
        self.out, self.fetched, self.there, self.failed = out, 0, 0, 0

    def keep(self, series: Series, uid: str, write: Callable[[Path], None]) -> None:
        path = self.out / _hashed(series.study) / _hashed(series.series) / f"{_hashed(uid)}.dcm"
        if path.exists():
            self.there += 1
            return
        with complete(path) as part:
            write(part)
            part.chmod(0o600)
        self.fetched += 1


def _hashed(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:_NAME]


def _find(peer: DicomPeer, wanted: SeriesQuery) -> list[Series]:
    ae = AE(peer.own)
    ae.add_requested_context(Find)
    with connected(ae, peer) as association:
        if not association.accepted_contexts:
            raise PeerError(f"'{peer.title}' does not offer queries (C-FIND) to {peer.own}; allow them there.")
        study = Dataset()
        study.QueryRetrieveLevel, study.StudyInstanceUID = "STUDY", wanted.study
        study.AccessionNumber, study.PatientID, study.StudyDate = wanted.accession, wanted.patient, wanted.date
        study.ModalitiesInStudy = wanted.modality
        found = []
        for answer in _answers(association, study):
            inside = Dataset()
            inside.QueryRetrieveLevel, inside.StudyInstanceUID = "SERIES", answer.StudyInstanceUID
            inside.SeriesInstanceUID, inside.Modality = "", wanted.modality
            found += [
                Series(str(answer.StudyInstanceUID), str(one.SeriesInstanceUID))
                for one in _answers(association, inside)
                if wanted.modality or str(one.get("Modality")) not in _NO_IMAGES
            ]
    return found


def _answers(association: Any, asked: Dataset) -> Iterator[Dataset]:
    for status, answer in list(association.send_c_find(asked, Find)):
        if not status:
            raise PeerError("The archive closed the connection during a query; try again.")
        if status.Status in _PENDING:
            yield answer
        elif status.Status != 0:
            raise PeerError(f"The archive refused a query with status 0x{status.Status:04X}.")


def _get(peer: DicomPeer, series: Series, folder: _Folder) -> None:
    ae = AE(peer.own)
    ae.add_requested_context(Get)
    images = [cx.abstract_syntax for cx in AllStoragePresentationContexts if "Image Storage" in cx.abstract_syntax.name]
    for image in images[:_CONTEXTS]:
        ae.add_requested_context(image, list(SYNTAXES))
    roles = [build_role(image, scp_role=True) for image in images[:_CONTEXTS]]

    refused: list[OSError] = []

    def stored(event: Any) -> int:
        try:
            folder.keep(
                series, str(event.request.AffectedSOPInstanceUID), lambda part: _write(part, _content_of(event))
            )
        except OSError as error:  # in a thread of pynetdicom, which would only count a failure
            refused.append(error)
            return _FULL
        return 0x0000

    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID, asked.SeriesInstanceUID = "SERIES", series.study, series.series
    with connected(ae, peer, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, stored)]) as association:
        if not any(context.abstract_syntax == Get for context in association.accepted_contexts):
            raise PeerError(
                f"'{peer.title}' does not offer C-GET to {peer.own}; allow it there, or use its DICOMweb URL."
            )
        last = Dataset()
        for status, _ in association.send_c_get(asked, Get):
            last = status
            if refused:
                association.abort()  # each further image would be refused as well
                break
    if refused:
        raise refused[0]
    if "Status" not in last:
        raise PeerError(f"'{peer.title}' closed the connection while sending a series; repeat the command to continue.")
    folder.failed += int(last.get("NumberOfFailedSuboperations") or 0)


def _content_of(event: Any) -> bytes:
    """An image as a DICOM file: in memory, or on disk where a node in this process has pynetdicom store all so."""
    if event.dataset_path is None:
        content: bytes = event.encoded_dataset()
        return content
    event.request._dataset_file.flush()
    return Path(event.dataset_path).read_bytes()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _search(peer: WebPeer, wanted: SeriesQuery) -> Iterator[Series]:
    named = {
        "AccessionNumber": wanted.accession, "PatientID": wanted.patient, "StudyInstanceUID": wanted.study,
        "StudyDate": wanted.date, "ModalitiesInStudy": wanted.modality,
    }  # fmt: skip
    client = peer.client
    for study in client.search_for_studies(search_filters={key: value for key, value in named.items() if value}):
        uid = str(Dataset.from_json(study).StudyInstanceUID)
        for found in client.search_for_series(uid):
            series = Dataset.from_json(found)
            kind = str(series.get("Modality") or "")
            if kind == wanted.modality if wanted.modality else kind not in _NO_IMAGES:
                yield Series(uid, str(series.SeriesInstanceUID))


def _retrieve(peer: WebPeer, series: Series, folder: _Folder) -> None:
    for image in peer.client.iter_series(series.study, series.series):
        folder.keep(series, str(image.SOPInstanceUID), partial(image.save_as, enforce_file_format=True))
