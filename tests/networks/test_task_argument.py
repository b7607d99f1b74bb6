"""No call without a task is for row 0, and a row reaches the picture it was given for."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import EnsembleEvaluator, SupervisedEvaluator
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.engines import PrepareTaskBatch
from monai_tpseg.inferers import DeepSupervisionInferer, TaskInferer
from monai_tpseg.networks import KPrism, Prompt, TPSeg, bind_task, build_network, kprism_demo, tpseg_hiera_demo

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def differing(net: Any) -> Any:
    """Spread the parameters of a new network, so that tasks differ."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return net.eval()


@pytest.fixture(scope="module")
def tpseg() -> TPSeg:
    net: TPSeg = differing(tpseg_hiera_demo(num_tasks=8))
    return net


@pytest.fixture(scope="module")
def kprism() -> KPrism:
    net: KPrism = differing(kprism_demo(num_tasks=8))
    return net


@pytest.fixture(params=["tpseg", "fast", "kprism"])
def net(request: pytest.FixtureRequest, tpseg: TPSeg, kprism: KPrism) -> nn.Module:
    return {"tpseg": tpseg, "fast": tpseg.optimize_for_inference(), "kprism": kprism}[request.param]


CALLS: dict[str, Callable[[nn.Module], Any]] = {
    "call": lambda net: net(IMAGE),
    "None": lambda net: net(IMAGE, None),
    "slices": lambda net: SliceInferer(roi_size=(64, 64), spatial_dim=2)(IMAGE[..., None], net, task=5),
    "windows": lambda net: SlidingWindowInferer(64)(IMAGE, net),
    "simple": lambda net: SimpleInferer()(IMAGE, net),
}


@torch.no_grad()
@pytest.mark.parametrize("call", CALLS)
def test_a_call_without_a_task_raises(net: nn.Module, call: str) -> None:
    with pytest.raises(ValueError, match=r"task must be in 0\.\.7, got None: .*bind_task\(net, task\)"):
        CALLS[call](net)


def test_engines_of_monai_without_a_task_raise(tpseg: TPSeg) -> None:
    loader = DataLoader(Dataset([{"image": IMAGE[0], "label": IMAGE[0, :1], "task": 5}]), batch_size=1)
    common: dict[str, Any] = {"device": torch.device("cpu"), "val_data_loader": loader}
    for engine in (
        SupervisedEvaluator(network=tpseg, **common),
        EnsembleEvaluator(networks=[tpseg], pred_keys=["pred"], **common),
    ):
        engine.logger.setLevel("CRITICAL")
        with pytest.raises(ValueError, match="got None"):
            engine.run()
    ensemble = EnsembleEvaluator(networks=[bind_task(tpseg, 5), bind_task(tpseg, 2)], pred_keys=["a", "b"], **common)
    ensemble.run()
    assert torch.equal(ensemble.state.output[0]["a"], tpseg(IMAGE[:1], 5)[0])
    assert torch.equal(ensemble.state.output[0]["b"], tpseg(IMAGE[:1], 2)[0])


def test_a_training_loop_without_a_task_raises() -> None:
    with pytest.raises(ValueError, match="got None"):
        tpseg_hiera_demo(num_tasks=2).train()(IMAGE, deep_supervision=True)


@pytest.mark.parametrize("task", ["skin_lesion", ["skin_lesion", "wet_amd"], ("wet_amd",)])
def test_names_are_told_what_takes_them(net: nn.Module, task: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: net(IMAGE, task),
        lambda: TaskInferer(64)(IMAGE, net, task=task),
        lambda: PrepareTaskBatch()({"image": IMAGE, "task": task}),
    ]
    if isinstance(net, TPSeg):
        calls += [
            lambda: net.update_prototypes((), IMAGE[:, :1], task),
            lambda: net.segment_tasks(IMAGE, task),
            lambda: net.optimize_for_inference(task),
            lambda: DeepSupervisionInferer()(IMAGE, net, task=task),
        ]
    for call in calls:
        with pytest.raises(ValueError, match=r"task must be .*(skin_lesion|wet_amd|TaskToIndexd)"):
            call()


def test_prompts_by_name_are_told_too(kprism: KPrism) -> None:
    with pytest.raises(ValueError, match=r"task must be in 0\.\.7, got 'skin_lesion'"):
        kprism(IMAGE, Prompt(task="skin_lesion"))  # type: ignore[arg-type]


