"""The queue: what is recorded is there after a kill, and each step leads to the next one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from monai_tpseg.pacs.queue import Queue, Received, Result
from monai_tpseg.pacs.receiver import Address, Receiver
from monai_tpseg.pacs.store import Store
from monai_tpseg.results.codes import StudyError
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series


def received(n: int, study: str = "s", size: int = 10) -> Received:
    return Received(study, f"{study}1", f"{study}{n}", f"{n}" * 64, size, "PACS")


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.sqlite", 0.0)


def test_a_study_goes_through_its_states(queue: Queue) -> None:
    queue.add(received(1))
    study = queue.next()
    assert study is not None
    assert (study.key, study.state) == ("s", "receiving")
    assert queue.next({"s"}) is None  # somebody is still sending
    queue.begin("s")
    assert queue.segmented("s", [Result("1.2", "a"), Result("1.3", "b")], 5) == 2
    study = queue.next()
    assert study is not None
    assert study.state == "sending"
    queue.sending("1.2")
    assert queue.unsent("s") == [Result("1.2", "a", True), Result("1.3", "b", False)]
    queue.sent("1.2")
    queue.sent("1.3")
    queue.finish("s")
    assert queue.next() is None
    assert queue.states()["done"] == 1
    assert queue.counters() == {"objects_received": 1, "results_sent": 2, "studies_ended": 1}


def test_what_was_sent_once_is_not_sent_again(queue: Queue) -> None:
    queue.add(received(1))
    queue.segmented("s", [Result("1.2", "a")], 5)
    queue.sent("1.2")
    assert queue.segmented("s", [Result("1.2", "a"), Result("1.3", "b")], 5) == 1
    assert [result.uid for result in queue.unsent("s")] == ["1.3"]
    assert queue.segmented("s", [Result("1.4", "b")], 5) == 1  # a newer one takes the place of 1.3
    assert [result.uid for result in queue.unsent("s")] == ["1.4"]


def test_what_arrives_meanwhile_makes_a_study_wait_again(queue: Queue) -> None:
    queue.add(received(1))
    queue.begin("s")
    queue.add(received(2))
    assert queue.states()["segmenting"] == 1
    queue.segmented("s", [], 0)
    queue.finish("s")
    assert queue.states() == {"receiving": 1, "segmenting": 0, "sending": 0, "done": 0}


def test_failed_cases_are_tried_again_and_not_for_ever(queue: Queue) -> None:
    queue.add(received(1))
    queue.begin("s")
    queue.segmented("s", [], 0, again=0.01)
    queue.finish("s")
    time.sleep(0.02)
    study = queue.next()
    assert study is not None
    assert (study.state, study.tries) == ("receiving", 1)


def test_waiting_times_grow(queue: Queue) -> None:
    queue.add(received(1))
    queue.failed("s", 60)
    assert queue.next() is None
    assert queue.overdue() == 0
    queue.postpone(None, -1)
    queue.add(received(2))  # what is new starts anew
    study = queue.next()
    assert study is not None
    assert study.attempts == 0


def test_a_kill_leaves_what_was_recorded(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from monai_tpseg.pacs.queue import Queue, Received\n"
        f"q = Queue(Path({str(tmp_path / 'q')!r}), 0)\n"
        "for n in range(10 ** 6):\n"
        "    q.add(Received('s', 't', str(n), 'a' * 64, 1, 'A')); print(n, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 20:
                process.send_signal(signal.SIGKILL)
                break
        said = int(line)
    assert Queue(tmp_path / "q", 0).counters()["objects_received"] >= said + 1
    assert os.stat(tmp_path / "q").st_mode & 0o777 == 0o600


def test_the_quota_takes_what_is_done_first_and_then_refuses(tmp_path: Path, queue: Queue) -> None:
    store = Store(tmp_path, queue, 25)
    for name in ("old", "new"):
        (store.part / "x").write_bytes(b"0" * 10)
        store.take(store.part / "x", name, f"{name}1", f"{name}0")
        queue.add(received(0, name))
    assert not store.has_room(10)  # both are still to be done
    queue.finish("old")  # but it changed while nobody had begun
    assert not store.has_room(10)
    queue.begin("old")
    queue.finish("old")
    assert store.has_room(10)
    assert not (store.studies / "old").exists()
    assert (store.studies / "new").exists()
    assert queue.purged_series("old") == {"old1"}
    assert queue.knows("new0", "0" * 64)
    assert not queue.knows("old0", "0" * 64)
    assert queue.used() == 10


def test_a_new_start_removes_what_nobody_recorded(tmp_path: Path, queue: Queue) -> None:
    store = Store(tmp_path, queue, 100)
    (store.part / "half").write_bytes(b"0")
    (store.studies / "unknown" / "1").mkdir(parents=True)
    (store.part / "x").write_bytes(b"0")
    kept = store.take(store.part / "x", "s", "s1", "s0")
    queue.add(received(0))
    store.clear()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != tmp_path] == [kept]


@contextmanager
def full(queue: Queue) -> Iterator[None]:
    """SQLite finds no room, as on a full disc."""
    (pages,) = queue._base.execute("PRAGMA page_count").fetchone()
    queue._base.execute(f"PRAGMA max_page_count = {pages}")
    try:
        yield
    finally:
        queue._base.execute("PRAGMA max_page_count = 100000")


def fill(queue: Queue) -> int:
    """Add objects until nothing more fits; return how many."""
    for n in range(10**6):
        try:
            queue.add(received(n))
        except OSError as error:
            found = error.errno, error.filename
            break
    assert found == (errno.ENOSPC, str(queue.path))
    return n


def test_a_full_disc_costs_one_step_and_nothing_recorded(queue: Queue) -> None:
    with full(queue):
        there = fill(queue)
        for _ in range(2):  # the failed transaction is over
            with pytest.raises(OSError, match="No space left"):
                queue.add(received(there))
        assert queue.counters()["objects_received"] == there
    queue.add(received(there))
    assert queue.counters()["objects_received"] == there + 1


def test_a_sender_is_told_of_a_full_disc_and_may_send_again(tmp_path: Path, queue: Queue) -> None:
    path = next(write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), tmp_path / "ct").iterdir())
    receiver = Receiver(Address("TPSEG", "127.0.0.1", 0, ("A",)), queue, Store(tmp_path, queue, 10**9))
    receiver.open()
    ae = AE("A")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", receiver.port, ae_title="TPSEG")
    try:
        with full(queue):
            fill(queue)
            assert association.send_c_store(path).Status == 0xA700  # out of resources
        assert association.send_c_store(path).Status == 0
    finally:
        association.release()
        receiver.close()


@pytest.mark.parametrize("content", [b"no database, " * 400, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_queue_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "queue.sqlite").write_bytes(content)
    with pytest.raises(StudyError, match=r"queue.sqlite' is damaged .*; move its folder away") as caught:
        Queue(tmp_path / "queue.sqlite", 0.0)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "queue.sqlite").read_bytes() == content


def test_a_truncated_queue_is_one_line(tmp_path: Path, queue: Queue) -> None:
    for n in range(200):
        queue.add(received(n))
    queue.close()
    content = queue.path.read_bytes()
    queue.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StudyError, match="is damaged"):
        Store(tmp_path, Queue(queue.path, 0.0), 100).clear()


def test_studies_without_their_queue_are_not_removed(tmp_path: Path, queue: Queue) -> None:
    """An empty file is a new queue, which knows no study: all of them would be swept."""
    store = Store(tmp_path, queue, 100)
    (store.part / "x").write_bytes(b"0")
    kept = store.take(store.part / "x", "s", "s1", "s0")
    queue.add(received(0))
    queue.close()
    for path in tmp_path.glob("queue.sqlite*"):
        path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(StudyError, match=r"holds studies, but .* was missing or empty"):
            Store(tmp_path, Queue(queue.path, 0.0), 100).clear()
        assert kept.is_file()
