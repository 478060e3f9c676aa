"""Freed memory is used again instead of being returned to the system, which clears every page."""

import subprocess
import sys

COUNT = """
import resource, sys
import numpy as np
from alps.labelling.engine.allocator import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(1 << 21)  # 16 MiB, and one of 48
        np.ones(3 << 21)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = page_faults()
keep_freed_memory()
page_faults()
print(default, page_faults())
"""


def test_memory_is_not_returned_to_the_system():
    result = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True
    )
    default, kept = map(int, result.stdout.split())
    assert kept < default / 10
