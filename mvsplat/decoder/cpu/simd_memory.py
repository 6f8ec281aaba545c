"""Vectors of float32 lanes from and to memory, for numba kernels; see ``simd``."""

from typing import Any, no_type_check

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numba.np import arrayobj

from mvsplat.decoder.cpu.simd import BITS, FLOATS, WIDTH, int_constant, lanes, spread_value

# A vector may stand for a block of so many rows and columns of pixels.
BLOCK = 4


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = arrayobj.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), FLOATS.as_pointer())


@no_type_check
@intrinsic
def _load(typingctx, array, index):
    def generate(context, builder, signature, args):
        address = _address(context, builder, signature.args[0], *args)
        # numpy promises no more than a float's alignment.
        return builder.load(address, align=4)

    return lanes(array, types.intp), generate


@no_type_check
@intrinsic
def _store(typingctx, array, index, values):
    def generate(context, builder, signature, args):
        address = _address(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@no_type_check
@intrinsic
def load_bytes(typingctx, array, index):
    """WIDTH consecutive values of a flat uint8 array, as lanes."""

    def generate(context, builder, signature, args):
        data = arrayobj.make_array(signature.args[0])(context, builder, args[0]).data
        kind = ir.VectorType(ir.IntType(8), WIDTH)
        address = builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer())
        return builder.uitofp(builder.load(address, align=1), FLOATS)

    return lanes(array, types.intp), generate


@no_type_check
@intrinsic
def load_where(typingctx, condition, array, index, others):
    """As ``load`` where ``condition`` holds, else ``others``; nothing else is read.

    ``index`` is that of the first lane, whether it is read or not.
    """

    def generate(context, builder, signature, args):
        address = _address(context, builder, signature.args[1], args[1], args[2])
        arguments = [FLOATS.as_pointer(), ir.IntType(32), BITS, FLOATS]
        kind = ir.FunctionType(FLOATS, arguments)
        name = f"llvm.masked.load.v{WIDTH}f32.p0"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        rest = spread_value(context, builder, signature.args[3], args[3])
        return builder.call(function, [address, int_constant(4), args[0], rest])

    return lanes(condition, array, types.intp, others), generate


@no_type_check
@intrinsic
def store_where(typingctx, condition, array, index, values):
    """As ``store`` where ``condition`` holds; nothing else is written."""

    def generate(context, builder, signature, args):
        address = _address(context, builder, signature.args[1], args[1], args[2])
        arguments = [FLOATS, FLOATS.as_pointer(), ir.IntType(32), BITS]
        kind = ir.FunctionType(ir.VoidType(), arguments)
        name = f"llvm.masked.store.v{WIDTH}f32.p0"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        builder.call(function, [args[3], address, int_constant(4), args[0]])
        return context.get_dummy_value()

    return types.void(condition, array, types.intp, values), generate


@no_type_check
@intrinsic
def prefetch(typingctx, array, index):
    """Ask for the cache line of ``array[index]`` (flat), which will be read soon."""

    def generate(context, builder, signature, args):
        data = arrayobj.make_array(signature.args[0])(context, builder, args[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        pointer = builder.bitcast(builder.gep(data, [args[1]]), byte)
        # To be read, kept in all caches, as data.
        builder.call(function, [pointer, int_constant(0), int_constant(3), int_constant(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def load(array: Any, index: Any) -> Any:
    """WIDTH consecutive values of a flat float32 array (checked under NUMBA_BOUNDSCHECK)."""
    raise NotImplementedError("only inside kernels")


def store(array: Any, index: Any, values: Any) -> None:
    """Write WIDTH consecutive values of a flat float32 array (checked under NUMBA_BOUNDSCHECK)."""
    raise NotImplementedError("only inside kernels")


@no_type_check
@overload(load)
def _load_overload(array, index):
    if not config.BOUNDSCHECK:
        return lambda array, index: _load(array, index)

    def checked(array, index):
        if index < 0 or index + WIDTH > array.size:
            raise IndexError("lanes outside the array")
        return _load(array, index)

    return checked


@no_type_check
@overload(store)
def _store_overload(array, index, values):
    if not config.BOUNDSCHECK:
        return lambda array, index, values: _store(array, index, values)

    def checked(array, index, values):
        if index < 0 or index + WIDTH > array.size:
            raise IndexError("lanes outside the array")
        _store(array, index, values)

    return checked


@no_type_check
def _block_rows(context: Any, builder: Any, kind: Any, array: Any, index: Any, stride: Any) -> Any:
    """Addresses of a block's rows, ``stride`` values apart, as vectors of ``BLOCK`` values."""
    data = arrayobj.make_array(kind)(context, builder, array).data
    row = ir.VectorType(context.get_data_type(kind.dtype), BLOCK).as_pointer()
    for number in range(BLOCK):
        ahead = builder.mul(stride, ir.Constant(stride.type, number))
        yield builder.bitcast(builder.gep(data, [builder.add(index, ahead)]), row)


def _order(first: int, count: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(first, first + count)))


@no_type_check
@intrinsic
def load_block(typingctx, array, index, stride):
    """A block of pixels of a picture, int32 or float32, the first of which is at a flat index.

    ``stride`` is the picture's width. The block must lie inside the picture.
    """

    def generate(context, builder, signature, args):
        kind = signature.args[0]
        parts = [
            builder.load(address, align=4) for address in _block_rows(context, builder, kind, *args)
        ]
        while len(parts) > 1:
            size = 2 * WIDTH // len(parts)
            pairs = zip(parts[::2], parts[1::2])
            parts = [builder.shuffle_vector(a, b, _order(0, size)) for a, b in pairs]
        whole = parts[0]
        return whole if kind.dtype == types.float32 else builder.sitofp(whole, FLOATS)

    return lanes(array, types.intp, types.intp), generate


@no_type_check
@intrinsic
def store_block(typingctx, array, index, stride, values):
    """Write a block of pixels; see ``load_block``."""

    def generate(context, builder, signature, args):
        kind, whole = signature.args[0], args[3]
        if kind.dtype != types.float32:
            whole = builder.fptosi(whole, ir.VectorType(ir.IntType(32), WIDTH))
        for row, address in enumerate(_block_rows(context, builder, kind, *args[:3])):
            part = builder.shuffle_vector(whole, whole, _order(BLOCK * row, BLOCK))
            builder.store(part, address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, values), generate
