"""The clocks of one agent, which a test sets while it runs; those of the machine stay as they are."""

import mmap
import os
import shutil
import struct
import time

from harness import ROOT, run


class Clocks:
    def __init__(self, directory):
        compiler = shutil.which("cc") or shutil.which("clang")
        if not compiler:
            raise AssertionError("a C compiler is needed")
        self.library, self.shift = os.path.join(directory, "shifted_clock.so"), os.path.join(directory, "shift")
        run([compiler, "-O1", "-shared", "-fPIC", "-o", self.library, f"{ROOT}/Tests/Integration/shifted_clock.c"])
        with open(self.shift, "wb") as file:
            file.write(bytes(mmap.PAGESIZE))
        self.environment = {"LD_PRELOAD": self.library, "CLOCK_SHIFT": self.shift}

    def _write(self, place, seconds):
        with open(self.shift, "r+b") as file:
            file.seek(8 * place)
            file.write(struct.pack("=q", seconds))

    def move(self, seconds):
        """The time of day, so far from the right one."""
        self._write(0, seconds)

    def set(self, to):
        """The time of day; None for the right one."""
        self.move(0 if to is None else int(to - time.time()))

    def pass_time(self, seconds):
        """The monotonic clock is so far ahead, as if the agent had waited."""
        self._write(1, seconds)
