"""Numbers that JSON cannot hold."""

import math
from typing import Any


def finite(value: Any) -> Any:
    """JSON has no NaN: scores of pictures that are not finite become null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
