"""A stand-in for an accelerator: computes on the CPU, but as strictly as a real one.

Tensors on the device ``standin`` hold ordinary ones. Operations of them with a tensor that was left
on the CPU are errors, and what would let the host wait for an accelerator is counted. Importing
this registers the device, for the whole process.
"""

import os
import traceback
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.pytorch.accelerators import Accelerator
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

import mvsplat
from mvsplat.encoder.cpu import correlation

NAME = "standin"
PACKAGE = Path(mvsplat.__file__).parent
# Reading a number, and operations whose result's size the host has to know.
READING = (
    "_linalg_check_errors",
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
)
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
COPYING = ("_to_copy", "copy_")
# Our own operations are left whole by the dispatcher; what they compute is not.
COMPUTED_BY = {
    "correlate_at_points": correlation.correlate_at_points,
    "correlate_at_points_backward": correlation._correlate_backward,
    "correlate_with_samples": correlation.correlate_with_samples,
    "correlate_with_samples_backward": correlation._correlate_samples_backward,
}


class DeviceModule(backend_registration._DummyBackendModule):
    """``torch.standin``."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


class OnDevice(torch.Tensor):
    """A tensor that says it is on the stand-in; ``held`` has its numbers."""

    @staticmethod
    def __new__(cls, held):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=f"{NAME}:0",
        )  # fmt: skip
        tensor.held = held
        return tensor

    def __repr__(self):
        return f"OnDevice({self.held!r})"

    def tolist(self):
        return self.cpu().tolist()  # torch has it for its own tensors only

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


class StandIn(TorchDispatchMode):
    """Makes what is asked for on the stand-in."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


class StandInAccelerator(Accelerator):
    """What Lightning asks of an accelerator."""

    def setup_device(self, device):
        pass

    def teardown(self):
        pass

    @staticmethod
    def parse_devices(devices):
        return devices

    @staticmethod
    def get_parallel_devices(devices):
        return [torch.device(NAME, 0)]

    @staticmethod
    def auto_device_count():
        return 1

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def name():
        return NAME


_waits: list[str] = []
_uncounted = 0


def take_waits() -> list[str]:
    """What has let the host wait since the last call: an operation and the line that asked."""
    found = list(_waits)
    _waits.clear()
    return found


@contextmanager
def counted_waits():
    """What lets the host wait within the block."""
    take_waits()
    found: list[str] = []
    yield found
    found += take_waits()


@contextmanager
def uncounted():
    """What stands in for another library's kernels may wait."""
    global _uncounted
    _uncounted += 1
    try:
        yield
    finally:
        _uncounted -= 1


def _wait(what) -> None:
    if not _uncounted:
        _waits.append(f"{what} {_place()}")


def _place() -> str:
    """The line of ours that asks, else the one that called torch."""
    other = ""
    for frame, line in traceback.walk_stack(None):  # which reads no source code
        file = frame.f_code.co_filename
        if file.startswith(f"{PACKAGE}{os.sep}"):
            return f"in {Path(file).relative_to(PACKAGE)}, line {line}"
        if not other and "/torch/" not in file and file != __file__:
            other = f"in {file}, line {line}"
    return other