def test_one_task_needs_no_name() -> None:
    net = differing(tpseg_hiera_demo(num_tasks=1))
    assert torch.equal(net(IMAGE), net(IMAGE, 0))
    several = differing(tpseg_hiera_demo(num_tasks=3))
    fast = several.optimize_for_inference(2)
    assert torch.equal(fast(IMAGE), fast(IMAGE, 2))


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["tpseg", "kprism"])
def test_a_networks_default_is_explicit_and_warned_of_once(architecture: str) -> None:
    backbone = {"tpseg": "hiera_demo", "kprism": "utnet_demo"}[architecture]
    net = differing(build_network(architecture, backbone=backbone, default_task=2))
    with pytest.warns(UserWarning, match=r"No task was given: row 2 \(adenocarcinoma\) is used"):
        first = net(IMAGE)
    assert torch.equal(first, net(IMAGE, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(IMAGE)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exporters_may_call_with_the_image_alone(tpseg: TPSeg) -> None:
    net = copy.deepcopy(tpseg)
    with pytest.warns(UserWarning, match="while the network is exported"):
        traced = torch.jit.trace(net, (IMAGE,), check_trace=False)
    torch.testing.assert_close(traced(IMAGE), net(IMAGE, 0), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("task", ["skin_lesion", " Skin_Lesion ", 7, torch.tensor(7), torch.tensor([7])])
def test_bound_tasks_serve_every_inferer(net: nn.Module, task: Any) -> None:
    bound = bind_task(net, task)
    expected = net(IMAGE, 7)
    assert torch.equal(bound(IMAGE), expected)
    for inferer in (SimpleInferer(), SlidingWindowInferer(64, sw_batch_size=2)):
        torch.testing.assert_close(inferer(IMAGE, bound), expected, atol=1e-5, rtol=1e-5)
    volume = torch.stack([IMAGE, IMAGE.flip(-1)], dim=-1)
    slices = SliceInferer(roi_size=(64, 64), spatial_dim=2, sw_batch_size=3)(volume, bound)
    torch.testing.assert_close(slices[..., 0], expected, atol=1e-5, rtol=1e-5)


def test_bound_tasks_are_checked(tpseg: TPSeg) -> None:
    for task, words in (
        ("melanoma", "Unknown task 'melanoma'; choose one of wet_amd, "),
        (8, r"task must be in 0\.\.7, got 8"),
        (-1, r"task must be in 0\.\.7, got -1"),
        ([1, 2], r"binds one task, got \[1, 2\]"),
        (None, "got None"),
        (1.5, "integer"),
    ):
        with pytest.raises(ValueError, match=words):
            bind_task(tpseg, task)  # type: ignore[arg-type]
    assert bind_task(nn.DataParallel(tpseg), "Skin lesion").row == 7
    assert bind_task(AveragedModel(tpseg), "Skin lesion").row == 7
    bound = bind_task(tpseg, 2)
    for call in (
        lambda: bind_task(bound, 3),
        lambda: TaskInferer(64)(IMAGE, bound, task=3),
        lambda: SlidingWindowInferer(64, with_coord=True)(IMAGE, bound),
    ):
        with pytest.raises(ValueError, match="bound to the task of row 2"):
            call()
    with pytest.raises(ValueError, match="has no names of tasks"):
        bind_task(tpseg_hiera_demo(num_tasks=3), "wet_amd")
    named = build_network(num_tasks=2, backbone="hiera_demo", task_names=("liver", "wet_amd"))
    assert bind_task(named, "wet_amd").row == 1
    assert tpseg.task_names == TASK_NAMES
    with pytest.raises(ValueError, match="2 tasks cannot have 8 names"):
        named.task_names = TASK_NAMES


@torch.no_grad()
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("as_keyword", [False, True])
def test_rows_of_a_batch_never_meet_windows_of_other_pictures(net: nn.Module, size: int, as_keyword: bool) -> None:
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    rows = torch.tensor([1, 5])
    name = "prompt" if isinstance(net, KPrism) else "task"
    more: dict[str, Any] = {name: rows} if as_keyword else {}
    with pytest.raises(ValueError, match=r"2 pictures does not fit the windows .*bind_task"):
        SlidingWindowInferer(64, sw_batch_size=2)(images, net, *(() if as_keyword else (rows,)), **more)


@torch.no_grad()
def test_one_row_for_all_windows_is_right(tpseg: TPSeg) -> None:
    images = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(2))
    inferer = SlidingWindowInferer(64, sw_batch_size=2, overlap=0)
    expected = torch.cat([tpseg(images[..., :64], 5), tpseg(images[..., 64:], 5)], dim=-1)
    for row in (5, torch.tensor(5), torch.tensor([5])):
        torch.testing.assert_close(inferer(images, tpseg, task=row), expected, atol=1e-5, rtol=1e-5)

    def rows_of_windows(windows: Tensor) -> Tensor:  # who knows the rows of each window may give them
        rows = torch.tensor([5, 5]) if len(windows) == 2 else torch.tensor([5])
        result: Tensor = tpseg(windows, rows)
        return result

    torch.testing.assert_close(inferer(images, rows_of_windows), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_prompts_with_places_do_not_go_through_windows(kprism: KPrism) -> None:
    clicks = torch.tensor([[[20.0, 30.0, 1.0]]])
    with pytest.raises(ValueError, match="A Prompt does not fit the windows"):
        SlidingWindowInferer(64)(torch.rand(1, 3, 64, 128), kprism, Prompt(clicks=clicks))


@torch.no_grad()
def test_metadata_passes_through(net: nn.Module) -> None:
    affine = torch.diag(torch.tensor([0.5, 0.7, 1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(IMAGE, affine=affine, meta={"filename_or_obj": "a.png"})
    image.applied_operations = [{"class": "Flip"}]
    for result in (net(image, 3), TaskInferer(32)(image, net, task=3), bind_task(net, 3)(image)):
        assert isinstance(result, MetaTensor)
        assert torch.equal(result.affine, affine)
        assert result.meta["filename_or_obj"] == "a.png"
        assert result.applied_operations == image.applied_operations
    several = TaskInferer(32)(image, net, task=torch.tensor([[3, 1]]))
    assert isinstance(several, MetaTensor)
    assert several.shape == (2, 2, 64, 64)
    result.affine = torch.eye(4)
    assert torch.equal(image.affine, affine)
    assert not isinstance(net(IMAGE, 3), MetaTensor)


def test_training_says_once_that_prototypes_stand_still() -> None:
    net = tpseg_hiera_demo(num_tasks=2).train()
    image, task = torch.rand(1, 3, 32, 32), torch.tensor([0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(99):
            net(image, task)
        net.eval()(image, task)
        with torch.no_grad():
            net.train()(image, task)
    with pytest.warns(UserWarning, match=r"not moved for 100 training steps: call net\.update_prototypes"):
        output = net(image, task, deep_supervision=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            net(image, task)
        net.update_prototypes(output.features, torch.ones(1, 1, 32, 32), task)
        assert net.steps_without_update == 0
        tpseg_hiera_demo(num_tasks=2, decoder="unet").train()(image, task)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["tpseg", "fast", "kprism"])
def test_a_network_that_was_cast_as_a_whole_says_so(name: str, dtype: torch.dtype) -> None:
    plain = differing(kprism_demo(num_tasks=8) if name == "kprism" else tpseg_hiera_demo(num_tasks=8))
    net: Any = plain.optimize_for_inference() if name == "fast" else plain
    before = net(IMAGE, 5)
    for image in (IMAGE, IMAGE.to(dtype)):
        with pytest.raises(ValueError, match=f"weights were cast to {dtype}: call"):
            net.to(dtype)(image, 5)
    if name != "fast":  # whose float32 parts are packed for good
        assert torch.allclose(net.float()(IMAGE, 5), before, atol=0.5)
    with pytest.raises(ValueError, match=r"image must be float.*got torch.uint8"):
        (net.float() if name != "fast" else plain.optimize_for_inference())((255 * IMAGE).byte(), 5)


@torch.no_grad()
def test_images_of_another_type(tpseg: TPSeg, kprism: KPrism) -> None:
    for net in (tpseg, kprism):
        with pytest.raises(ValueError, match=r"image must be float32, .*got torch.float64; call image.float"):
            net(IMAGE.double(), 5)
        with torch.autocast("cpu", torch.bfloat16):
            assert net(IMAGE.bfloat16(), 5).isfinite().all()
