"""`tpseg listen`, `tpseg send`, `tpseg fetch`: between an archive and a mask."""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tpseg.cli.run_options import add_device, add_encoding, add_precision, add_read_timeout, add_threshold
from monai_tpseg.cli.usage import UsageError, from_options, path_text
from monai_tpseg.subprocesses import warm_up
from monai_tpseg.words import how_to_install

if TYPE_CHECKING:
    from monai_tpseg.pacs.node import Node
    from monai_tpseg.pacs.remote_nodes import DicomPeer, Tls, WebPeer

__all__ = ["add_pacs_commands"]

logger = logging.getLogger(__name__)

_GIB = 2**30
_PEER = "AET@HOST:PORT, e.g. ORTHANC@127.0.0.1:4242, or the URL of a DICOMweb server"

_LISTEN = """\
Run a DICOM node that receives studies (C-STORE), segments them once they are complete, and sends SEG and SR back. A
rule file assigns series to tasks; series that match no rule are ignored. Acknowledged images survive a kill at any
moment, and nothing is sent twice. docs/pacs.md is for the administrator of the archive.

tpseg listen --out /srv/tpseg --rules rules.yaml --allow ORTHANC --send-to ORTHANC@127.0.0.1:4242
"""
_SEND = """\
Send the DICOM segmentations and structured reports of a run to an archive.

tpseg send results --to ORTHANC@127.0.0.1:4242
tpseg send results --to http://127.0.0.1:8042/dicom-web
"""
_FETCH = """\
Fetch the images of studies from an archive into a folder, for tpseg scan and tpseg run. Existing files are kept.

tpseg fetch --from ORTHANC@127.0.0.1:4242 --date 20240101 --modality CT --out studies
tpseg scan studies --out manifest.csv
"""


def add_pacs_commands(commands: Any) -> None:
    """Add the commands to the sub-parsers of `tpseg`.

    Args:
        commands: the sub-parsers.
    """
    raw = argparse.RawDescriptionHelpFormatter
    _add_listen(
        commands.add_parser("listen", help="run a DICOM node that segments", description=_LISTEN, formatter_class=raw)
    )
    _add_send(commands.add_parser("send", help="send results to an archive", description=_SEND, formatter_class=raw))
    _add_fetch(
        commands.add_parser("fetch", help="fetch studies from an archive", description=_FETCH, formatter_class=raw)
    )


def _add_listen(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", required=True, type=path_text, metavar="OUT", help="folder for queue, studies and results; mode 0700"
    )
    command.add_argument(
        "--rules", required=True, type=path_text, metavar="YAML", help="rules that assign series to tasks"
    )
    command.add_argument(
        "--checkpoint", type=path_text, metavar="W", help="weights, as in tpseg run (default: the starter weights)"
    )
    command.add_argument("--quiet", action="store_true", help="print only errors")
    _add_line(command.add_argument_group("receiving"))
    _add_results(command.add_argument_group("results"))
    _add_tls(command)
    run = command.add_argument_group("segmentation, as in tpseg run")
    add_device(run)
    add_precision(run)
    add_threshold(run)
    add_read_timeout(run)
    command.set_defaults(command=_listen)


def _add_line(group: Any) -> None:
    group.add_argument("--aet", default="TPSEG", metavar="AET", help="AE title of this node (TPSEG)")
    group.add_argument("--bind", default="127.0.0.1", metavar="HOST", help="address to listen on (127.0.0.1)")
    group.add_argument("--port", type=int, default=11112, metavar="P", help="port (11112); 0 for a free one")
    group.add_argument(
        "--allow", required=True, metavar="A,B", help="AE titles allowed to send; all others are refused"
    )
    group.add_argument(
        "--associations", type=int, default=10, metavar="N", help="maximum number of simultaneous associations (10)"
    )
    group.add_argument(
        "--quiet-period", type=float, default=60, metavar="S",
        help="seconds without a new image until a study counts as complete (60)",
    )  # fmt: skip
    group.add_argument(
        "--quota", type=float, default=100, metavar="GIB", help="maximum size of studies and results on disk (100)"
    )


