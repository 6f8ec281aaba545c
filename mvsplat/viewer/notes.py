"""What a page says above the scene: what it waits for, and what did not work."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Notes:
    """The notifications of one page.

    Args:
        client: viser's handle of the page.
    """

    def __init__(self, client: Any):
        self._client = client
        self._lasting: Any = None

    def complain(self, error: Exception) -> None:
        """Errors of our own say what to do; anything else is a bug, and its traceback is shown."""
        if not isinstance(error, (ValueError, OSError)):
            traceback.print_exception(error, file=sys.stderr)
        self._client.add_notification(
            "This did not work", str(error) or type(error).__name__, color="red"
        )

    @contextmanager
    def busy(self, what: str, worth_saying: bool) -> Iterator[None]:
        """Say what the page is waiting for, if that takes long."""
        if not worth_saying:
            yield
            return
        note = self._client.add_notification(what, "", loading=True, with_close_button=False)
        try:
            yield
        finally:
            note.remove()

    def say_for_now(self, title: str, text: str) -> None:
        """Say what holds until :meth:`forget`, or until something else does."""
        self.forget()
        self._lasting = self._client.add_notification(title, text)

    def forget(self) -> None:
        """Take back what held for now."""
        if self._lasting is not None:
            self._lasting.remove()
            self._lasting = None
