"""The path through a GPU, on machines without one: where it would mix devices, wait, or refuse a type (`fake_cuda`).

Its autograd engine needs a real one, so gradients are followed on `meta`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_tpseg.bundle.config import prepare_network
from monai_tpseg.engines import PreparePromptBatch, PrepareTaskBatch, TaskAdamW, parameter_groups
from monai_tpseg.inferers import DeepSupervisionInferer, PromptInferer, TaskInferer, task_inferer
from monai_tpseg.inferers.task_inferer import Amp
from monai_tpseg.losses import TPSegLoss
from monai_tpseg.networks import KPrism, Prompt, TPSeg, kprism_demo, tpseg_hiera, tpseg_hiera_demo
from monai_tpseg.networks.fast.inference_form import fast_form, network_for_inference, segment_several
from monai_tpseg.networks.fast.inference_network import InferenceNetwork
from tests.fake_cuda import Copies, fake_cuda

CUDA = "cuda"
TASKS = torch.tensor([0, 1])
SIZE = (2, 3, 64, 64)
LOSS = TPSegLoss(contrastive_weight=0.1)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Iterator[Copies]:
    with fake_cuda(monkeypatch) as counter:
        yield counter


def real(make: Any, *args: Any, **kwargs: Any) -> Any:
    """Make a network with values, on the CPU: sam2 reads some while it is built."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily():
        return make(*args, **kwargs)


def on_gpu(net: Any, copies: Copies, **options: Any) -> Any:
    net = prepare_network(net, CUDA, channels_last=True, **options)
    copies.down = copies.waited = 0
    return net


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(SIZE, device=CUDA), torch.ones(SIZE[0], 1, *SIZE[2:], device=CUDA)


def assert_never_waits(copies: Copies, *results: Tensor) -> None:
    assert {x.device.type for x in results} == {CUDA}
    assert (copies.down, copies.waited) == (0, 0)


def test_the_harness_sees_what_it_is_for(copies: Copies) -> None:
    x, host = torch.randn(3, device=CUDA), torch.randn(3)
    assert float((host + 1).sum()) != 0  # the CPU's tensors have values
    with pytest.raises(Exception, match="device"):
        x + host
    for read in (lambda: float(x.sum()), lambda: bool((x > 0).any()), lambda: x.tolist(), lambda: x[x > 0]):
        with pytest.raises(torch._subclasses.fake_tensor.DataDependentOutputException.__mro__[1]):
            read()
    assert (copies.down, copies.waited) == (0, 0)
    x.cpu(), host.to(CUDA), host.to(CUDA, non_blocking=True), torch.zeros(3).copy_(x)
    assert (copies.down, copies.up, copies.waited) == (2, 2, 1)
    torch.arange(3, device=CUDA), torch.zeros(3, device=CUDA)
    assert copies.up == 2
    torch.tensor([1.0, 2.0], device=CUDA)  # made on the host
    assert copies.up == 3


@pytest.mark.parametrize(("layout", "amp"), [("paper", "none"), ("paper", "fp16"), ("released", "bf16")])
def test_training_step(layout: Any, amp: Amp, copies: Copies) -> None:
    net: TPSeg = on_gpu(real(tpseg_hiera, "hiera_demo", 3, layout=layout, freeze_encoder=False).train(), copies)
    image, label = batch()
    output = DeepSupervisionInferer(amp)(image, net, task=TASKS)
    with torch.autocast(CUDA, torch.float16, enabled=amp == "fp16"):  # as MONAI's trainer has it
        loss = LOSS(output, label)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer = TaskAdamW(parameter_groups(net, 1e-3, 5e-3, 0.01), lr=1e-3, fused=True)
    optimizer.step()
    optimizer.step()
    net.update_prototypes(output.features, label, TASKS, norm.isfinite())
    assert net.encoder.gate is None or layout == "paper"
    if net.encoder.gate is not None:
        net.encoder.gate.set_temperature(0.5)
        net.encoder.gate.set_hard(True)
        net(image, TASKS)
    # what a rounding would spoil: the vote at temperature 0.1, sums over 31 x 31 pixels, prototypes
    assert {x.dtype for x in (loss, output.side_logits[0], *output.features, norm)} == {torch.float32}
    states = [x for state in optimizer.state.values() for x in state.values()]
    assert_never_waits(copies, loss, *states, *net.state_dict().values())


