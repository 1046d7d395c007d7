"""Journal files with everything odd that an entry may have, made by systemd-journal-remote."""

import os
import random
import struct
import subprocess

MAKER = "/lib/systemd/systemd-journal-remote"
EXTRA = [f"EXTRA_{number}" for number in range(12)]
SOURCE_TIMES = [b"abc", b"0", b"0x5ffffffffffff", b"+17", b"99999999999999999999999", b" 5"]
LENGTHS = [290, 299, 300, 301, 4000, 4085, 4087, 4088, 4090, 4096, 5000]


class Entries:
    """Entries of four boots, in the journal export format; the same seed gives the same."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.realtime, self.monotonic = 1_690_000_000_000_000, 5_000_000
        self.boots = [f"{self.random.getrandbits(128):032x}".encode() for _ in range(4)]

    def chance(self, probability):
        return self.random.random() < probability

    def value(self):
        pick = self.random
        odd = [
            lambda: b"",
            lambda: pick.randbytes(pick.randrange(1, 40)),
            lambda: "gr\u00fcn \u2603 \u65e5\u672c \U0001F600 \u00a0\u200b".encode() * pick.randrange(1, 4),
            lambda: b"\x1b[31mred\x1b[0m plain\ttab \x1b]8;;http://x\x07link \x1b[2K \x1b",
            lambda: b"line one\nline two\n\nline four" + b"\n" * pick.randrange(3),
            lambda: b'a"quote\\back/slash \x7f'[:pick.randrange(5, 22)],
            lambda: b"nul\x00inside",
            lambda: b"x" * (pick.choice(LENGTHS) if pick.random() < 0.98 else 200_000),
            lambda: b"\xff\xfe" * (pick.choice([3, 600, 1100]) if pick.random() < 0.98 else 40_000),
            lambda: "\ufdd0\ufffe".encode() if pick.random() < 0.5 else b"\xc0\x80\xed\xa0\x80",
            "\u0085control".encode,
            lambda: b"\n" if pick.random() < 0.5 else b"\t",
        ]
        number = pick.randrange(24)
        return odd[number]() if number < len(odd) else b"message %d of words and numbers" % pick.randrange(1000)

    def maybe_odd(self, probability, plain):
        return self.value() if self.chance(probability) else plain

    def fields(self):
        """Names and values of one entry."""
        pick = self.random
        if self.chance(0.95):
            for _ in range(1 if self.chance(0.95) else pick.randrange(2, 4)):
                yield "MESSAGE", self.value()
        if self.chance(0.8):
            yield "SYSLOG_IDENTIFIER", self.maybe_odd(0.2, b"ident%d" % pick.randrange(4))
        if self.chance(0.6):
            yield "_COMM", self.maybe_odd(0.1, b"comm")
        if self.chance(0.6):
            yield "_PID", self.maybe_odd(0.1, b"%d" % pick.randrange(9999))
        if self.chance(0.3):
            yield "SYSLOG_PID", b"%d" % pick.randrange(9999)
        if self.chance(0.9):
            yield "_HOSTNAME", self.maybe_odd(0.1, b"host")
        if self.chance(0.7):
            units = [b"a.service", b"b.service", b"init.scope", b"x-y.slice"]
            yield "_SYSTEMD_UNIT", self.maybe_odd(0.1, pick.choice(units))
        if self.chance(0.2):
            yield "_SYSTEMD_USER_UNIT", self.maybe_odd(0.2, b"u.service")
        if self.chance(0.7):
            yield "PRIORITY", b"%d" % pick.randrange(8)
        if self.chance(0.5):
            earlier = b"%d" % (self.realtime - pick.randrange(1000))
            yield "_SOURCE_REALTIME_TIMESTAMP", pick.choice([earlier, earlier, *SOURCE_TIMES])
        if self.chance(0.3):
            yield "_SOURCE_MONOTONIC_TIMESTAMP", pick.choice([b"%d" % self.monotonic, b"-1", b""])
        if self.chance(0.1):
            yield "_TRANSPORT", pick.choice([b"audit", b"kernel", b"journal"])
        for name in pick.sample(EXTRA, pick.randrange(8)):
            for _ in range(1 if self.chance(0.9) else pick.randrange(2, 5)):
                yield name, self.value()
        if self.chance(0.05):
            yield "UNIT", b"a.service"
            yield "_UID", b"0"
        if self.chance(0.03):
            yield "CONFIG_FILE", pick.choice([b"/etc/x.conf", b""])
        if self.chance(0.01):
            yield from ((f"MANY_{number}", b"v%d" % number) for number in range(150))

    def write(self, count, file):
        for number in range(count):
            self.realtime += self.random.choice([1, 1000, 100_000, 3_000_000, 3_600_000_000])
            self.monotonic = self.random.randrange(1000) if self.chance(0.01) else self.monotonic + self.random.randrange(
                1, 4_000_000)
            file.write(b"__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\n" % (
                self.realtime, self.monotonic, self.boots[number * len(self.boots) // count]))
            for name, value in self.fields():
                if any(byte < 32 and byte != 9 for byte in value) or self.chance(0.02):
                    file.write(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
                else:
                    file.write(name.encode() + b"=" + value + b"\n")
            file.write(b"\n")


def make(directory, count, seed=3):
    """Writes `count` entries into journal files in the directory."""
    os.makedirs(directory, exist_ok=True)
    export = os.path.join(directory, "entries.export")
    with open(export, "wb") as file:
        Entries(seed).write(count, file)
    subprocess.run([MAKER, "-o", os.path.join(directory, "odd.journal"), export], check=True, capture_output=True,
                   timeout=120)
    os.remove(export)
    return directory