def map_only(kind, change, tree):
    """As torch's ``tree_map_only`` for what operations take and give, much faster."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, (tuple, list)):
        return (list if isinstance(tree, list) else tuple)(
            [map_only(kind, change, branch) for branch in tree]
        )
    if isinstance(tree, dict):
        return {name: map_only(kind, change, branch) for name, branch in tree.items()}
    return tree


def compute(function, args, kwargs):
    """Run an operation on what the tensors hold; a RuntimeError where one of them is elsewhere."""
    tensors: list[torch.Tensor] = []
    map_only(torch.Tensor, tensors.append, (args, kwargs))
    target = kwargs.get("device")
    to_device = target is not None and torch.device(target).type == NAME
    if not to_device and not any(isinstance(x, OnDevice) for x in tensors):
        return function(*args, **kwargs)
    name = function._opname
    if function.namespace == "mvsplat" and name in COMPUTED_BY:
        with StandIn():
            return COMPUTED_BY[name]._init_fn(*args, **kwargs)
    elsewhere = [x for x in tensors if not isinstance(x, OnDevice)]
    leaves = name == "_to_copy" and target is not None and not to_device
    if name in COPYING:
        blocking = not (kwargs.get("non_blocking") or (name == "copy_" and args[2:3] == (True,)))
        if (elsewhere or leaves) and blocking:
            _wait(function)
    else:
        _check(function, elsewhere)
    by_mask = name in INDEXING and any(
        isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in args[1]
    )
    if name in READING or by_mask:
        _wait(function)
    held, settings = map_only(OnDevice, lambda x: x.held, (args, kwargs))
    if to_device:
        settings["device"] = "cpu"
    settings.pop("pin_memory", None)
    result = function(*held, **settings)
    if leaves or (name == "copy_" and not isinstance(args[0], OnDevice)):
        return result
    result = map_only(torch.Tensor, OnDevice, result)
    return return_and_correct_aliasing(function, args, kwargs, result)


def _check(function, elsewhere) -> None:
    """As accelerators do, take single numbers from the host where elements are combined."""
    pointwise = torch.Tag.pointwise in function.tags
    for tensor in elsewhere:
        if tensor.ndim or not pointwise:
            raise RuntimeError(
                f"{function}: a tensor of shape {tuple(tensor.shape)} is on the CPU, others on the "
                f"accelerator, {_place()}"
            )


def _register() -> None:
    backend_registration._setup_privateuseone_for_python_backend(NAME, DeviceModule())

    # torch.tensor and new_tensor ask for these themselves.
    @torch.library.impl("aten::empty.memory_format", "privateuseone")
    def empty(size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
        return OnDevice(torch.empty(size, dtype=dtype, memory_format=memory_format))

    @torch.library.impl("aten::empty_strided", "privateuseone")
    def empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
        return OnDevice(torch.empty_strided(size, stride, dtype=dtype))

    @torch.library.impl("aten::_copy_from", "privateuseone")
    def copy_from(source, destination, non_blocking=False):
        _wait("numbers of the host")
        destination.held.copy_(source)
        return destination


# What autocast computes in the short type, and what in float32, of torch's lists for CUDA.
IN_SHORT = (
    "_convolution",
    "addmm",
    "baddbmm",
    "bmm",
    "conv2d",
    "conv_transpose2d.input",
    "linear",
    "matmul",
    "mm",
    "scaled_dot_product_attention",
)
IN_FLOAT32 = (
    "exp", "group_norm", "layer_norm", "log", "log_softmax.int", "pow.Tensor_Scalar", "prod",
    "rsqrt", "softmax.int", "softplus", "sum", "sum.dim_IntList",
)  # fmt: skip
IN_WIDEST = ("cat", "grid_sampler", "stack")


def _cast(function, choose):
    excluded = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def casting(*args, **kwargs):
        floating = [
            x
            for x in tree_flatten((args, kwargs))[0]
            if isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != torch.float64
        ]
        dtype = choose([x.dtype for x in floating])

        def cast(x):
            return x.to(dtype) if any(x is one for one in floating) else x

        with torch._C._ExcludeDispatchKeyGuard(excluded):
            args, kwargs = tree_map_only(torch.Tensor, cast, (args, kwargs))
            return function(*args, **kwargs)

    return casting


def _register_autocast() -> list[torch.library.Library]:
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    library = torch.library.Library("aten", "IMPL")
    for names, choose in (
        (IN_SHORT, lambda _: torch.get_autocast_dtype(NAME)),
        (IN_FLOAT32, lambda _: torch.float32),
        (
            IN_WIDEST,
            lambda types: max(types, default=torch.float32, key=lambda dtype: dtype.itemsize),
        ),
    ):
        for name in names:
            packet, _, overload = name.partition(".")
            function = getattr(getattr(torch.ops.aten, packet), overload or "default")
            library.impl(name, _cast(function, choose), "AutocastPrivateUse1")
    return [everything, library]


_register()
_libraries = _register_autocast()  # their registrations live as long as they do