def _add_results(group: Any) -> None:
    group.add_argument(
        "--send-to", metavar="PEER", help=f"destination of SEG and SR: {_PEER}; without it they are only stored"
    )
    group.add_argument(
        "--send-tls", action="store_true", help="send over TLS, with the files of --tls-cert and --tls-key"
    )
    group.add_argument(
        "--keep", type=float, default=24, metavar="H", help="hours to keep a study after it is finished (24)"
    )
    group.add_argument("--no-seg", action="store_true", help="do not write a DICOM SEG")
    add_encoding(group)
    group.add_argument("--no-sr", action="store_true", help="do not write a DICOM SR")
    group.add_argument(
        "--monitor-port", type=int, default=11113, metavar="N",
        help="port of /health and /metrics on 127.0.0.1 (11113); 0 for a free one, -1 to disable",
    )  # fmt: skip


def _add_tls(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("TLS")
    group.add_argument(
        "--tls-cert",
        type=path_text,
        metavar="PEM",
        help="certificate of this node; with it, plain connections are refused",
    )
    group.add_argument("--tls-key", type=path_text, metavar="PEM", help="private key of this node")
    group.add_argument(
        "--tls-ca", type=path_text, metavar="PEM", help="CA of the peers; with it, peers must present a certificate"
    )


def _add_send(command: argparse.ArgumentParser) -> None:
    command.add_argument("out", type=path_text, metavar="OUT", help="the --out of a run")
    command.add_argument("--to", required=True, metavar="PEER", help=_PEER)
    command.add_argument("--aet", default="TPSEG", metavar="AET", help="AE title of this node (TPSEG)")
    command.add_argument("--quiet", action="store_true", help="print only errors")
    _add_tls(command)
    command.set_defaults(command=_send)


def _add_fetch(command: argparse.ArgumentParser) -> None:
    command.add_argument("--from", required=True, dest="source", metavar="PEER", help=_PEER)
    command.add_argument("--out", required=True, type=path_text, metavar="DIR", help="folder for the images; mode 0700")
    command.add_argument("--accession", metavar="N", help="accession number")
    command.add_argument("--patient", metavar="ID", help="Patient ID")
    command.add_argument("--study", metavar="UID", help="Study Instance UID")
    command.add_argument("--date", metavar="D", help="study date: 20240131, or a range 20240101-20240131")
    command.add_argument("--modality", metavar="M", help="modality of the series, e.g. CT")
    command.add_argument("--aet", default="TPSEG", metavar="AET", help="AE title of this node (TPSEG)")
    command.add_argument("--quiet", action="store_true", help="print only errors")
    _add_tls(command)
    command.set_defaults(command=_fetch)


def _check_installed(command: str) -> None:
    missing = [name for name in ("pynetdicom", "dicomweb_client") if find_spec(name) is None]
    if missing:
        raise UsageError(f"tpseg {command} needs {' and '.join(missing)}: {how_to_install('pacs')}.")


def _tls(options: argparse.Namespace) -> Tls | None:
    from monai_tpseg.pacs.remote_nodes import Tls

    if bool(options.tls_cert) != bool(options.tls_key):
        raise UsageError("--tls-cert and --tls-key go together; give both.")
    if options.tls_ca and not options.tls_cert:
        raise UsageError("--tls-ca needs --tls-cert and --tls-key.")
    return Tls(options.tls_cert, options.tls_key, options.tls_ca or "") if options.tls_cert else None


def _peer(text: str, options: argparse.Namespace, tls: Tls | None) -> DicomPeer | WebPeer:
    from monai_tpseg.pacs.remote_nodes import check_title, peer_from

    with from_options():
        return peer_from(text, check_title(options.aet), tls)


def _listen(options: argparse.Namespace) -> int:
    _check_installed("listen")
    _check_listen(options)
    warm_up("monai_tpseg.transforms.transfer:read_packed")
    from monai_tpseg.studies.lock import locked

    work = Path(options.out)
    if (work / "cases").is_dir():
        raise ValueError(f"'{work}' holds the results of tpseg run; choose another --out.")
    node = _node(options)
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    work.chmod(0o700)
    with locked(work):
        try:
            node(work).run()
        except KeyboardInterrupt:
            logger.info("Stopped; the remaining work is done after the next start.")
    return 0


def _check_listen(options: argparse.Namespace) -> None:
    for name in ("quiet_period", "quota", "associations"):
        if not 0 < getattr(options, name) < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} must be more than 0, got {getattr(options, name):g}.")
    if not 0 <= options.keep < math.inf:
        raise UsageError(f"--keep must be 0 hours or more, got {options.keep:g}.")
    for name, least in (("port", 0), ("monitor_port", -1)):
        if not least <= getattr(options, name) < 2**16:
            raise UsageError(f"--{name.replace('_', '-')} must be {least} to 65535, got {getattr(options, name)}.")
    if options.send_tls and not options.tls_cert:
        raise UsageError("--send-tls needs --tls-cert and --tls-key.")


