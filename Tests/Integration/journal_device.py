"""What the tests of the journal share: entries by journald's native protocol, and journalctl on the same files."""

import glob
import json
import os
import socket
import struct
import subprocess

FILES = os.environ.get("SUPERVISOR_TEST_JOURNAL", "/run/log/journal")
NATIVE_SOCKET = "/run/systemd/journal/socket"

# Writes entries as the engine does: journald says of the sender what /proc says.
ENGINE = """
import json, socket, sys
with open("/proc/self/comm", "w") as file:
    file.write("dockerd")
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect(sys.argv[1])
for line in sys.stdin:
    journal.send("".join(f"{name}={value}\\n" for name, value in json.loads(line).items()).encode())
"""


def write_entry(**fields):
    """One entry by journald's native protocol; text, bytes or a list of them for each field."""
    message = bytearray()
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            data = value if isinstance(value, bytes) else str(value).encode()
            if b"\n" in data or isinstance(value, bytes):
                message += name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
            else:
                message += name.encode() + b"=" + data + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, NATIVE_SOCKET)


def send(identifier, message, **fields):
    """An entry of a program; a message may be bytes of any kind."""
    if isinstance(message, str):
        message = message.encode()
    write_entry(SYSLOG_IDENTIFIER=identifier, **{"PRIORITY": "6", **fields}, MESSAGE=message)


def journalctl(*arguments):
    done = subprocess.run(
        ["journalctl", "--directory", FILES, "--no-pager", *arguments], capture_output=True, check=False, timeout=60,
        env={**os.environ, "LANG": "C.UTF-8", "SYSTEMD_COLORS": "0"})
    return done.stdout


def count(identifier):
    return journalctl("-t", identifier, "-o", "cat", "-a").count(b"\n")


def journal_descriptors(agent):
    found = []
    for path in glob.glob(f"/proc/{agent.process.pid}/fd/*"):
        try:
            found.append(os.readlink(path))
        except OSError:
            pass
    return [name for name in found if ".journal" in name]


def objects(text):
    """Objects one after the other with what stands between them: journalctl's keys have a new order at each run."""
    text = text.decode()
    found, place = [], 0
    decoder = json.JSONDecoder()
    while True:
        begin = text.find("{", place)
        if begin < 0:
            return [*found, text[place:]]
        value, end = decoder.raw_decode(text, begin)
        found += [text[place:begin], value]
        place = end
