"""What the allocator setting is for: memory that was used once is used again without asking the system."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from flea_fairseq.allocator import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(77)
for _ in range(20):
    b"x" * (64 << 20)  # 16384 pages, written, and freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(setting: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, setting], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this C library has no mallopt")
    return int(done.stdout)


def test_freed_memory_is_used_again_without_page_faults():
    pages = (64 << 20) // 4096
    kept, returned = page_faults("kept"), page_faults("as it is")
    assert kept < 3 * pages and returned > 15 * pages  # touched for the first time once, or every time
