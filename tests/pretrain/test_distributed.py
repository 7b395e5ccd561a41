"""Two processes against one with the doubled batch: losses, gradients, statistics, and whole runs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn

from pretrain.distributed import (
    SyncBatchNorm2d,
    begin,
    first_alone,
    gather,
    rank,
    sync_batch_norm,
    world_size,
)
from pretrain.errors import InputError
from pretrain.images import ImageSet
from pretrain.methods import METHODS, method_class
from pretrain.methods.base import Method
from pretrain.run import ImageDataset, Pretraining, make_method, pretrain
from pretrain.sampler import StepSampler
from pretrain.settings import PretrainConfig, schema
from pretrain.split_norm import split_batch_norm

BATCH, SIDE, STEPS = 8, 16, 3  # of all processes together
CASES: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "rotation": ("rotation", True, {}),
    "simclr": ("simclr", True, {"head_norm": True}),
    "simclr in chunks": ("simclr", False, {"chunk": 4}),
    "moco": ("moco", True, {"batch_norm": "sync", "queue": 13, "momentum": 0.5}),
    "moco shuffled": ("moco", True, {"batch_norm": "shuffle", "queue": 13, "momentum": 0.5}),
}
WHOLE = [name for name in METHODS if name not in ("rotation", "simclr", "moco")]  # with their own backbones


class Tiny(nn.Module):
    """Two convolutions, with batch norm if wanted."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.channels, self.strides = {"layer1": 12}, {"layer1": 4}
        between = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=not norm), between, nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"layer1": self.net(images - 0.5)}


def pictures(side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, side, side, 3), dtype=np.uint8)


