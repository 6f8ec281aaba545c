"""Numbers of the program among a tensor's, without a copy that the host would wait for."""

import torch
from jaxtyping import Float
from torch import Tensor


def numbers_beside(tensor: Tensor, *numbers: int | float) -> Float[Tensor, " n"]:
    """The numbers, of the tensor's type and on its device.

    ``new_tensor`` copies them from the host, which waits until an accelerator has done all that it
    was given before. Filling is one more thing that the accelerator is given.
    """
    return torch.stack([tensor.new_full((), number) for number in numbers])
