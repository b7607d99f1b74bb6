"""Best and last checkpoint, and what a resume refuses."""

from __future__ import annotations

import errno
import io
import os
import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from monai_tpseg.handlers import RunCheckpoint
from monai_tpseg.networks import tpseg_hiera_demo
from monai_tpseg.networks.checkpoint import CheckpointError, content_sha256, read_checkpoint, write_checkpoint
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from tests.full_disc import largest_file

INFO = WeightsInfo(tasks=("a",), network={"backbone": "hiera_demo"}, image_size=(32, 32))


def run(
    folder: Path,
    scores: list[float],
    epochs: int | None = None,
    stop_after: int = 0,
    hard_from: int = 0,
    **options: Any,
) -> Engine:
    """Run an engine whose validation gives `scores`; the fusion weight holds the number of the epoch."""
    net = tpseg_hiera_demo(num_tasks=1)
    engine, evaluator = Engine(lambda e, b: None), Engine(lambda e, b: None)
    engine.network, engine.scaler = net, None
    engine.optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    @engine.on(Events.EPOCH_COMPLETED)
    def validate(engine: Engine) -> None:
        with torch.no_grad():
            net.fusion.task_weight.fill_(engine.state.epoch)
        net.encoder.gate.set_hard(engine.state.epoch >= hard_from)
        if scores:
            evaluator.run([0], max_epochs=1)

    evaluator.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update({"dice/mean": scores[engine.state.epoch - 1]})
    )
    RunCheckpoint(str(folder), INFO, evaluator, **options).attach(engine)

    @engine.on(Events.EPOCH_COMPLETED)
    def stop(engine: Engine) -> None:
        if engine.state.epoch == stop_after:
            raise KeyboardInterrupt

    engine.run([0, 1], max_epochs=epochs or len(scores))
    return engine


def kept_epoch(folder: Path) -> int:
    return int(read_checkpoint(folder / "model.pt")["fusion.task_weight"][0, 0])


def test_the_best_epoch_is_kept_with_its_description(tmp_path: Path) -> None:
    run(tmp_path, [0.3, 0.7, 0.5])
    assert kept_epoch(tmp_path) == 2
    assert read_info(tmp_path / "model.pt", verify=True).training == {"epoch": 2, "dice/mean": 0.7}
    assert read_checkpoint(tmp_path / "last.pt")["epoch"] == 3


def test_epochs_with_hard_gates_go_first(tmp_path: Path) -> None:
    run(tmp_path, [0.9, 0.5, 0.6, 0.55], hard_from=2)
    assert kept_epoch(tmp_path) == 3


def test_the_best_is_remembered_over_a_resume(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [0.9, 0.2, 0.4], stop_after=1)
    engine = run(tmp_path, [0.9, 0.2, 0.4], resume=True)
    assert engine.state.epoch == 3
    assert engine.state.iteration == 6
    assert kept_epoch(tmp_path) == 1


def test_without_validation_the_last_weights_are_written(tmp_path: Path) -> None:
    run(tmp_path, [], epochs=2)
    assert kept_epoch(tmp_path) == 2
    assert read_info(tmp_path / "model.pt").training["dice/mean"] is None


def test_auto_resume_starts_anew_without_a_run(tmp_path: Path) -> None:
    assert run(tmp_path, [0.1], resume="auto").state.epoch == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch_length": 5}, "has 5 iterations an epoch, this run 2"),
        ({"network": {"x": torch.zeros(1)}}, "does not fit this network"),
        ({"max_epochs": 9}, "run over 9 epochs, this one has 2"),
        ({"tasks": ["b"]}, "run on b; resume with the same tasks"),
        ({"epoch": None}, "not the state of a run: it has no epoch"),
    ],
)
def test_a_state_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [0.1, 0.2], stop_after=1)
    state = {**torch.load(tmp_path / "last.pt", weights_only=True), **change}
    state = {k: v for k, v in state.items() if v is not None and k != "sha256"}
    torch.save({**state, "sha256": content_sha256(state)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=message):
        run(tmp_path, [0.1, 0.2], resume=True)


def test_unknown_resume() -> None:
    with pytest.raises(ValueError, match="Unknown resume 'maybe'; choose one of true, false, auto"):
        RunCheckpoint("x", INFO, SimpleNamespace(), resume="maybe")


def damaged(path: Path, where: int) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


def test_a_changed_bit_of_the_state_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [0.1, 0.2], stop_after=1)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    value = state["network"]["encoder.trunk.patch_embed.proj.weight"].numpy().tobytes()
    content = (tmp_path / "last.pt").read_bytes()
    damaged(tmp_path / "last.pt", content.index(value) + 100)
    with pytest.raises(CheckpointError, match=r"last\.pt' is damaged: its digest differs"):
        run(tmp_path, [0.1, 0.2], resume=True)
    (tmp_path / "last.pt").write_bytes(content)
    assert run(tmp_path, [0.1, 0.2], resume=True).state.epoch == 2


def test_a_state_without_a_digest_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [0.1, 0.2], stop_after=1)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    del state["sha256"]
    torch.save(state, tmp_path / "last.pt")
    assert run(tmp_path, [0.1, 0.2], resume=True).state.epoch == 2
    assert "has no digest" in caplog.text


def test_the_digest_is_of_every_value() -> None:
    base = {"a": torch.tensor([1.0, 2.0]), "b": [1, (2.5, None)], "c": {"d": torch.tensor(3, dtype=torch.bfloat16)}}
    others: list[dict[str, Any]] = [
        {**base, "a": torch.tensor([1.0, 2.0000002])},
        {**base, "a": torch.tensor([[1.0, 2.0]])},
        {**base, "a": torch.tensor([1.0, 2.0], dtype=torch.float64)},
        {**base, "b": [1, (2.5, 0)]},
        {**base, "c": {"e": torch.tensor(3, dtype=torch.bfloat16)}},
    ]
    assert content_sha256({**base, "a": base["a"].clone()}) == content_sha256(base)
    assert len({content_sha256(one) for one in (base, *others)}) == 6


def test_what_killed_runs_left_is_swept(tmp_path: Path) -> None:
    left = [tmp_path / f".4711-{name}" for name in ("last.pt", "model.pt", "model.json")]
    others = [tmp_path / name for name in (".4711-history.json", ".hidden", "notes-last.pt")]
    for file in (*left, *others):
        file.write_bytes(b"half of it")
    run(tmp_path, [0.1])
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in others)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disc_is_an_os_error_and_leaves_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A disc cannot be filled here, but a file's largest size can be set: writing then fails in the same place."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [0.1, 0.2], stop_after=1)
    before = (tmp_path / "last.pt").read_bytes()
    room: AbstractContextManager[None] = nullcontext() if number == errno.ENOSPC else largest_file(10_000)
    if number == errno.ENOSPC:

        class Full(io.RawIOBase):
            def writable(self) -> bool:
                return True

            def write(self, data: Any) -> int:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("builtins.open", lambda *args, **kwargs: Full())
    try:
        with room, pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
            write_checkpoint({"a": torch.zeros(100_000)}, tmp_path / "x.pt")
    finally:
        monkeypatch.undo()
    assert caught.value.errno == number
    assert (tmp_path / "last.pt").read_bytes() == before