def _node(options: argparse.Namespace) -> Callable[[Path], Node]:
    """Check all options, rules and weights before anything is written; the result makes the node in its folder."""
    from monai_tpseg.networks.fast.inference_form import choose_device, choose_precision
    from monai_tpseg.pacs.node import Node
    from monai_tpseg.pacs.queue import Queue
    from monai_tpseg.pacs.receiver import Address, Receiver
    from monai_tpseg.pacs.remote_nodes import check_title
    from monai_tpseg.pacs.rules import read_rules
    from monai_tpseg.pacs.segmenting import Segmenting
    from monai_tpseg.pacs.store import Store
    from monai_tpseg.studies import Limits, Model, Settings

    tls = _tls(options)
    destination = _peer(options.send_to, options, tls if options.send_tls else None) if options.send_to else None
    with from_options():
        allowed = tuple(check_title(title) for title in options.allow.split(","))
        title = check_title(options.aet)
        settings = Settings(
            options.threshold,
            options.min_lesion_area,
            seg=not options.no_seg,
            sr=not options.no_sr,
            precision=options.precision,
            encoding=options.encoding,
        )
        limits = Limits(options.read_timeout)
        choose_precision(options.precision, choose_device(options.device))
    model = Model(options.checkpoint, options.device, settings)
    rules = read_rules(options.rules, model.info.tasks)
    address = Address(title, options.bind, options.port, allowed, options.associations, tls)
    monitor = None if options.monitor_port < 0 else options.monitor_port

    def made(work: Path) -> Node:
        queue = Queue(work / "queue.sqlite", options.quiet_period)
        store = Store(work, queue, int(options.quota * _GIB))
        segmenting = Segmenting(model, rules, queue, store, limits)
        receiver = Receiver(address, queue, store)
        return Node(receiver, segmenting, destination, queue, store, options.keep * 3600, monitor)

    return made


def _send(options: argparse.Namespace) -> int:
    _check_installed("send")
    from monai_tpseg.pacs.sending import objects_of_run

    peer = _peer(options.to, options, _tls(options))
    refused = 0
    files = objects_of_run(options.out)
    for path, why in peer.send(files):
        if why:
            refused += 1
            logger.error("%s: %s.", os.path.relpath(path, options.out), why)
    logger.info("%d of %d objects have arrived.", len(files) - refused, len(files))
    return 3 if refused else 0


def _fetch(options: argparse.Namespace) -> int:
    _check_installed("fetch")
    from monai_tpseg.pacs.query_retrieve import SeriesQuery, check_query, fetch

    named = ("accession", "patient", "study", "date", "modality")
    wanted = SeriesQuery(*(getattr(options, name) or "" for name in named))
    if not any(wanted):
        raise UsageError(f"No study was selected: give one or more of {', '.join(f'--{name}' for name in named)}.")
    with from_options():
        check_query(wanted)
    got = fetch(_peer(options.source, options, _tls(options)), wanted, Path(options.out))
    logger.info(
        "%d series of %d studies: %d images fetched, %d already present, %d failed. "
        "Next: tpseg scan %s --out manifest.csv",
        got.series, got.studies, got.fetched, got.there, got.failed, options.out,
    )  # fmt: skip
    return 3 if got.failed else 0