def test_a_run_goes_on_from_a_file_of_the_cpu(copies: Copies) -> None:
    def saved() -> Any:
        net = tpseg_hiera_demo(3).train()
        optimizer = TaskAdamW(parameter_groups(net, 1e-3), lr=1e-3, fused=True)
        output = net(torch.randn(SIZE), TASKS, deep_supervision=True)
        output.logits.mean().backward()
        optimizer.step()
        file = io.BytesIO()
        torch.save((net.state_dict(), optimizer.state_dict()), file)
        return torch.load(io.BytesIO(file.getvalue()), map_location="cpu", weights_only=True)

    weights, state = real(saved)
    net = on_gpu(real(tpseg_hiera_demo, 3).train(), copies)
    optimizer = TaskAdamW(parameter_groups(net, 1e-3), lr=1e-3, fused=True)
    copies.readable = True  # whether the gates are hard
    net.load_state_dict(weights)
    copies.readable = False
    optimizer.load_state_dict(state)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    copies.down = 0
    optimizer.step()
    assert copies.down == 0
    assert {x.device.type for x in net.state_dict().values()} == {CUDA}
    assert {x.device.type for state in optimizer.state.values() for x in state.values()} == {CUDA}


def fast_networks(copies: Copies, dtype: torch.dtype, built_on: str) -> tuple[TPSeg, InferenceNetwork]:
    net: TPSeg = real(tpseg_hiera_demo, 3).eval()
    assert net.encoder.gate is not None
    real(net.encoder.gate.set_hard, True)
    if built_on == "cpu":
        fast = real(net.optimize_for_inference, dtype=dtype).to(CUDA)
        net = net.to(CUDA)
    else:
        net = net.to(CUDA)
        copies.readable = True  # where the tasks split, and the numbers of the vote
        fast = net.optimize_for_inference(dtype=dtype)
        copies.readable = False
    copies.down = copies.waited = 0
    return net, fast


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "built_on"), [(torch.bfloat16, "cpu"), (torch.float16, CUDA)])
def test_network_for_inference(dtype: torch.dtype, built_on: str, copies: Copies) -> None:
    _, fast = fast_networks(copies, dtype, built_on)
    image = torch.randn(SIZE, device=CUDA)
    results = [fast(image, 1), fast(image, torch.tensor([1, 1])), fast(image, TASKS), fast.segment_tasks(image, [0, 2])]
    assert {x.dtype for x in results} == {torch.float32}
    assert fast.blocks[0].norm1.weight.dtype == fast.blocks[0].qkv.weight.dtype == dtype
    assert_never_waits(copies, *results, *fast.state_dict().values())
    with pytest.raises(Exception, match="local_scalar_dense"):  # said in the documentation
        fast(image, TASKS.to(CUDA))


@torch.no_grad()
def test_back_on_a_cpu_norms_are_in_float32_again(copies: Copies) -> None:
    _, fast = fast_networks(copies, torch.bfloat16, "cpu")
    fast = fast.to("cpu")
    assert fast.blocks[0].norm1.weight.dtype == torch.float32
    assert fast.blocks[0].qkv.weight.dtype == torch.bfloat16


