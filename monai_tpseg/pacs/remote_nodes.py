"""Remote nodes: DICOM nodes and DICOMweb servers."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

__all__ = ["Destination", "DicomPeer", "PeerError", "Tls", "WebPeer", "check_title", "connected", "peer_from"]

_ADDRESS = re.compile(r"(?P<title>[^@]+)@(?P<host>\[[^\]]+\]|[^:@]+):(?P<port>\d+)")
_ARRIVED = (0x0000, 0xB000, 0xB006, 0xB007)  # success, and warnings of C-STORE: the object is stored
_PENDING = (0xFF00, 0xFF01)
_SECONDS = 30.0


class PeerError(OSError):
    """A remote node does not respond or refuses a request; one line without patient data."""


@dataclass(frozen=True)
class Tls:
    """PEM files of a TLS connection.

    Attributes:
        certificate, key: certificate and private key of this node.
        authority: CA certificates for remote nodes; by default those of the system, and callers need no certificate.
    """

    certificate: str
    key: str
    authority: str = ""

    def context(self, server: bool) -> ssl.SSLContext:
        """Return the context of this node as a server or as a client.

        Raises:
            PeerError: a file is missing or not a certificate.
        """
        try:
            made: ssl.SSLContext
            if server:
                made = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
                if self.authority:
                    made.load_verify_locations(self.authority)
            else:
                made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.authority or None)
            made.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise PeerError(f"The files of --tls-cert, --tls-key and --tls-ca cannot be used ({error}).") from error
        made.verify_mode = ssl.CERT_REQUIRED if self.authority or not server else ssl.CERT_NONE
        return made


class _ServerContext(ssl.SSLContext):
    """Perform the TLS handshake in the thread of an association instead of while accepting, as pynetdicom does.

    Otherwise a silent caller would block all others, and the shutdown of the node.
    """

    def wrap_socket(self, sock: socket.socket, **kwargs: Any) -> ssl.SSLSocket:  # type: ignore[override]
        """See `ssl.SSLContext`; the handshake takes place at the first read."""
        sock.settimeout(_SECONDS)
        return super().wrap_socket(sock, **{**kwargs, "do_handshake_on_connect": False})


class Destination(Protocol):
    """A destination of results."""

    def send(self, files: Sequence[Path]) -> Generator[tuple[Path, str], None, None]:
        """Send files one by one; yield each with "" once it has arrived, or with the reason of its refusal.

        Raises:
            PeerError: the destination does not respond.
        """

    def has(self, header: Dataset) -> bool:
        """Return whether an object is stored there; False also if queries are not supported."""


@dataclass(frozen=True)
class DicomPeer:
    """A DICOM node.

    Attributes:
        title: its AE title.
        host, port: its address.
        own: our AE title.
        tls: files of TLS, or None for a plain connection.
    """

    title: str
    host: str
    port: int
    own: str = "TPSEG"
    tls: Tls | None = None

    def send(self, files: Sequence[Path]) -> Generator[tuple[Path, str], None, None]:
        """See `Destination`."""
        classes = sorted({str(pydicom.dcmread(file, stop_before_pixels=True).SOPClassUID) for file in files})
        ae = AE(self.own)
        for kind in classes:
            ae.add_requested_context(kind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        with connected(ae, self) as association:
            for file in files:
                try:
                    status = association.send_c_store(str(file)).get("Status")
                except ValueError:  # no such presentation context
                    yield (
                        file,
                        f"'{self.title}' does not accept objects of this class; "
                        "allow Segmentation and SR storage there",
                    )
                    continue
                if status is None:
                    raise PeerError(f"'{self.title}' closed the connection while an object was sent.")
                yield file, "" if status in _ARRIVED else f"'{self.title}' refused an object with status 0x{status:04X}"

    def has(self, header: Dataset) -> bool:
        """See `Destination`."""
        ae = AE(self.own)
        ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        asked = Dataset()
        asked.QueryRetrieveLevel = "IMAGE"
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(asked, keyword, header[keyword].value)
        with connected(ae, self) as association:
            if not association.accepted_contexts:
                return False
            answers = list(association.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind))
        return any(status and status.Status in _PENDING for status, _ in answers)

    def echo(self) -> None:
        """Verify the connection (C-ECHO).

        Raises:
            PeerError: the node does not respond.
        """
        ae = AE(self.own)
        ae.add_requested_context(Verification)
        with connected(ae, self) as association:
            association.send_c_echo()


@contextmanager
def connected(ae: Any, peer: DicomPeer, **options: Any) -> Iterator[Any]:
    """Context manager for an association with a node.

    Args:
        ae: application entity with its presentation contexts.
        peer: the node.
        **options: further arguments of `pynetdicom.AE.associate`.

    Raises:
        PeerError: the node does not respond, or refuses the association.
    """
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = _SECONDS
    tls = None if peer.tls is None else (peer.tls.context(server=False), peer.host)
    try:
        association = ae.associate(peer.host.strip("[]"), peer.port, ae_title=peer.title, tls_args=tls, **options)
    except OSError as error:  # the name of the host is not known
        raise PeerError(
            f"'{peer.title}' at {peer.host}:{peer.port} is not found ({error.strerror or error})."
        ) from error
    if not association.is_established:
        refused = f"refuses {peer.own}; make both AE titles known there"
        unknown = "does not accept objects of this class; allow Segmentation and SR storage there"
        why = refused if association.is_rejected else unknown if association.rejected_contexts else "does not answer"
        raise PeerError(f"'{peer.title}' at {peer.host}:{peer.port} {why}.")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


@dataclass(frozen=True)
class WebPeer:
    """A DICOMweb server; credentials are read from `~/.netrc`.

    Attributes:
        url: base URL, without `/studies`.
    """

    url: str
    session: requests.Session = field(default_factory=requests.Session, repr=False, compare=False)

    @property
    def client(self) -> DICOMwebClient:
        """The client of dicomweb-client."""
        return DICOMwebClient(self.url, session=self.session)

    def send(self, files: Sequence[Path]) -> Generator[tuple[Path, str], None, None]:
        """See `Destination` (STOW-RS)."""
        for file in files:
            try:
                answer = self.client.store_instances([pydicom.dcmread(file)])
            except requests.HTTPError as error:
                yield file, f"'{self.url}' refused an object with status {error.response.status_code}"
                continue
            except requests.RequestException as error:
                raise PeerError(f"'{self.url}' does not answer ({type(error).__name__}).") from error
            yield file, f"'{self.url}' refused an object" if answer.get("FailedSOPSequence") else ""

    def has(self, header: Dataset) -> bool:
        """See `Destination` (QIDO-RS)."""
        uid = str(header.SOPInstanceUID)
        try:
            found = self.client.search_for_instances(
                str(header.StudyInstanceUID), str(header.SeriesInstanceUID), search_filters={"SOPInstanceUID": uid}
            )
        except requests.RequestException:
            return False
        return bool(found)


def peer_from(text: str, own: str, tls: Tls | None = None) -> DicomPeer | WebPeer:
    """Parse an address: `AET@HOST:PORT`, or the URL of a DICOMweb server.

    Args:
        text: the address.
        own: our AE title.
        tls: files of TLS for a DICOM node.

    Raises:
        ValueError: the address has neither form.

    >>> peer_from("ORTHANC@127.0.0.1:4242", "TPSEG").port
    4242
    """
    if re.match(r"https?://[^/]", text):
        return WebPeer(text.rstrip("/"))
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ValueError(f"'{text}' is neither AET@HOST:PORT, e.g. ORTHANC@127.0.0.1:4242, nor a DICOMweb URL.")
    return DicomPeer(check_title(found["title"]), found["host"], int(found["port"]), own, tls)


def check_title(title: str) -> str:
    """Return a valid AE title: 1 to 16 ASCII characters (PS3.8).

    Raises:
        ValueError: the title is not valid.
    """
    if not (title.strip() and len(title) <= 16 and title.isascii() and title.isprintable() and "\\" not in title):
        raise ValueError(f"'{title}' is not an AE title; use 1 to 16 letters, digits and signs without a backslash.")
    return title.strip()
