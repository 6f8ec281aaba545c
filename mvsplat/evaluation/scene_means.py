"""Means of scores over scenes and processes, of which some have no such score at all."""

import torch
from jaxtyping import Bool, Float
from lightning.pytorch.strategies import Strategy
from torch import Tensor


class SceneMeans:
    """Sums scores up, process by process, and exchanges them once.

    What each process sends is always of the same size, so that none waits for another one: however
    many batches it had, and whatever scores were in them.

    Args:
        names: All scores that there may be.
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self._sums: dict[str, tuple[Tensor | float, Tensor | int]] = {}

    def add(
        self,
        name: str,
        scores: Float[Tensor, " scenes"],
        known: Bool[Tensor, " scenes"] | None = None,
    ) -> None:
        """Take scenes' scores in, those that are ``known``."""
        known = torch.ones_like(scores, dtype=torch.bool) if known is None else known
        total, count = self._sums.get(name, (0.0, 0))
        scores = torch.where(known, scores.detach(), 0).float()
        self._sums[name] = total + scores.sum(), count + known.sum()

    def take_means(self, strategy: Strategy) -> dict[str, Tensor]:
        """The means over all processes' scenes, of the scores that some scene has; begins anew.

        All processes have to call it.
        """
        rows = [self._sums.get(name, (0.0, 0)) for name in self.names]
        table = torch.tensor([[float(value) for value in row] for row in rows])
        self._sums = {}
        table = strategy.reduce(table.to(strategy.root_device), reduce_op="sum")
        assert isinstance(table, Tensor)
        return {n: row[0] / row[1] for n, row in zip(self.names, table, strict=True) if row[1] > 0}
