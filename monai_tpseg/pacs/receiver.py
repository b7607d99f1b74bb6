"""The DICOM server of a node: C-ECHO and C-STORE from known AE titles; acknowledged objects are on disk."""

from __future__ import annotations

import logging
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.sop_class import Verification

from monai_tpseg.files import file_sha256
from monai_tpseg.io.dicom.image_check import is_image
from monai_tpseg.pacs.queue import Queue, Received
from monai_tpseg.pacs.remote_nodes import PeerError, Tls
from monai_tpseg.pacs.store import Store
from monai_tpseg.results.codes import StudyError

__all__ = ["CUT_OFF", "SYNTAXES", "Address", "Receiver"]

logger = logging.getLogger(__name__)

SYNTAXES = (
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"),
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)),
    "1.2.840.10008.1.2.5",
)
"""Transfer syntaxes that can be read: plain, deflated, JPEG, JPEG-LS, JPEG 2000, HTJ2K, RLE; no video, no JPEG XL."""

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_READ = [*_NEEDED, "SOPClassUID", "Modality", "Rows", "Columns", "BitsAllocated"]
_OK, _FULL, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
_IDLE = 60.0  # seconds without a message until an association is closed
CUT_OFF = 10
"""Quiet periods to wait for a sender that was cut off."""


class Address(NamedTuple):
    """Address and callers of a node.

    Attributes:
        title: its AE title, which callers must use.
        host, port: address to listen on; port 0 uses any free port.
        allowed: AE titles of permitted callers.
        associations: maximum number of simultaneous associations.
        tls: files of TLS, or None for plain connections.
    """

    title: str
    host: str
    port: int
    allowed: tuple[str, ...]
    associations: int = 10
    tls: Tls | None = None


class Receiver:
    """Receive and store objects.

    Args:
        address: address and callers.
        queue: records the objects.
        store: stores their files.
    """

    def __init__(self, address: Address, queue: Queue, store: Store) -> None:
        self.address, self.queue, self.store = address, queue, store
        self._open: dict[Any, set[str]] = {}  # association -> studies received through it
        self._lock = threading.Lock()
        self._server: Any = None

    @property
    def port(self) -> int:
        """The port, once the server is open."""
        return int(self._server.socket.getsockname()[1])

    @property
    def alive(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None

    def open(self) -> None:
        """Start the server.

        Raises:
            PeerError: the port is in use, or permission is denied.
        """
        self._temporary, self._chunked = tempfile.tempdir, _config.STORE_RECV_CHUNKED_DATASET
        _config.STORE_RECV_CHUNKED_DATASET = True  # objects of any size are written to disk as they arrive
        tempfile.tempdir = str(self.store.part)  # private, and on the file system of its destination
        ae = AE(self.address.title)
        ae.require_called_aet = True
        ae.require_calling_aet = list(self.address.allowed)
        ae.maximum_associations = self.address.associations
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _IDLE
        ae.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, list(SYNTAXES))
        handlers = [
            (evt.EVT_C_STORE, self._stored),
            (evt.EVT_RELEASED, lambda event: self._ended(event.assoc, released=True)),
            (evt.EVT_ABORTED, lambda event: self._ended(event.assoc)),
            (evt.EVT_CONN_CLOSE, lambda event: self._ended(event.assoc)),
            (evt.EVT_REJECTED, lambda event: self.queue.count("associations_refused")),
            (evt.EVT_C_ECHO, lambda event: _OK),
        ]
        tls = None if self.address.tls is None else self.address.tls.context(server=True)
        try:
            where = (self.address.host, self.address.port)
            self._server = ae.start_server(where, block=False, ssl_context=tls, evt_handlers=handlers)
        except OSError as error:
            tempfile.tempdir, _config.STORE_RECV_CHUNKED_DATASET = self._temporary, self._chunked
            raise PeerError(
                f"Port {self.address.port} of {self.address.host} cannot be opened ({error.strerror}); choose another."
            ) from error

    def close(self) -> None:
        """Stop the server and abort associations, whose threads would keep the process alive."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            tempfile.tempdir, _config.STORE_RECV_CHUNKED_DATASET = self._temporary, self._chunked
            for association in server.active_associations:
                if association.dul.socket is not None:
                    association.dul.socket.close()

    def busy(self) -> set[str]:
        """Return the studies that are being received now."""
        with self._lock:
            dead = [association for association in self._open if not association.is_alive()]
        for association in dead:
            self._ended(association)
        with self._lock:
            return set().union(*self._open.values())

    def _stored(self, event: Any) -> int:
        try:
            return self._answered(event)
        except (OSError, StudyError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            logger.error("An object cannot be stored (%s); it is refused.", reason)
        with suppress(OSError, StudyError):  # the counter lies on the same disc
            self.queue.count("objects_refused")
        return _FULL

    def _answered(self, event: Any) -> int:
        path = Path(event.dataset_path)
        event.request._dataset_file.close()
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_READ)
            missing = not all(header.get(keyword) for keyword in _NEEDED)
        except Exception as error:  # untrusted bytes: any error is reported to the sender
            logger.warning("An object cannot be parsed (%s) and is refused.", type(error).__name__)
            missing = True
        if missing:
            self.queue.count("objects_refused")
            return _NOT_UNDERSTOOD
        if not is_image(header):  # segmentations and reports, including our own
            self.queue.count("objects_ignored")
            return _OK
        return self._keep(path, header, event.assoc)

    def _keep(self, path: Path, header: Dataset, association: Any) -> int:
        study, series, key = (self.queue.keyed(str(header[keyword].value)) for keyword in _NEEDED)
        with self._lock:
            self._open.setdefault(association, set()).add(study)
        digest, size = file_sha256(path), path.stat().st_size
        if self.queue.knows(key, digest):
            return _OK
        caller = str(association.requestor.ae_title).strip()
        with self.store.lock:
            if not self.store.has_room(size):
                self.queue.count("objects_refused")
                return _FULL
            self.store.take(path, study, series, key)
            self.queue.add(Received(study, series, key, digest, size, caller))
        return _OK

    def _ended(self, association: Any, released: bool = False) -> None:
        """Extend the waiting time of studies whose association was cut off, since the sender will retry."""
        with self._lock:
            studies = self._open.pop(association, set())
        if studies and not released:
            logger.warning("An association was aborted; %d studies wait for their sender.", len(studies))
            self.queue.postpone(studies, self.queue.quiet * CUT_OFF)
