"""A watchdog for what must not take long."""

import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 10  # of the processor's time, for what takes milliseconds: a busy machine is none of the reader's


@contextmanager
def guarded(seconds: int = SECONDS) -> Iterator[None]:
    """Raise TimeoutError in what takes longer; where that is C code, or waits, end the process and print where."""

    def stop(signal_number: int, frame: object) -> None:
        raise TimeoutError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    faulthandler.dump_traceback_later(30 * seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
