"""Codebooks: values by the nearest of a few, for numbers and for vectors (k-means)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BINS = 1 << 14
_ROUNDS_1D = 40
_FEW = 1 << 16
_ROUNDS = 6
_LEARNT_FROM = 32
"""Vectors an entry that the coarse codebook is learnt from."""
_PRODUCTS_AT_A_TIME = 1 << 18
"""So many distances stay in a core's cache."""
_MOST_NUMBERED = 1 << 12


def number_codebook(values: Float[Tensor, " n"], size: int) -> Float[Tensor, " k"]:
    """Ascending entries that are near the numbers, by Lloyd's algorithm on their histogram."""
    if len(values) <= _FEW and len(distinct := values.unique()) <= size:
        return torch.cat([distinct, distinct[-1:].expand(size - len(distinct))])
    low, high = float(values.min()), float(values.max())
    if low == high:
        return torch.full((size,), low)
    bins = ((values - low) * ((_BINS - 1) / (high - low))).long()
    weights = torch.bincount(bins, minlength=_BINS).double()
    filled = weights > 0
    centers = torch.bincount(bins, values.double(), minlength=_BINS)[filled] / weights[filled]
    weights = weights[filled]
    # The density of the entries that are best is as the cube root of that of the numbers.
    width = torch.gradient(centers)[0]
    share = ((weights / width).pow(1 / 3) * width).cumsum(0)
    places = torch.searchsorted(share, torch.linspace(0, float(share[-1]), size).double())
    entries = centers[places.clamp(max=len(centers) - 1)]
    for _ in range(_ROUNDS_1D):
        nearest = torch.bucketize(centers, (entries[1:] + entries[:-1]) / 2)
        sums = torch.zeros(size).double().index_add_(0, nearest, weights * centers)
        counts = torch.zeros(size).double().index_add_(0, nearest, weights)
        entries = torch.where(counts > 0, sums / counts.clamp(min=1), entries)
        entries = entries.sort().values
    return entries.float()


def nearest_number(values: Float[Tensor, "*n"], codebook: Float[Tensor, " k"]) -> Int[Tensor, "*n"]:
    """The entry nearest to each number."""
    return torch.bucketize(values.contiguous(), (codebook[1:] + codebook[:-1]) / 2)


def vector_codebook(
    vectors: Float[Tensor, "n d"], size: int
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    """Entries near the vectors, at most so many, and each vector's entry.

    Tens of thousands of entries cannot be compared with millions of vectors: a coarse codebook
    divides these, and each part gets a codebook of its own, of a size in proportion.
    """
    if size >= len(vectors):
        return vectors.clone(), torch.arange(len(vectors))
    generator = torch.Generator().manual_seed(0)
    parts = max(1, round(size**0.5))
    some = torch.randperm(len(vectors), generator=generator)[: _LEARNT_FROM * parts]
    coarse = _k_means(vectors[some], parts, generator)
    part = _nearest(vectors, coarse)
    order = part.argsort(stable=True)
    counts = torch.bincount(part, minlength=len(coarse))
    labels = torch.empty(len(vectors), dtype=torch.long)
    entries: list[Tensor] = []
    first = 0
    for members in order.split(counts.tolist()):
        share = max(1, size * len(members) // len(vectors))
        if len(members) == 0 or first >= size:
            labels[members] = max(first - 1, 0)
            continue
        own = _k_means(vectors[members], min(share, size - first, len(members)), generator)
        labels[members] = first + _nearest(vectors[members], own)
        entries.append(own)
        first += len(own)
    return torch.cat(entries), labels


def _k_means(vectors: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Lloyd's algorithm from random vectors; an entry that is nobody's nearest stays."""
    if size >= len(vectors):
        return vectors.clone()
    entries = vectors[torch.randperm(len(vectors), generator=generator)[:size]].clone()
    for _ in range(_ROUNDS):
        nearest = _nearest(vectors, entries)
        sums = torch.zeros_like(entries).index_add_(0, nearest, vectors)
        counts = torch.bincount(nearest, minlength=size)[:, None]
        entries = torch.where(counts > 0, sums / counts.clamp(min=1), entries)
    return entries


def _nearest(vectors: Tensor, entries: Tensor) -> Tensor:
    """The entry nearest to each vector.

    Searching for a minimum's place takes torch several times as long as the minimum: distances
    carry their entry's number in their last bits, which for 256 entries costs them 3e-5 of what
    they are. For many more that would be too much.
    """
    halves = entries.square().sum(-1) / 2
    rows = max(1, _PRODUCTS_AT_A_TIME // len(entries))
    highest = (1 << (len(entries) - 1).bit_length()) - 1
    numbers = torch.arange(len(entries), dtype=torch.int32)
    nearest = torch.empty(len(vectors), dtype=torch.long)
    for start in range(0, len(vectors), rows):
        span = slice(start, start + rows)
        distances = torch.addmm(halves, vectors[span], entries.T, alpha=-1)
        if len(entries) > _MOST_NUMBERED:
            nearest[span] = distances.argmin(-1)
            continue
        distances.view(torch.int32).bitwise_and_(~highest).bitwise_or_(numbers)
        nearest[span] = distances.amin(-1).view(torch.int32) & highest
    return nearest