@torch.no_grad()
@pytest.mark.parametrize("plain", [False, True])
def test_inferer_waits_for_its_results_alone(plain: bool, copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    net, fast = fast_networks(copies, torch.float32, "cpu")
    run = net if plain else fast
    monkeypatch.setattr(task_inferer, "prefetch", lambda items, make: [(x, make(x)) for x in items])  # in this thread
    volume, several = torch.randn(1, 3, 50, 60, 5), torch.tensor([[0, 2]])
    on_host = TaskInferer(64, slice_batch=2, device=CUDA)(volume, run, task=TASKS[:1])
    assert on_host.device.type == "cpu"
    assert (copies.down, copies.waited) == (3, 0)  # three batches of slices
    copies.down = 0
    if not plain:
        TaskInferer(64, slice_batch=5, device=CUDA, tta_flips=True, half=True)(volume, run, task=several)
        TaskInferer(64, slice_batch="auto", device=CUDA)(volume, run, task=1)
        assert (copies.down, copies.waited) == (2, 0)
        copies.down = 0
    picture = volume[..., 0].to(CUDA)
    assert TaskInferer(64)(picture, run, task=TASKS[:1]).device.type == CUDA
    assert copies.down == 0
    copies.readable = True  # MONAI reads the least weight of its windows
    sliding = TaskInferer(64, window="sliding", amp="bf16" if plain else "none", sw_batch_size=1)
    assert sliding(picture, run, task=TASKS[:1]).device.type == CUDA


@torch.no_grad()
def test_fast_form_at_half_precision(copies: Copies) -> None:
    net, _ = fast_networks(copies, torch.float32, "cpu")
    copies.readable = True
    assert not fast_form(net, "fp16").why_plain
    copies.readable = False
    plain = network_for_inference(real(kprism_demo, num_tasks=3).to(CUDA), "bf16")
    copies.down = copies.waited = 0
    image = torch.randn(SIZE, device=CUDA)
    assert_never_waits(copies, plain.network(image, 1), segment_several(plain.network, image, [0, 2]))


@pytest.mark.parametrize(("given", "amp"), [("cpu", None), (CUDA, torch.float16)])
def test_kprism(given: str, amp: torch.dtype | None, copies: Copies) -> None:
    net: KPrism = on_gpu(real(kprism_demo, num_tasks=3), copies)
    clicks = torch.tensor([[[5, 7, 1], [40, 60, -1.0]], [[0, 0, 1], [30, 10, -1.0]]]).to(given, non_blocking=True)
    shown = {
        "exemplar_image": torch.randn(2, 2, 3, 64, 64, device=CUDA),
        "exemplar_label": torch.ones(2, 2, 1, 64, 64, device=CUDA),
    }
    previous, task = torch.randn(2, 1, 64, 64, device=CUDA), TASKS.to(given, non_blocking=True)
    prompts = [
        Prompt(task=task),
        Prompt(**shown),
        Prompt(clicks=clicks, previous_logits=previous),
        Prompt(previous_logits=previous),
        Prompt(task=task, clicks=clicks, **shown),
    ]
    image = torch.randn(SIZE, device=CUDA)
    copies.down = copies.up = copies.waited = 0
    for prompt in prompts:
        with torch.autocast(CUDA, amp or torch.bfloat16, enabled=amp is not None):
            output = net.decode(net.encode(image), prompt, deep_supervision=True)
        assert_never_waits(copies, output.logits, *output.side_logits)
    assert copies.up == 0 or given == "cpu"  # no pass makes a small tensor on the host


@torch.no_grad()
def test_prompt_inferer(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_inferer, "prefetch", lambda items, make: [(x, make(x)) for x in items])
    net = on_gpu(real(kprism_demo, num_tasks=3), copies)
    shown = {"exemplar_image": torch.randn(1, 2, 3, 64, 64), "exemplar_label": torch.ones(1, 2, 1, 64, 64)}
    found = PromptInferer(64, slice_batch=2, device=CUDA)(torch.randn(1, 3, 50, 60, 3), net, **shown)
    assert found.device.type == "cpu"
    assert (copies.down, copies.waited) == (2, 0)


def test_batches_leave_the_rows_on_the_host(copies: Copies) -> None:
    data = {"image": torch.randn(SIZE), "label": torch.ones(2, 1, 64, 64), "task": TASKS, "clicks": torch.ones(2, 1, 3)}
    for prepare in (PrepareTaskBatch(), PreparePromptBatch(label=True)):
        image, label, _, more = prepare(data, CUDA, non_blocking=True)
        assert (image.device.type, label.device.type, more["task"].device.type) == (CUDA, CUDA, "cpu")
    assert more["clicks"].device.type == more["label"].device.type == CUDA
    assert copies.waited == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"layout": "released"}, {"decoder": "unet"}, {"adapter": "lora"}, {"adapter": "plain"}, {"without_pgtd": [1]}],
)
def test_gradients_without_values(options: dict[str, Any]) -> None:
    net: TPSeg = tpseg_hiera("hiera_demo", 3, freeze_encoder=False, **options).train().to("meta")
    net.checkpoint_activations(options == {})
    image, label = torch.randn(SIZE, device="meta"), torch.ones(2, 1, 64, 64, device="meta")
    output = net(image, TASKS.to("meta"), deep_supervision=True)
    TPSegLoss()(output, label).backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    TaskAdamW(parameter_groups(net, 1e-3), lr=1e-3).step()
    net.update_prototypes(output.features, label, TASKS.to("meta"), norm.isfinite())
    missing = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert {p.grad.device.type for p in net.parameters() if p.grad is not None} == {"meta"}
