"""What ``test_stand_in.py`` runs in a process of its own: the package's tensors on the stand-in."""

import sys
from pathlib import Path

import pytest
import torch

sys.path += [str(Path(__file__).parents[1] / name) for name in ("encoder", "decoder")]

# ruff: noqa: E402
from device import NAME, StandIn, StandInAccelerator, counted_waits, take_waits, uncounted
from gsplat_on_cpu import DenseKernels
from lightning.pytorch.strategies import SingleDeviceStrategy
from splatting_scenes import random_gaussians
from test_depthsplat import small_depthsplat
from toy_model import SIZE, ToyModel, make_batch, make_loader, make_views
from views import random_views, small_encoder

from mvsplat import MVSplat, SplattingDecoder
from mvsplat.decoder import gsplat_engine
from mvsplat.encoder.cpu.attention import AttendInWindows
from mvsplat.encoder.cpu.convolution import ConvolveInStrips
from mvsplat.encoder.cpu.normalization import NormalizeAndRectify
from mvsplat.evaluation import baselines, metrics
from mvsplat.evaluation.lpips import PerceptualDistance
from mvsplat.evaluation.prediction_writer import PredictionWriter
from mvsplat.evaluation.test_results import TestResults
from mvsplat.losses import LPIPS, MSE, CoarseDepth
from mvsplat.training.finite_steps import FiniteSteps
from mvsplat.training.image_logger import ImageLogger
from mvsplat.training.monitor import TrainingMonitor
from mvsplat.types import Gaussians

FIELDS = ("means", "scales", "rotations", "harmonics", "opacities")


@pytest.fixture(autouse=True)
def stand_in():
    # In this thread: torch's own for a device written in Python aborts now and then.
    with StandIn(), torch.autograd.set_multithreading_enabled(False):
        yield


@pytest.fixture
def no_cpu_kernels(monkeypatch):
    """Where tensors are not on the CPU, what is arranged for CPUs must not be taken."""
    for function in (AttendInWindows, ConvolveInStrips, NormalizeAndRectify):
        monkeypatch.setattr(function, "apply", None)


@pytest.fixture
def gsplat_anywhere(monkeypatch):
    """gsplat with PyTorch functions for kernels, which may wait as long as they like."""
    torch_impl = pytest.importorskip("gsplat.cuda._torch_impl")
    import gsplat

    kernels = DenseKernels(torch_impl)

    def quiet(kernel):
        def call(*arguments, **settings):
            with uncounted():
                return kernel(*arguments, **settings)

        return call

    for name in kernels.names:
        monkeypatch.setattr(gsplat.rendering, name, quiet(getattr(kernels, name)))
    monkeypatch.setattr(gsplat, "spherical_harmonics", quiet(kernels.spherical_harmonics))
    monkeypatch.setattr(gsplat_engine, "gsplat_for", lambda device: gsplat)


ENCODERS = {
    "mvsplat": lambda: small_encoder(),
    "published": lambda: small_encoder(
        published_harmonics_rotation=True, published_ray_depth=True, published_shifted_mask=True
    ),
    "other options": lambda: small_encoder(
        gaussians_per_pixel=2, nearest_views=1, relative_disparity=True, checkpointing=True
    ),
    "epipolar": lambda: small_encoder(cross_view_attention="epipolar"),
    "depthsplat": lambda: small_depthsplat("base").train(),
    "depthsplat, published": lambda: small_depthsplat(
        "small", published_metric_depth=True, published_position_resizing=True,
        published_world_scales=True,
    ),
}  # fmt: skip
VIEWS = {"published": 3, "other options": 4}