def share(value: Tensor) -> Tensor:
    """The mean over the processes, as DistributedDataParallel takes it of gradients."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value / world_size()


def tiny_config(name: str, batch: int, steps: int) -> PretrainConfig:
    """A config under which any method is a matter of a second."""
    nets: dict[str, Any] = {"mae": {"arch": "vit_tiny", "patch": 4}}
    own: dict[str, Any] = {"jigsaw": {"permutations": 4, "hidden": 16}, "moco": {"queue": 16}}
    side = 32 if name in ("jigsaw", "relative_patch") else SIDE  # tiles need room
    return schema(name).model_validate(
        {
            "data": {"size": side},
            "backbone": nets.get(name, {"share": 0.125}),
            "optimizer": {"batch": batch, "steps": steps, "warmup_steps": 0},
            "engine": {"precision": "32", "log_every": 1},
            name: own.get(name, {}),
        }
    )


def make(case: str) -> tuple[Method, PretrainConfig]:
    """The method of a case, and a config."""
    torch.manual_seed(0)
    if case in WHOLE:
        config = tiny_config(case, BATCH // world_size(), 1)
        method = make_method(config)
        method.prepare(pictures(config.data.side()), 0)
        return method, config
    name, norm, settings = CASES[case]
    if case == "moco shuffled":
        settings = {**settings, "splits": 4 // world_size()}  # parts are those of each process
    optimizer = {"batch": BATCH // world_size(), "steps": STEPS}
    kind = method_class(name)
    method = kind(Tiny(norm), kind.Settings(**settings), SIDE)
    return method, schema(name).model_validate({"optimizer": optimizer})


def train(case: str, folder: Path) -> dict[str, Tensor]:
    """Some steps of a case: losses and gradients of each, and the state at the end."""
    method, config = make(case)
    if world_size() > 1:
        sync_batch_norm(method)
    side = config.data.side() if case in WHOLE else SIDE
    module, data = Pretraining(method, config, folder), ImageDataset(pictures(side))
    steps = config.optimizer.steps
    sampler = StepSampler(
        len(data), config.optimizer.batch, steps, config.seed, rank=rank(), world=world_size()
    )
    found: dict[str, Tensor] = {}
    for step, draws in enumerate(sampler):
        method.zero_grad()
        loss = module.training_step(data.batch([data[draw] for draw in draws]), step)
        loss.backward()
        found[f"{step} loss"] = share(loss.detach().clone())
        for key, parameter in method.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None
                parameter.grad = found[f"{step} {key}"] = share(parameter.grad)
                parameter.data -= 0.1 * parameter.grad
        method.after_step(step + 1, steps)
    return found | {f"state {key}": value.clone() for key, value in method.state_dict().items()}


def normalise(shape: tuple[int, ...], centre: float) -> dict[str, Tensor]:
    """A batch norm of random values of all processes, with its gradients and statistics."""
    generator = torch.Generator().manual_seed(len(shape))
    x, weight = (3 * torch.randn(2, *shape, generator=generator) for _ in range(2))
    layer = nn.BatchNorm1d(shape[1]) if len(shape) == 2 else nn.BatchNorm2d(shape[1])
    nn.init.normal_(layer.weight, generator=generator)
    nn.init.normal_(layer.bias, generator=generator)
    norm: Any = nn.ModuleList([layer])
    (layer,) = sync_batch_norm(norm) if world_size() > 1 else norm
    own = slice(rank(), rank() + 1) if world_size() > 1 else slice(None)
    x, weight = (centre + x[own]).flatten(0, 1).requires_grad_(), weight[own].flatten(0, 1)
    for _ in range(2):
        y = layer(x)
    gradients = torch.autograd.grad((weight * y * y).sum(), [x, layer.weight, layer.bias])
    found = {"y": gather(y.detach()), "x": gather(gradients[0])}
    # Those of the parameters are sums over the processes, for which no one divides here.
    found |= {"weight": share(gradients[1]) * world_size(), "bias": share(gradients[2]) * world_size()}
    return found | {key: value.clone() for key, value in layer.named_buffers()}


def run_config(workers: int) -> PretrainConfig:
    return schema("moco").model_validate(
        {
            "data": {"size": 8, "stored": SIDE},
            "optimizer": {
                "name": "sgd",
                "steps": 2,  # more would magnify what is lost in rounding
                "batch": BATCH // workers,
                "warmup_steps": 0,
                "learning_rate": 0.03,
            },
            "engine": {"precision": "32", "log_every": 1},
            "moco": {"batch_norm": "sync", "queue": 13, "momentum": 0.5},
        }
    )


def run(folder: Path) -> None:
    """The real thing: a ResNet under Lightning."""
    images = ImageSet(pictures(), None, (), tuple(f"{number}.png" for number in range(20)))
    pretrain(lambda data: images, run_config(world_size()), folder, device="cpu")


def refuse() -> str:
    """What each process says if the first one fails."""

    def work() -> None:
        if rank() == 0:
            raise InputError("the folder is full.")

    try:
        first_alone(work)
    except InputError as error:
        return str(error)
    return "nothing"


NORMS: dict[str, tuple[tuple[int, ...], float]] = {
    "vectors": ((5, 4), 1.0),
    "maps": ((3, 4, 6, 5), -1.0),
    "maps far from zero": ((3, 4, 6, 5), 1000.0),  # where sums of squares are too coarse in float32
}


def everything(folder: Path) -> None:
    """What one of two processes does."""
    begin(torch.device("cpu"))
    torch.set_num_threads(1)
    found: dict[str, Any] = {case: train(case, folder) for case in [*CASES, *WHOLE]}
    found |= {name: normalise(*values) for name, values in NORMS.items()}
    found["error"] = refuse()
    rows = torch.full((2, 3), float(rank() + 1), requires_grad=True)
    gathered = gather(rows)
    (gathered * torch.arange(12.0).view(4, 3) * (rank() + 1)).sum().backward()
    found["gathered"], found["gradient"] = gathered.detach(), rows.grad
    torch.save(found, folder / f"{rank()}.pt")
    run(folder / "run")
    dist.destroy_process_group()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the processes have: a net of maps of one place magnifies that threads sum in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    """What each of two processes found, and the folder of their run."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launch, __file__, str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"{number}.pt") for number in range(2)], folder / "run"


Two = tuple[list[dict[str, Any]], Path]


