"""Unusable views are refused by name."""

import pytest
import torch
from views import random_views, small_encoder

NAN, INF = float("nan"), float("inf")
REFLECTION = torch.diag(torch.tensor([-1.0, 1, 1, 1]))


def put(name, index, value):
    def change(views):
        getattr(views, name)[index] = value

    return change


def replace(name, function):
    return lambda views: setattr(views, name, function(getattr(views, name)))


CASES = {
    "NaN pixel": (put("image", (0, 1, 2, 3, 4), NAN), r"image\[0, 1\]: found nan at \[2, 3, 4\]"),
    "infinite pixel": (put("image", (0, 0, 0, 0, 0), INF), r"image\[0, 0\]: found inf"),
    "8-bit range": (replace("image", lambda x: x * 255), r"image\[0, 0\]: colours from .* to 25\d"),
    "8-bit integers": (
        replace("image", lambda x: (x * 255).byte()),
        r"image is torch.uint8.*divide",
    ),
    "no batch": (replace("image", lambda x: x[0]), r"image has shape \(2, 3, 32, 48\)"),
    "channels last": (replace("image", lambda x: x.movedim(2, 4)), "image has shape"),
    "odd size": (
        replace("image", lambda x: x[..., :30, :]),
        "30 x 48 pixels.*multiples of 8.*24 x 48",
    ),
    "too small": (replace("image", lambda x: x[..., :0, :]), "0 x 48 pixels"),
    "other count": (
        replace("near", lambda x: x[:, :1]),
        r"near has shape \(1, 1\): expected \(1, 2\)",
    ),
    "3x4 poses": (replace("extrinsics", lambda x: x[..., :3, :]), "extrinsics has shape"),
    "singular": (put("intrinsics", (0, 1), torch.zeros(3, 3)), r"intrinsics\[0, 1\]: singular"),
    "negative focal": (put("intrinsics", (0, 1, 0, 0), -0.9), r"intrinsics\[0, 1\]: .*focal"),
    "transposed": (replace("intrinsics", lambda x: x.mT), r"intrinsics\[0, 0\]: .*skew, cx"),
    "turned pixels": (put("intrinsics", (0, 1, 1, 0), 0.1), r"intrinsics\[0, 1\]: .*skew, cx"),
    "NaN focal": (
        put("intrinsics", (0, 1, 0, 0), NAN),
        r"intrinsics\[0, 1\]: found nan at \[0, 0\]",
    ),
    "scaled pose": (
        put("extrinsics", (0, 1), torch.eye(4) * 2),
        r"extrinsics\[0, 1\]: not a rigid",
    ),
    "mirrored pose": (put("extrinsics", (0, 0), REFLECTION), r"extrinsics\[0, 0\]: not a rigid"),
    "NaN pose": (
        put("extrinsics", (0, 0, 1, 3), NAN),
        r"extrinsics\[0, 0\]: found nan at \[1, 3\]",
    ),
    "negative near": (put("near", (0, 1), -1.0), r"near\[0, 1\]: near is -1"),
    "far before near": (put("far", (0, 1), 0.5), r"far\[0, 1\]: near is 1 and far is 0.5"),
    "infinite far": (put("far", (0, 0), INF), r"far\[0, 0\]: found inf"),
    "integer bounds": (replace("far", lambda x: x.long()), "far is torch.int64"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_views_are_named(case):
    # Not the runtime shape checks of the tests: the function behind the encoder's front door.
    from mvsplat.encoder.validation import check_views

    spoil, message = CASES[case]
    views = random_views()
    spoil(views)
    with pytest.raises(ValueError, match=message):
        check_views(views, divisor=8)


def test_one_view_is_not_enough():
    with pytest.raises(ValueError, match="1 view.*needs 2 or more"):
        small_encoder()(random_views(count=1))


def test_the_epipolar_ablation_takes_two_views():
    encoder = small_encoder(cross_view_attention="epipolar", depth_refinement=False)
    with pytest.raises(ValueError, match="3 view.*needs 2 to 2"):
        encoder(random_views(count=3))


def test_good_views_pass_unchanged():
    views = random_views(2, 3)
    before = views.image.clone()
    small_encoder()(views)
    assert torch.equal(views.image, before)
