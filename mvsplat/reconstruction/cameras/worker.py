"""pycolmap in processes of its own: a C++ library that aborts takes only these along."""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

Progress = Callable[[str, int, int], None]
"""Is told a stage, how much is done, and of how much."""


def run_worker(
    module: str, folder: Path, task: dict[str, Any], doing: str, progress: Progress
) -> dict[str, Any]:
    """Run a module with a folder to its end, or kill it if we do not get there.

    Args:
        module: What is run, as ``python -m MODULE FOLDER``.
        folder: Where to work; ``task.json`` is written there.
        task: What the module is to do.
        doing: The same in words, for errors.
        progress: Is told what the module tells.

    Returns:
        The module's result.

    Raises:
        RuntimeError: It ended without.
    """
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    worker = subprocess.Popen(
        [sys.executable, "-m", module, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
    )
    assert worker.stdout is not None and worker.stderr is not None
    last_words: deque[str] = deque(maxlen=20)
    listener = Thread(target=last_words.extend, args=(worker.stderr,), daemon=True)
    listener.start()
    result = None
    try:
        for line in worker.stdout:
            message = _message(line)
            if "stage" in message:
                progress(message["stage"], message["done"], message["total"])
            result = message.get("result", result)
        code = worker.wait()
    finally:
        worker.kill()
        worker.wait()
        listener.join(timeout=5)
        for pipe in (worker.stdin, worker.stdout, worker.stderr):
            if pipe is not None:
                pipe.close()
    if code != 0 or result is None:
        raise RuntimeError(_crash(code, doing, last_words))
    return result


def _message(line: str) -> dict[str, Any]:
    """A line of the worker; a library may print others."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _crash(code: int, doing: str, last_words: "deque[str]") -> str:
    how = f"ended with code {code}"
    if code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            how += " (the machine may be out of memory: try fewer photos)"
    said = next((line.strip() for line in reversed(last_words) if line.strip()), "")
    return f"pycolmap {how} while {doing}" + (f": {said[:300]}" if said else "")
