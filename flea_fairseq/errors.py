"""The errors that a user can mend: the message names the file, the value and the remedy."""

from pathlib import Path


def printable(text: str) -> str:
    """Text with control characters written out, such as \\x1b: a name from elsewhere must not steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


class FleaError(Exception):
    """Something the user gave does not fit; shown by the command line in one line, without a traceback."""

    def lines(self) -> list[str]:
        """What is shown: one line, whatever names it holds."""
        return [str(self)]


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


class StepError(ExperimentError):
    """A step of the graph that failed: which, and below it the end of its log."""

    def lines(self) -> list[str]:
        return str(self).split("\n")


class WriteError(FleaError):
    """A file that cannot be written: the disk is full, or its place is not one to write at."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = Path(path), problem

    def __str__(self) -> str:
        return f"{self.path}: cannot be written: {self.problem}"
