"""A program of its own, because ``torch.compile`` cannot look through the tests' shape checks.

``python compiled_encoder.py BACKEND [CASE]``: the encoder of a golden case, or a shallow one with
random weights, compiled, with any graph break an error. Prints as JSON how far values and gradients
are from the uncompiled ones, and values from the golden ones, relative to the root mean square.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden.cases import Golden, published_state
from views import random_views, small_encoder

from mvsplat import CostVolumeEncoder, Views, published

OUTPUTS = {
    "means": "means",
    "covariances": "covariances",
    "harmonics_3dgs": "harmonics",
    "opacities": "opacities",
}


def run(encoder: CostVolumeEncoder, views: Views) -> dict[str, torch.Tensor]:
    """Outputs, and the gradients of the sum of their squares."""
    gaussians = encoder(views)
    outputs = {name: getattr(gaussians, ours) for name, ours in OUTPUTS.items()}
    sum(value.square().mean() for value in outputs.values()).backward()
    gradients = {f"gradient.{name}": p.grad for name, p in encoder.named_parameters()}
    encoder.zero_grad()
    return {name: value.detach() for name, value in (outputs | gradients).items()}


def shallow_encoder() -> CostVolumeEncoder:
    """One of everything: the C++ compiler takes seconds for each layer."""
    one_level = dict(cost_volume_widths=(16,), cost_volume_attention=(1,), refinement_widths=(16,))
    return small_encoder(transformer_blocks=1, refinement_attention=(), **one_level)


def compare(encoder: CostVolumeEncoder, views: Views, backend: str) -> tuple[dict, dict]:
    """Outputs of the compiled encoder, and mean differences to the uncompiled one's."""
    names = list(encoder.state_dict())
    plain = run(encoder, views)
    encoder.compile(backend=backend, fullgraph=True)
    compiled = run(encoder, views)
    assert list(encoder.state_dict()) == names
    rms = {name: value.square().mean().sqrt() for name, value in plain.items()}
    # Biases before a norm have no gradient but rounding.
    least = 1e-3 * max(rms[name] for name in rms if name.startswith("gradient."))
    return compiled, {
        n: float((compiled[n] - plain[n]).abs().mean() / rms[n].clamp_min(least)) for n in plain
    }


def main(backend: str, case: str = "") -> None:
    encoder = published.load_encoder(published_state(case)) if case else shallow_encoder()
    compiled, found = compare(encoder, Golden(case).views if case else random_views(), backend)
    gradients = max(found[name] for name in found if name.startswith("gradient."))
    result = {"values": [found[name] for name in OUTPUTS], "gradients": gradients, "golden": []}
    if case:
        golden = Golden(case)
        result["golden"] = [float(golden.differences(n, compiled[n]).mean()) for n in OUTPUTS]
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
