"""A program of its own, because ``torch.compile`` cannot look through the tests' shape checks.

``python compiled_encoder.py BACKEND CASE``: the encoder of a golden case, compiled, with any graph
break an error; with ``inductor``, whose C++ takes minutes to compile, the cost volume only. Prints
as JSON how far values and gradients are from the uncompiled ones, and values from the golden ones,
relative to the root mean square.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden.cases import Golden, published_state

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


def compare(encoder: CostVolumeEncoder, views: Views, backend: str) -> tuple[dict, dict]:
    """Outputs of the compiled encoder, and mean differences to the uncompiled one's."""
    names = list(encoder.state_dict())
    plain = run(encoder, views)
    part = encoder.cost_volume if backend == "inductor" else encoder
    part.compile(backend=backend, fullgraph=True)
    compiled = run(encoder, views)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert list(encoder.state_dict()) == names
    rms = {name: value.square().mean().sqrt() for name, value in plain.items()}
    # Biases before a norm have no gradient but rounding.
    least = 1e-3 * max(rms[name] for name in rms if name.startswith("gradient."))
    return compiled, {
        n: float((compiled[n] - plain[n]).abs().mean() / rms[n].clamp_min(least)) for n in plain
    }


def main(backend: str, case: str) -> None:
    golden = Golden(case)
    encoder = published.load_encoder(published_state(case))
    compiled, found = compare(encoder, golden.views, backend)
    result = {
        "values": [found[name] for name in OUTPUTS],
        "gradients": max(found[name] for name in found if name.startswith("gradient.")),
        "golden": [float(golden.differences(name, compiled[name]).mean()) for name in OUTPUTS],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