def total(gaussians: Gaussians) -> torch.Tensor:
    """A scalar that sees all of it."""
    parts = [gaussians, *([gaussians.coarse] if gaussians.coarse is not None else [])]
    return sum(getattr(part, name).square().mean() for part in parts for name in FIELDS)


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_finds_the_same_and_waits_for_its_check_only(kind, request):
    encoder = ENCODERS[kind]()
    views = random_views(count=VIEWS.get(kind, 2), height=32, width=32)
    expected = encoder(views)
    total(expected).backward()
    gradients = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()

    request.getfixturevalue("no_cpu_kernels")
    encoder.to(NAME)
    views = views.to(NAME)
    with torch.no_grad():
        encoder(views)  # which fills the caches of constants
    with counted_waits() as waits:
        found = encoder(views)
        total(found).backward()
    assert len(waits) == 1 and "encoder/validation.py" in waits[0], waits
    for name in FIELDS:
        torch.testing.assert_close(
            getattr(found, name).cpu(), getattr(expected, name), rtol=1e-3, atol=1e-4
        )
    assert found.estimate.depth.device.type == NAME
    moved = {n: p.grad.cpu() for n, p in encoder.named_parameters() if p.grad is not None}
    assert moved.keys() == gradients.keys()
    scale = max(float(gradient.norm()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert (moved[name] - gradient).norm() < 1e-3 * (gradient.norm() + 0.01 * scale), name


@pytest.mark.parametrize("kind", ["mvsplat", "epipolar", "depthsplat, published"])
def test_an_encoder_in_mixed_precision(kind, no_cpu_kernels):
    encoder, views = ENCODERS[kind]().to(NAME), random_views(height=32, width=32).to(NAME)
    encoder.requires_grad_(kind == "mvsplat")  # the others' backward pass would take seconds
    types = set()
    convolution = next(m for m in encoder.modules() if isinstance(m, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda _, __, output: types.add(output.dtype))
    with torch.autocast(NAME, dtype=torch.bfloat16):
        found = encoder(views)
        value = total(found)
    if value.requires_grad:
        value.backward()
    assert types == {torch.bfloat16}, "or nothing is mixed here"
    for name in FIELDS:
        assert getattr(found, name).dtype == torch.float32
        assert getattr(found, name).isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "settings",
    [
        {"antialiased": True, "depth": "accumulated", "scale_invariant": False},
        {"fill": True, "depth": "disparity", "background": (0.1, 0.6, 0.3)},
    ],
    ids=["plain", "filled"],
)
def test_the_decoder_draws_the_same_and_waits_for_its_check_only(settings, gsplat_anywhere):
    decoder = SplattingDecoder(engine="gsplat", **settings)
    gaussians = random_gaussians(40, 1, scale=0.2)
    cameras = make_views(0, 2)
    results = []
    for device in ("cpu", NAME):
        tensors = [getattr(gaussians, name).detach().to(device) for name in FIELDS]
        leaves = [tensor.requires_grad_() for tensor in tensors]
        views = cameras.to(device)
        arguments = views.extrinsics, views.intrinsics, views.near, views.far, (SIZE, SIZE)
        with counted_waits() as waits:
            drawn = decoder(Gaussians(*leaves), *arguments)
        (drawn.color.square().sum() + drawn.depth.sum()).backward()
        results.append([x.cpu() for x in (drawn.color, drawn.depth, *(x.grad for x in leaves))])
    assert len(waits) == 1 and "decoder/checks.py" in waits[0], waits
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def outputs(device):
    """A batch, Gaussians that a toy encoder might find, and a picture of them."""
    batch, model = make_batch(0), ToyModel()
    found = model.encoder(batch.context)
    rendering = model.render(found, batch.target)
    color = rendering.color.detach().to(device).requires_grad_()
    return (
        batch.to(device),
        found.to(device),
        type(rendering)(color, color[:, :, 0], color[:, :, 0]),
    )


def test_losses_are_the_same_and_wait_for_nothing():
    torch.manual_seed(0)
    lpips = LPIPS(net="alex")
    lpips._distance = (PerceptualDistance("alex"),)
    for loss in (MSE(), CoarseDepth()):
        values = []
        for device in ("cpu", NAME):
            batch, gaussians, rendering = outputs(device)
            with counted_waits() as waits:
                values.append(loss(rendering, batch, gaussians))
            assert values[-1].device.type == device
        assert waits == []
        torch.testing.assert_close(values[1].cpu(), values[0])
    values = []
    for device in ("cpu", NAME):
        color, truth = (torch.rand(2, 3, 64, 64, generator=seeded(n)).to(device) for n in (1, 2))
        distance = lpips._distance[0].to(device)
        with counted_waits() as waits:
            values.append(distance(color, truth))
        assert waits == []
    torch.testing.assert_close(values[1].cpu(), values[0])


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_metrics_and_baselines_are_the_same():
    pictures = [torch.rand(2, 3, 16, 16, generator=seeded(n)) for n in (1, 2)]
    batch = make_batch(0)
    for function in (metrics.psnr, metrics.ssim):
        with counted_waits() as waits:
            found = function(*(picture.to(NAME) for picture in pictures))
        assert len(waits) == 2, "its pictures come here"
        torch.testing.assert_close(found.cpu(), function(*pictures))
    depths = [picture[:, 0] for picture in pictures]
    found = metrics.abs_rel(*(depth.to(NAME) for depth in depths))
    torch.testing.assert_close(found.cpu(), metrics.abs_rel(*depths))
    for method in (baselines.nearest_view, baselines.mean_color, baselines.median_plane):
        depth = () if method is not baselines.median_plane else (batch.context.depth,)
        expected = method(batch, *depth)
        found = method(batch.to(NAME), *(d.to(NAME) for d in depth))
        torch.testing.assert_close(found.cpu(), expected)


class WaitsOfSteps(FiniteSteps):
    """Counts the waits from one batch's end to the next one's."""

    def __init__(self):
        super().__init__()
        self.waits = []
        self.device = ""

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.waits.append(take_waits())
        self.device = pl_module.device.type


@pytest.fixture
def model(gsplat_anywhere):
    return MVSplat(
        encoder=small_encoder(),
        decoder=SplattingDecoder(engine="gsplat"),
        losses={"lpips": None, "coarse_depth": CoarseDepth()},
        max_steps=10,
    )


def on_stand_in(make_trainer, *callbacks, **settings):
    strategy = SingleDeviceStrategy(torch.device(NAME, 0), accelerator=StandInAccelerator())
    # In inference mode operations come to the stand-in as they were called, not in parts.
    settings |= {"accelerator": "auto", "strategy": strategy, "inference_mode": False}
    return make_trainer(*callbacks, max_epochs=1, **settings)


def test_a_training_step_waits_for_its_three_checks(make_trainer, model):
    """Of the views, of the Gaussians to render, and of loss and gradients.

    After each step, Lightning reads what a progress bar would show: PSNR and the speed.
    """
    steps = WaitsOfSteps()
    trainer = on_stand_in(make_trainer, TrainingMonitor(), steps, limit_val_batches=0)
    trainer.fit(model, make_loader(range(3)))
    for waits in steps.waits[1:]:  # the first one makes constants
        files = [wait.partition(" in ")[2].partition(",")[0] for wait in waits]
        assert files.pop(0).endswith("lightning/fabric/utilities/apply_func.py")
        assert files == [
            "encoder/validation.py",
            "decoder/checks.py",
            "training/finite_steps.py",
        ], waits
    assert steps.device == NAME and trainer.callback_metrics["train/psnr"].isfinite()


def test_runs_with_their_callbacks(make_trainer, model, tmp_path):
    """Training with pictures and a validation, a test with all its tables, a prediction."""
    from lightning.pytorch.loggers import TensorBoardLogger

    loader = make_loader(range(2))
    on_stand_in(
        make_trainer, ImageLogger(every_n_steps=1, scenes=1), FiniteSteps(),
        logger=TensorBoardLogger(tmp_path, name="logs", version=""),
    ).fit(model, loader, make_loader(range(1)))  # fmt: skip
    assert list((tmp_path / "images").glob("*.png"))
    trainer = on_stand_in(make_trainer, TestResults(baselines=True))
    trainer.test(model, make_loader(range(1)), verbose=False)
    assert (tmp_path / "test" / "scores.json").exists()
    on_stand_in(make_trainer, PredictionWriter(films=())).predict(model, make_loader(range(1)))
    assert list(tmp_path.rglob("*.ply"))


def test_a_tensor_on_the_wrong_device_is_noticed():
    with pytest.raises(RuntimeError, match=r"shape \(2,\) is on the CPU"):
        torch.ones(2, device=NAME) + torch.ones(2)
    found = torch.ones(2, device=NAME) + torch.tensor(1.0)  # a single number may be
    with counted_waits() as waits:
        assert found[0] == 2 and found.tolist() == [2, 2] and found.new_tensor([3.0]).shape == (1,)
        found[found > 1] = 0
        found.nonzero()
    assert len(waits) == 5, waits
