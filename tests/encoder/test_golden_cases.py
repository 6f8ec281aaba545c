"""Our encoder with published weights gives the published encoder's numbers, stage by stage."""

import numpy as np
import pytest
import torch
from golden.cases import CASES, FOLDER, GRADIENTS, Golden, outputs, published_state, shapes
from golden.fill_weights import fill

from mvsplat import published
from mvsplat.encoder.published.mvsplat import correspondence
from mvsplat.encoder.published.names import Entry


def test_every_case_is_there_and_compared():
    assert sorted(shapes()) == sorted(CASES)
    assert sorted(path.stem for path in FOLDER.glob("*.npz")) == sorted(CASES)


def run(case: str, golden: Golden) -> dict[str, torch.Tensor]:
    """Every output that golden cases name, in their layout."""
    encoder = published.load_encoder(published_state(case))
    seen = {}
    for name in ("cnn", "transformer", "refinement"):
        hook = lambda _, inputs, output, name=name: seen.update({name: output})  # noqa: E731
        encoder.get_submodule(name).register_forward_hook(hook)
    encoder.coarse_depth.register_forward_pre_hook(lambda _, inputs: seen.update(volume=inputs[0]))
    views = golden.views
    with torch.no_grad():
        gaussians = encoder(views)
    scenes, count = views.near.shape

    def view_major(x):
        return x.unflatten(0, (scenes, count)).transpose(0, 1)

    bounds = [1 / bound.flatten()[:, None, None, None] for bound in (views.far, views.near)]
    return {
        "cnn_features": seen["cnn"],
        "transformer_features": seen["transformer"],
        "cost_volume_input": view_major(seen["volume"]),
        "depth_logits": gaussians.estimate.logits.transpose(0, 1),
        "depths": 1 / seen["refinement"].disparity.clamp(*bounds).permute(0, 2, 3, 1),
        "densities": seen["refinement"].opacity.permute(0, 2, 3, 1),
        "means": gaussians.means,
        "covariances": gaussians.covariances,
        "harmonics_3dgs": gaussians.harmonics,
        "opacities": gaussians.opacities,
    }


@pytest.mark.parametrize("case", [case for case in CASES if case != "tiny_epipolar"])
def test_outputs_agree(case):
    golden = Golden(case)
    ours = run(case, golden)
    for name in outputs(case):
        golden.check(name, ours[name])


def test_epipolar_outputs_agree_as_far_as_rounding_allows():
    # The encoding's top octave multiplies rounding by 3217: see the README beside the cases.
    golden = Golden("tiny_epipolar")
    ours = run("tiny_epipolar", golden)
    golden.check("cnn_features", ours["cnn_features"])
    differences = {name: golden.differences(name, ours[name]) for name in outputs("tiny_epipolar")}
    assert all(found.mean() < 1e-2 for found in differences.values()), differences
    assert np.quantile(differences["transformer_features"], 0.99) < 0.1


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("case", ["tiny_2views", "tiny_mixed_cameras"])
def test_gradients_agree(case, checkpointing):
    golden, state = Golden(case), published_state(case)
    encoder = published.load_encoder(state, checkpointing=checkpointing)
    views = golden.views
    views.image.requires_grad_()
    gaussians = encoder(views)
    probed = {
        "means": gaussians.means,
        "covariances": gaussians.covariances,
        "harmonics": gaussians.harmonics,
        "opacities": gaussians.opacities,
    }
    loss = sum(
        (torch.from_numpy(fill(f"probe.{name}", (value.numel(),))) * value.flatten()).sum()
        / value.numel() ** 0.5
        for name, value in probed.items()
    )
    loss.backward()
    assert loss.item() == pytest.approx(float(golden.values["probe_loss"]), rel=1e-4)
    golden.check("gradient.image", views.image.grad, mean=1e-4, maximum=1e-2)
    entries = dict(correspondence(encoder))
    for name in GRADIENTS:
        entry = entries[name]
        gradient = published_gradient(encoder.get_parameter(entry.target).grad, entry)
        golden.check(f"gradient.{name}", gradient, mean=1e-4, maximum=1e-2)


def published_gradient(gradient: torch.Tensor, entry: Entry) -> torch.Tensor:
    """Gradient with respect to the published tensor that fills a part of ours."""
    gradient = gradient.chunk(entry.parts)[entry.part]
    if entry.convert is None:
        return gradient
    tensor = torch.zeros(entry.shape, requires_grad=True)
    (entry.convert(tensor) * gradient).sum().backward()
    return tensor.grad
