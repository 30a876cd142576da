"""Names from elsewhere that would do something if anything took them for more than names."""

import os
from pathlib import Path

CANARY = "flea_was_run"  # what a name that is run would make
TOUCH = f"$(touch {CANARY}) `touch {CANARY}`"
IMAGE = "<img src=x onerror=window.pwned=1>"
SCRIPT = "<script>window.pwned=1</script>"
HOSTILE = f"a b'\"; {TOUCH} & | * ? [x] {{y}} %s é😀 {IMAGE}"  # whole, as the name of a file or folder
WORDS = (  # the same without spaces, as labels
    "<img/src=x/onerror=window.pwned=1>", f"`touch$IFS$9{CANARY}`",
    "-$(id)&|*'\"", "wütend{x}😀",
)  # fmt: skip
CONTROL = {"tab": "a\tb", "newline": "a\nb", "escape": "a\x1b[2Jb", "right to left": "a\u202eb", "null": "a\x00b"}
LEAVING = ("../../x", "a/b", "/abs", "..", ".", "", "a" * 300)


def canaries(*places: Path) -> list[Path]:
    """Every canary below some folders, or in those that a process may be started in."""
    found = [path for place in places for path in place.rglob(f"*{CANARY}") if path.name == CANARY]
    return found + [Path(at, CANARY) for at in (os.getcwd(), Path.home(), "/tmp", "/") if Path(at, CANARY).exists()]


def listing(*folders: Path) -> set[tuple[str, int, int]]:
    """Every file below some folders, with its size and the time of its last change."""
    return {
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }
