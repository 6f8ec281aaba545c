"""Vectors of float32 lanes for numba kernels, so that vectorisation is stated, not hoped for.

numba has no vector type and its automatic vectoriser gives up on short loops; here ``lanes`` is an
LLVM vector that lives in registers and that LLVM maps to whatever the CPU has (AVX-512, AVX2,
NEON).  Arithmetic between lanes and scalars works with the usual operators.  ``fma`` rounds once
and nothing else is contracted or reordered, so that results do not depend on the compiler's mood.
"""

import operator
from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 16

FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
BITS = ir.VectorType(ir.IntType(1), WIDTH)


class Lanes(types.Type):
    """The numba type of WIDTH float32 values."""

    def __init__(self):
        super().__init__(name=f"float32x{WIDTH}")


class Mask(types.Type):
    """The numba type of WIDTH truth values, one for each lane."""

    def __init__(self):
        super().__init__(name=f"boolx{WIDTH}")


lanes, mask = Lanes(), Mask()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any):
        super().__init__(manager, fe_type, FLOATS)


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any):
        super().__init__(manager, fe_type, BITS)


def _is_value(kind: Any) -> bool:
    return isinstance(kind, (Lanes, types.Number))


def spread_value(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """``value`` as a vector: scalars are converted to float32 and copied to every lane."""
    if isinstance(kind, Lanes):
        return value
    scalar = context.cast(builder, value, kind, types.float32)
    vector = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), scalar, int_constant(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(vector, vector, zeros)


def int_constant(value: int) -> Any:
    return ir.Constant(ir.IntType(32), value)


@no_type_check
def _instruction(emit: Any, arity: int, result: Any = lanes) -> Any:
    """An intrinsic of ``arity`` lanes or scalars; ``emit(builder, *vectors)`` writes it."""

    def typed(kinds):
        if not all(_is_value(kind) for kind in kinds):
            return None

        def generate(context, builder, signature, args):
            vectors = [spread_value(context, builder, k, a) for k, a in zip(signature.args, args)]
            return emit(builder, *vectors)

        return result(*kinds), generate

    if arity == 1:
        return intrinsic(lambda typingctx, a: typed((a,)))
    if arity == 2:
        return intrinsic(lambda typingctx, a, b: typed((a, b)))
    return intrinsic(lambda typingctx, a, b, c: typed((a, b, c)))


@no_type_check
def _operator(function: Any, instruction: Any) -> None:
    @overload(function)
    def _(a, b):
        if isinstance(a, (Lanes)) and _is_value(b) or isinstance(b, Lanes) and _is_value(a):
            return lambda a, b: instruction(a, b)
        return None


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{WIDTH}f32")
    return builder.call(function, [a, b, c])


def _root(builder: Any, a: Any) -> Any:
    kind = ir.FunctionType(FLOATS, [FLOATS])
    name = f"llvm.sqrt.v{WIDTH}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a])


spread = _instruction(lambda builder, a: a, 1)
root = _instruction(_root, 1)
fma = _instruction(_fused, 3)
smaller = _instruction(lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), x, y), 2)
larger = _instruction(lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y), 2)

for _function, _opcode in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_function, _instruction(lambda b, x, y, op=_opcode: getattr(b, op)(x, y), 2))
for _function, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
):
    _operator(
        _function, _instruction(lambda b, x, y, s=_sign: b.fcmp_ordered(s, x, y), 2, result=mask)
    )


@no_type_check
def _constant(values: list[float]) -> Any:
    """An intrinsic without arguments that gives these lanes."""

    def typed(typingctx):
        return lanes(), lambda context, builder, signature, args: ir.Constant(FLOATS, values)

    return intrinsic(typed)


lane_numbers = _constant([float(lane) for lane in range(WIDTH)])

# Column and row of each lane, when a vector stands for a block of 4 x 4 pixels.
lane_columns = _constant([float(lane % 4) for lane in range(WIDTH)])
lane_rows = _constant([float(lane // 4) for lane in range(WIDTH)])


@no_type_check
@intrinsic
def both(typingctx, a, b):
    """Lanes where two masks hold."""
    return mask(mask, mask), lambda context, builder, signature, args: builder.and_(*args)


@no_type_check
@intrinsic
def select(typingctx, condition, yes, no):
    """``yes`` where ``condition`` holds, else ``no``."""

    def generate(context, builder, signature, args):
        a = spread_value(context, builder, signature.args[1], args[1])
        b = spread_value(context, builder, signature.args[2], args[2])
        return builder.select(args[0], a, b)

    return lanes(mask, yes, no), generate


@no_type_check
@intrinsic
def anywhere(typingctx, condition):
    """Whether a mask holds in any lane."""

    def generate(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), generate


def _upper_half(width: int) -> Any:
    """The order of lanes that brings the second ``width`` of them to the front."""
    indices = list(range(width, 2 * width)) + [0] * (WIDTH - width)
    return ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), indices)


@no_type_check
@intrinsic
def total(typingctx, values):
    """Sum of the lanes, as a binary tree."""

    def generate(context, builder, signature, args):
        vector, width = args[0], WIDTH
        while width > 1:
            width //= 2
            other = builder.shuffle_vector(vector, vector, _upper_half(width))
            vector = builder.fadd(vector, other)
        return builder.extract_element(vector, int_constant(0))

    return types.float32(lanes), generate


@no_type_check
@intrinsic
def greatest(typingctx, values):
    """The largest of the lanes."""

    def generate(context, builder, signature, args):
        vector, width = args[0], WIDTH
        while width > 1:
            width //= 2
            other = builder.shuffle_vector(vector, vector, _upper_half(width))
            vector = builder.select(builder.fcmp_ordered(">", vector, other), vector, other)
        return builder.extract_element(vector, int_constant(0))

    return types.float32(lanes), generate
