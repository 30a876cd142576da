"""A watchdog for what must not take long."""

import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 10  # what takes milliseconds, on a busy machine


@contextmanager
def guarded(seconds: int = SECONDS) -> Iterator[None]:
    """Raise TimeoutError in what takes longer; where that is C code, end the process and print where it stood."""

    def stop(signal_number: int, frame: object) -> None:
        raise TimeoutError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(6 * seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
