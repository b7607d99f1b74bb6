"""The main loop of a node: receive objects, segment complete studies, send results."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pydicom

from monai_tpseg.pacs.monitor import Health, Monitor
from monai_tpseg.pacs.queue import Queue, Result, Study
from monai_tpseg.pacs.receiver import CUT_OFF, Receiver
from monai_tpseg.pacs.remote_nodes import Destination, PeerError
from monai_tpseg.pacs.segmenting import Segmenting
from monai_tpseg.pacs.store import Store
from monai_tpseg.results.codes import DeviceLostError, StudyError
from monai_tpseg.words import count

__all__ = ["Node", "back_off"]

logger = logging.getLogger(__name__)

_FIRST, _LONGEST = 5.0, 600.0  # delay in s before a failed step is retried, doubled each time, and its maximum
_TRIES = 3  # attempts for a study with failed cases
_LOOK = 0.2  # polling interval of an empty queue in s
_SWEEP = 60.0


def back_off(attempts: int) -> float:
    """Return the delay in s after a number of failures.

    >>> [back_off(n) for n in (0, 1, 2, 20)]
    [5.0, 10.0, 20.0, 600.0]
    """
    return min(_LONGEST, _FIRST * 2.0 ** min(attempts, 20))


class Node:
    """A DICOM node.

    Args:
        receiver: DICOM server.
        segmenting: segments studies.
        destination: destination of the results; None keeps them.
        queue: pending work.
        store: files of the node.
        keep: retention of finished studies and their results in s.
        monitor_port: port of `/health` and `/metrics`; None disables them.
    """

    def __init__(
        self,
        receiver: Receiver,
        segmenting: Segmenting,
        destination: Destination | None,
        queue: Queue,
        store: Store,
        keep: float,
        monitor_port: int | None,
    ) -> None:
        self.receiver, self.segmenting, self.destination = receiver, segmenting, destination
        self.queue, self.store, self.keep = queue, store, keep
        self.monitor = None if monitor_port is None else Monitor(monitor_port, self.health)
        self._swept = 0.0

    def health(self) -> Health:
        """Return the current state of the node."""
        queue = self.queue
        more = (queue.used(), self.store.quota, queue.overdue())
        return Health(self.receiver.alive, queue.states(), queue.counters(), *more)

    def run(self) -> None:
        """Run until the process is stopped; the next process continues the remaining work.

        A disc that is full or refuses ends nothing: the work waits until there is room.

        Raises:
            StudyError: the device is lost, or the queue is damaged.
            PeerError: a port cannot be opened.
        """
        self.store.clear()
        self.queue.postpone(None, self.queue.quiet * CUT_OFF)  # associations cut off by the last stop
        try:
            if self.monitor is not None:
                self.monitor.open()
                logger.info("Health and metrics at http://127.0.0.1:%d/health and /metrics.", self.monitor.port)
            self.receiver.open()
            address = self.receiver.address
            logger.info("%s listens at %s:%d.", address.title, address.host, self.receiver.port)
            self._work()
        finally:
            self.receiver.close()
            if self.monitor is not None:
                self.monitor.close()
            self.segmenting.close()
            self.queue.close()

    def _work(self) -> NoReturn:
        failures = 0
        while True:
            try:
                self.process_next()
                failures = 0
            except OSError as error:
                wait = back_off(failures)
                where = f"'{error.filename}': " if error.filename else ""
                reason = error.strerror or type(error).__name__
                logger.error("%s%s; the work waits, next attempt in %.0f s.", where, reason, wait)
                time.sleep(wait)
                failures += 1

    def process_next(self) -> None:
        """Segment or send the next pending study, or wait briefly if there is none."""
        if time.monotonic() - self._swept > _SWEEP:
            self.store.sweep(self.keep)
            self._swept = time.monotonic()
        study = self.queue.next(self.receiver.busy())
        if study is None:
            time.sleep(_LOOK)
        elif study.state == "sending":
            self._send(study)
        else:
            self._segment(study)

    def _segment(self, study: Study) -> None:
        self.queue.begin(study.key)
        try:
            done = self.segmenting(study.key)
        except DeviceLostError:
            raise
        except (StudyError, OSError) as error:
            logger.error("Study %s: %s", study.key, error)
            self.queue.count("segmenting_failed")
            self.queue.failed(study.key, back_off(study.attempts))
            return
        for name, number in done.counts.items():
            self.queue.count(name, number)
        again = back_off(study.tries) if done.failed and study.tries < _TRIES - 1 else 0.0
        unsent = self.queue.segmented(study.key, done.results, done.bytes, again)
        told = (f"{name.replace('_', ' ')} {number}" for name, number in sorted(done.counts.items()))
        said = ", ".join(told) or "nothing to segment"
        logger.info("Study %s: %s; %s to send.", study.key, said, count(unsent, "object"))

    def _send(self, study: Study) -> None:
        try:
            arrived = self.destination is None or self._send_all(study.key, self.destination)
        except (PeerError, OSError) as error:
            logger.warning("Study %s: %s Its results wait.", study.key, error)
            arrived = False
        if arrived:
            self.queue.finish(study.key)
        else:
            self.queue.count("sends_failed")
            self.queue.failed(study.key, back_off(study.attempts))

    def _send_all(self, study: str, destination: Destination) -> bool:
        left: dict[Path, Result] = {}
        for result in self.queue.unsent(study):
            path = self.store.root / result.path
            header = pydicom.dcmread(path, stop_before_pixels=True) if path.is_file() else None
            if header is None or str(header.SOPInstanceUID) != result.uid:
                self.queue.drop(result.uid)
            elif result.doubtful and destination.has(header):
                self.queue.sent(result.uid)
            else:
                left[path] = result
        return self._send_files(study, left, destination) if left else True

    def _send_files(self, study: str, left: Mapping[Path, Result], destination: Destination) -> bool:
        arrived, waiting = True, list(left)
        answers = destination.send(waiting)
        for path in waiting:
            self.queue.sending(left[path].uid)  # the outcome is unknown from here until the response
            _, refused = next(answers)
            if refused:
                logger.warning("Study %s: %s.", study, refused)
                arrived = False
            else:
                self.queue.sent(left[path].uid)
        answers.close()
        return arrived
