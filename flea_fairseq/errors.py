"""The errors that a user can mend: the message names the file, the value and the remedy."""

import re
from pathlib import Path

START, END = 1000, 500  # characters of a message that are shown where it is longer


def plain(message: str) -> str:
    """A message as one printable line of bounded length, whatever a file put into it.

    Line ends become blanks, other control characters escapes (they could drive the terminal), and a long message loses
    its middle: the file stands at its start, the remedy at its end.
    """
    if len(message) > 4 * START:  # before the work on every character
        message = f"{message[: 2 * START]} ... {message[-2 * START :]}"
    message = re.sub(r"\s*[\r\n]+\s*", " ", message)
    message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    return message if len(message) <= START + END else f"{message[:START]} ... {message[-END:]}"


class FleaError(Exception):
    """Something the user gave does not fit; shown by the command line in one line, without a traceback."""

    def __str__(self) -> str:
        return plain(super().__str__())


class AudioError(FleaError):
    """An audio file that cannot be used: missing, empty, damaged, or of the wrong kind."""


class FormatError(FleaError):
    """A text or array file that does not say what its format asks for."""


class CorpusError(FleaError):
    """A corpus or a split of it that breaks its own rules."""


class CheckpointError(FleaError):
    """A model file that cannot be loaded, or not safely."""


class FetchError(FleaError):
    """A download that did not arrive, or is not the file it should be."""


class ExperimentError(FleaError):
    """An experiment file or a step of it that cannot be run."""


class WriteError(FleaError):
    """A file that cannot be written: the disk is full, or its place is not one to write at."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = Path(path), problem

    def __str__(self) -> str:
        return plain(f"{self.path}: cannot be written: {self.problem}")
