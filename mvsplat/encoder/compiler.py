"""What ``torch.compile`` needs of the machine."""

import os
import shutil
import sys


def check_compiler(backend: object) -> None:
    """Say in time, and clearly, that the default backend will find no C++ compiler.

    Raises:
        ValueError: There is none; says what to install or leave out.
    """
    if backend != "inductor":
        return
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name) is None:
        raise ValueError(
            f"compile: torch.compile needs a C++ compiler, and there is no {name!r}; install one "
            "(or name another in the environment variable CXX), or leave compile at false"
        )