@pytest.mark.filterwarnings("ignore:You are trying to .self.log")  # it works without a trainer
@pytest.mark.parametrize("case", [*CASES, *WHOLE])
def test_losses_and_gradients_are_those_of_the_doubled_batch(case: str, two: Two, tmp_path: Path) -> None:
    expected = train(case, tmp_path)
    for found in two[0]:
        assert list(found[case]) == list(expected)
        for key, value in expected.items():
            if case == "moco shuffled" and "running" in key:
                continue  # the statistics of the parts of one process
            allowed = 1e-6 + 1e-4 * float(value.abs().max())
            assert float((found[case][key] - value).abs().max()) < allowed, key
    assert all(bool(expected[key].any()) for key in expected if key.endswith("net.0.weight"))


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_is_that_of_all_processes(name: str, two: Two) -> None:
    expected = normalise(*NORMS[name])
    for found in two[0]:
        assert list(found[name]) == list(expected)
        for key, value in expected.items():
            assert torch.allclose(found[name][key], value, rtol=1e-3, atol=2e-3), key


def test_rows_are_gathered_in_order_and_gradients_come_back(two: Two) -> None:
    rows = torch.tensor([1.0, 1, 2, 2])[:, None].expand(4, 3)
    weights = 3 * torch.arange(12.0).view(2, 2, 3)  # 1 + 2 times: from the losses of both processes
    for number, found in enumerate(two[0]):
        assert torch.equal(found["gathered"], rows)
        assert torch.equal(found["gradient"], weights[number])


def test_a_failure_of_the_first_process_is_that_of_all(two: Two) -> None:
    assert [found["error"] for found in two[0]] == ["the folder is full."] * 2


def test_a_run_of_two_processes_ends_with_the_weights_of_one(two: Two, tmp_path: Path) -> None:
    run(tmp_path / "run")
    expected, found = (load_file(str(folder / "model.safetensors")) for folder in (tmp_path / "run", two[1]))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        allowed = 1e-5 + 1e-4 * float(value.abs().max())
        assert float((found[key] - value).abs().max()) < allowed, key
    logs = [
        [json.loads(line) for line in (folder / "log.jsonl").open()] for folder in (tmp_path / "run", two[1])
    ]
    assert [len(log) for log in logs] == [2, 2]  # the first process alone writes
    for step, of_two in zip(*logs, strict=True):
        assert of_two["loss"] == pytest.approx(step["loss"], rel=1e-4)  # and it writes that of both


def test_alone_nothing_is_exchanged() -> None:
    assert (world_size(), rank()) == (1, 0)
    x = torch.rand(3, 2)
    assert gather(x) is x
    assert refuse() == "the folder is full."
    assert first_alone(lambda: 7) == 7
    norm, plain = SyncBatchNorm2d(4), nn.BatchNorm2d(4)
    maps = torch.rand(3, 4, 2, 2)
    assert torch.equal(norm(maps), plain(maps))


@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": 0.3}]
)
def test_converted_batch_norms_keep_their_options(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    kept = SyncBatchNorm2d(2)
    first = nn.BatchNorm2d(3, **options)
    first(torch.rand(4, 3, 2, 2))
    net = nn.Sequential(first, nn.Sequential(nn.BatchNorm1d(2, **options)), kept)
    before = dict(net.state_dict(keep_vars=True))
    assert sync_batch_norm(net.eval()) is net and net[2] is kept
    norms = [module for module in net.modules() if isinstance(module, SyncBatchNorm2d)]
    assert len(norms) == 3
    for norm in norms[:2]:
        assert not norm.training
        assert (norm.affine, norm.momentum, norm.track_running_stats) == (
            options.get("affine", True),
            options.get("momentum", 0.1),
            options.get("track_running_stats", True),
        )
    assert list(net.state_dict()) == list(before)
    assert all(p is before[key] for key, p in net.named_parameters())
    x = torch.rand(4, 3, 2, 2)
    assert torch.equal(norms[0](x), first.eval()(x))


@pytest.mark.parametrize("name", ["test_efficientnet", "mobilenetv3_small_050", "regnetx_002", "resnet10t"])
@pytest.mark.parametrize("change", [sync_batch_norm, lambda net: split_batch_norm(net, 2)])
def test_what_follows_a_norm_of_timm_stays(name: str, change: Any) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0).eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
        before, names = net(x), list(net.state_dict())
        assert torch.equal(change(net)(x), before) and list(net.state_dict()) == names


def test_other_norms_are_left_alone() -> None:
    class Own(nn.BatchNorm2d):
        pass

    net = nn.Sequential(Own(3))
    assert type(sync_batch_norm(net)[0]) is type(split_batch_norm(net, 2)[0]) is Own


if __name__ == "__main__":
    everything(Path(sys.argv[1]))
