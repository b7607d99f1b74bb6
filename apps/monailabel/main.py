"""TP-Seg and K-Prism for MONAI Label: tasks, clicks, training and what to label next; see docs/monailabel.md."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.random import Random

from monai_tpseg.catalogue import TASK_NAMES, get_title
from monai_tpseg.files import write_atomically
from monai_tpseg.label_app.answers import answer_clicks, answer_task
from monai_tpseg.label_app.choose import worst_first
from monai_tpseg.label_app.corrected import write_corrected
from monai_tpseg.label_app.models import Models
from monai_tpseg.training import TrainOptions, train

KPRISM = "kprism_clicks"
TRAINER = "tpseg"
STRATEGY = "expected_dice"


class SegmentTask(InferTask):
    """A task of TP-Seg: an image in, its lesions out."""

    def __init__(self, models: Models, task: str) -> None:
        title = get_title(task)
        super().__init__(InferType.SEGMENTATION, {title: 1}, 3, f"TP-Seg: {title}. Research use only.")
        self.models, self.task = models, task

    def is_valid(self) -> bool:
        """Whether the weights know the task."""
        return self.task in self.models.tasks

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the file of the mask and what is said about it."""
        folder = Path(tempfile.mkdtemp())
        path, said = answer_task(self.models.tpseg(), Path(request["image"]), self.task, request, folder)
        return str(path), said


class ClickTask(InferTask):
    """K-Prism: clicks in and outside of a lesion, as the SmartEdit of 3D Slicer and OHIF send them."""

    def __init__(self, models: Models, tasks: tuple[str, ...], default: str) -> None:
        first = [default] if default else []
        config = {"task": [*first, *(task for task in tasks if task not in first)], "propagate": False}
        super().__init__(InferType.DEEPGROW, [], 2, "K-Prism: click on a lesion. Research use only.", config)
        self.models = models

    def is_valid(self) -> bool:
        """Clicks are always answered."""
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the file of the mask and what is said about it."""
        task = request.get("task") or self.config()["task"][0]
        task = task[0] if isinstance(task, list) else task
        folder = Path(tempfile.mkdtemp())
        path, said = answer_clicks(self.models.kprism(), Path(request["image"]), task, request, folder)
        return str(path), said


class TrainOnLabels(TrainTask):
    """The training of `tpseg train` on the labels that people have finished."""

    def __init__(self, models: Models, tasks: tuple[str, ...]) -> None:
        super().__init__("TP-Seg on the labels of this server, from the weights that it segments with")
        self.models, self.tasks = models, tasks

    def config(self) -> dict[str, Any]:
        """What a viewer shows and may change."""
        return {"task": list(self.tasks), "minutes": 10.0, "batch_size": 8, "epochs": 0, "device": ""}

    def stats(self) -> dict[str, Any]:
        """Dice before and after of the last training."""
        path = self.models.folder / "stats.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, and segment with the new weights from then on."""
        given = {**self.config(), **request}
        task = given["task"][0] if isinstance(given["task"], list) else given["task"]
        out = self.models.folder / f"{task}_{time.strftime('%Y%m%d_%H%M%S')}"
        out.mkdir(parents=True)
        tag = DefaultLabelTag.FINAL
        ids = datastore.get_labeled_images(tag)
        entries = [
            (datastore.get_image_uri(one), datastore.get_label_uri(one, tag), datastore.get_label_info(one, tag))
            for one in ids
        ]
        images = write_corrected(entries, task, out / "labels.json")
        asked = TrainOptions(
            data=str(out / "labels.json"), checkpoint=self.models.weights, minutes=float(given["minutes"]),
            epochs=int(given["epochs"]), batch_size=int(given["batch_size"]), device=given.get("device") or "",
        )  # fmt: skip
        done = train(asked, out / "run")
        self.models.publish(done.weights)
        stats = {"task": task, "images": images, "before": done.before, "after": done.after}
        write_atomically(self.models.folder / "stats.json", (json.dumps(stats, indent=1) + "\n").encode())
        return stats


class WorstFirst(Strategy):
    """The image whose mask is expected to be worst, where the weights say what Dice to expect."""

    def __init__(self, models: Models, task: str) -> None:
        super().__init__("Image with the lowest expected Dice")
        self.models, self.task = models, task

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the image to label next."""
        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        if not images:
            return None
        model, task = self.models.tpseg(), request.get("task") or self.task
        key = f"expected_dice {task} {model.info.sha256[:16]}"
        infos = {image: datastore.get_image_info(image) for image in images}
        known = {image: info[key] for image, info in infos.items() if key in info}

        def expect(image: str) -> float | None:
            dice = model.segment(Path(datastore.get_image_uri(image)), task).trust.dice
            return None if dice is None else round(dice.value, 4)

        order, found = worst_first(images, known, expect, int(request.get("limit", 20)))
        for image in found.keys() - known.keys():
            datastore.update_image_info(image, {key: found[image]})
        return {"id": order[0], "weight": found.get(order[0]), "task": task}


class TPSegApp(MONAILabelApp):
    """The app; `--conf` takes `task` (the one that is meant where nobody names one), `weights`, `kprism`, `device`."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.models = Models(
            Path(app_dir) / "model", conf.get("weights", ""), conf.get("kprism", ""), conf.get("device", "")
        )
        self.task = conf.get("task", "")
        if self.task and self.task not in self.models.tasks:
            raise ValueError(f"Unknown task {self.task!r} of --conf; choose one of {', '.join(self.models.tasks)}.")
        super().__init__(app_dir, studies, conf, "TP-Seg", "Lesions of eight tasks, by TP-Seg and by clicks (K-Prism)")

    def _tasks(self) -> tuple[str, ...]:
        """The tasks, the one of `--conf` first."""
        tasks = self.models.tasks or TASK_NAMES
        return tuple(dict.fromkeys([*([self.task] if self.task else []), *tasks]))

    def init_infers(self) -> dict[str, InferTask]:
        """Each task of TP-Seg, and K-Prism."""
        tasks = self._tasks()
        segment = {f"tpseg_{task}": SegmentTask(self.models, task) for task in tasks}
        return {**segment, KPRISM: ClickTask(self.models, tasks, self.task)}

    def init_trainers(self) -> dict[str, TrainTask]:
        """One, for any task."""
        return {TRAINER: TrainOnLabels(self.models, self._tasks())}

    def init_strategies(self) -> dict[str, Strategy]:
        """Chance, and the lowest expected Dice of the task of `--conf`."""
        chosen: dict[str, Strategy] = {"random": Random()}
        return {STRATEGY: WorstFirst(self.models, self.task), **chosen} if self.task else chosen
