"""What cannot be rendered is refused by name, by every engine, in one wait for an accelerator."""

from dataclasses import replace

import pytest
import torch
from rendering import FIELDS, SHAPE
from splatting_scenes import camera, intrinsics, random_gaussians
from torch.utils._python_dispatch import TorchDispatchMode

from mvsplat import Encoder, MVSplat, SplattingDecoder, Views
from mvsplat.decoder import checks
from mvsplat.decoder.checks import check_inputs, is_finite
from mvsplat.decoder.cpu import checks as cpu_checks

VIEWS = 2


@pytest.fixture(params=["cpu", "gsplat"])
def engine(request):
    """Either engine; gsplat's kernels are PyTorch functions here."""
    if request.param == "gsplat":
        request.getfixturevalue("gsplat_on_cpu")
    return request.param


@pytest.fixture
def decode(engine):
    """Renders two views."""

    def run(gaussians=None, shape=SHAPE, **cameras):
        gaussians = random_gaussians(20) if gaussians is None else gaussians
        return SplattingDecoder(engine=engine)(
            gaussians, **{**valid_cameras(), **cameras}, image_shape=shape
        )

    return run


@pytest.fixture
def model(engine):
    return MVSplat(Unused(), SplattingDecoder(engine=engine), losses={"lpips": None})


class Unused(Encoder):
    """No encoder is asked here."""

    def forward(self, views):
        raise NotImplementedError


def valid_cameras():
    bound = torch.ones(1, VIEWS)
    return {
        "extrinsics": camera().repeat(1, VIEWS, 1, 1),
        "intrinsics": intrinsics().repeat(1, VIEWS, 1, 1),
        "near": bound,
        "far": 100 * bound,
    }


def changed(name, index, value):
    tensor = valid_cameras()[name]
    tensor[0, 1][index] = value
    return {name: tensor}


def test_good_values_are_rendered(decode):
    assert decode().alpha.max() > 0.1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", FIELDS)
def test_gaussians_that_are_not_numbers(decode, field, value):
    gaussians = random_gaussians(20)
    getattr(gaussians, field).view(-1)[[3, 5]] = value
    with pytest.raises(ValueError, match=rf"^{field}: 2 of \d+ values are NaN.*index \(0, "):
        decode(gaussians)


@pytest.mark.parametrize("field", FIELDS)
def test_a_model_gives_nan_for_gaussians_that_are_not_numbers(model, field):
    """So that a step is skipped; all that was asked for a gradient gets one."""
    gaussians = random_gaussians(20)
    getattr(gaussians, field).view(-1)[3] = float("inf")
    leaves = [getattr(gaussians, name).requires_grad_() for name in FIELDS]
    rendering = model.render(gaussians, Views(torch.zeros(1, VIEWS, 3, *SHAPE), **valid_cameras()))
    assert rendering.color.shape == (1, VIEWS, 3, *SHAPE) and rendering.color.isnan().all()
    assert rendering.depth.isnan().all() and rendering.alpha.isnan().all()
    for gradient in torch.autograd.grad(rendering.color.sum(), leaves):
        assert gradient.isnan().all()


def test_a_model_refuses_cameras_that_are_not_numbers(model):
    broken = {**valid_cameras(), **changed("extrinsics", (1, 3), float("nan"))}
    with pytest.raises(ValueError, match="^extrinsics: 1 of 32 values are NaN"):
        model.render(random_gaussians(20), Views(torch.zeros(1, VIEWS, 3, *SHAPE), **broken))


def test_values_of_gaussians_are_read_once(model, monkeypatch):
    read = []
    for module in (checks, cpu_checks):
        original = module.is_finite
        monkeypatch.setattr(
            module, "is_finite", lambda x, f=original: read.append(tuple(x.shape)) or f(x)
        )

    class Torch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.overloadpacket.__name__ == "isfinite":
                read.append(tuple(args[0].shape))
            return function(*args, **kwargs or {})

    gaussians = random_gaussians(20)
    with Torch():
        model.render(gaussians, Views(torch.zeros(1, VIEWS, 3, *SHAPE), **valid_cameras()))
    for shape in {tuple(getattr(gaussians, name).shape) for name in FIELDS}:
        assert read.count(shape) == [getattr(gaussians, name).shape for name in FIELDS].count(shape)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name, index", [("extrinsics", (1, 3)), ("intrinsics", (0, 2))])
def test_cameras_that_are_not_numbers(decode, name, index, value):
    with pytest.raises(ValueError, match=rf"^{name}: 1 of \d+ values are NaN .*index \(0, 1, "):
        decode(**changed(name, index, value))


@pytest.mark.parametrize(
    "name, index, value, message",
    [
        ("intrinsics", (0, 0), 0.0, r"^intrinsics: .*index \(0, 1\).*focal length"),
        ("intrinsics", (1, 1), -0.5, r"^intrinsics: .*focal length"),
        ("intrinsics", (1, 0), 0.1, r"^intrinsics: .*\[\[fx, skew, cx\]"),
        ("intrinsics", (2, 0), 0.1, r"^intrinsics: .*\[\[fx, skew, cx\]"),
        ("intrinsics", (2, 2), 0.9, r"^intrinsics: .*\[\[fx, skew, cx\]"),
        ("near", (), 0.0, r"extrinsics or near: .*index \(0, 1\).*near must be positive"),
        ("near", (), -1.0, "near must be positive"),
        ("extrinsics", (slice(3), 0), torch.zeros(3), r"extrinsics or near: .*\(0, 1\).*rotation"),
        ("extrinsics", (0, slice(3)), torch.tensor([-1.0, 0, 0]), "mirrors the world"),
    ],
)
def test_cameras_that_cannot_be(decode, name, index, value, message):
    with pytest.raises(ValueError, match=message):
        decode(**changed(name, index, value))


def test_shapes_that_do_not_fit(decode):
    gaussians = random_gaussians(20)
    gaussians.scales = gaussians.scales[:, :-1]
    with pytest.raises(ValueError, match=r"scales: shape \(1, 19, 3\) found, expected.* = 20"):
        decode(gaussians)
    with pytest.raises(ValueError, match=r"image shape: \(0, 5\)"):
        decode(shape=(0, 5))


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for an accelerator: values read, sizes that hang on them."""

    waiting = ("_local_scalar_dense", "nonzero", "_to_copy", "masked_select", "equal", "copy_")

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in self.waiting or name == "lift_fresh":  # a tensor of Python numbers is a copy
            self.names.append(name)
        return function(*args, **kwargs or {})


def test_the_host_waits_once():
    gaussians = random_gaussians(20)
    named = {name: getattr(gaussians, name) for name in FIELDS}
    named |= {name: valid_cameras()[name] for name in ("extrinsics", "intrinsics", "near")}
    with Reads() as reads:
        check_inputs(named, SHAPE, is_finite)
    assert reads.names == ["_local_scalar_dense"]


def test_tensors_on_another_device_are_named():
    gaussians = random_gaussians(20)
    named = {name: getattr(gaussians, name) for name in FIELDS}
    named |= {name: valid_cameras()[name] for name in ("extrinsics", "intrinsics", "near")}
    with pytest.raises(ValueError, match="intrinsics: on meta, expected cpu"):
        check_inputs(named | {"intrinsics": named["intrinsics"].to("meta")}, SHAPE, is_finite)


def test_no_gaussians_are_finite(decode):
    assert (decode(random_gaussians(0)).alpha == 0).all()


SKEW = 0.3


def skewed(sign=1.0):
    k = intrinsics(fx=0.9, fy=1.1)
    k[..., 0, 1] = sign * SKEW
    return k.repeat(1, VIEWS, 1, 1)


def test_skew_is_drawn(decode):
    """A Gaussian's alpha by the definition: the whole projection's derivative shapes it."""
    torch.manual_seed(0)
    gaussians = random_gaussians(1, degree=0)
    gaussians.means[:] = torch.tensor([0.3, -0.2, 2.0])
    gaussians.scales[:] = torch.tensor([0.2, 0.08, 0.15])
    gaussians.opacities[:] = 0.8
    height, width = SHAPE
    alpha = decode(gaussians, intrinsics=skewed()).alpha[0, 0].double()
    k, pose = skewed()[0, 0].double(), camera()[0, 0].double()

    def project(point):
        x, y, z = k @ (torch.linalg.inv(pose)[:3] @ torch.cat([point, point.new_ones(1)]))
        return torch.stack([x / z * width, y / z * height])

    mean = gaussians.means[0, 0].double()
    slope = torch.autograd.functional.jacobian(project, mean)
    cov = slope @ gaussians.covariances[0, 0].double() @ slope.mT + 0.3 * torch.eye(2).double()
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    offset = torch.stack([columns, rows], -1) + 0.5 - project(mean)
    exponent = (offset @ torch.linalg.inv(cov) * offset).sum(-1) / 2
    expected = 0.8 * torch.exp(-exponent)
    expected = torch.where(expected >= 1 / 255, expected, 0)
    assert cov[0, 1].abs() > 0.2 * cov[1, 1]  # it is skewed
    near_the_cut = (0.8 * torch.exp(-exponent) * 255 - 1).abs() < 1e-2
    torch.testing.assert_close(alpha[~near_the_cut], expected[~near_the_cut], atol=2e-4, rtol=0)


def test_a_flipped_camera_with_skew_sees_the_mirrored_scene_mirrored(decode):
    from mvsplat import Views
    from mvsplat.data.transforms import flip_views

    gaussians = random_gaussians(30, degree=0)
    gaussians.scales = gaussians.scales[..., :1].repeat(1, 1, 3)
    given = {**valid_cameras(), "intrinsics": skewed()}
    flipped = flip_views(Views(torch.zeros(1, VIEWS, 3, *SHAPE), **given))
    mirrored = replace(gaussians, means=gaussians.means * torch.tensor([-1.0, 1, 1]))
    cameras = {name: getattr(flipped, name) for name in given}
    torch.testing.assert_close(
        decode(mirrored, **cameras).color.flip(-1), decode(gaussians, **given).color,
        atol=1e-3, rtol=0,
    )  # fmt: skip
