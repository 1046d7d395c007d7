"""A device's lights that are not there: umockdev shows them to the programs that preload it, and tells libudev of
those that come and go. Runs below umockdev-wrapper with the system's own Python, which has the bindings.

Prints the directory of the device; then takes a line each: `add NAME ATTRIBUTE=VALUE…`, `remove NAME`.
"""

import shlex
import sys

import gi

gi.require_version("UMockdev", "1.0")
from gi.repository import UMockdev  # noqa: E402

bed = UMockdev.Testbed.new()
devices = {}
print(bed.get_root_dir(), flush=True)
for line in sys.stdin:
    what, name, *attributes = shlex.split(line)
    if what == "add":
        pairs = [part for attribute in attributes for part in attribute.split("=", 1)]
        devices[name] = bed.add_device("leds", name, None, pairs, [])
        bed.uevent(devices[name], "add")
    else:
        bed.uevent(devices[name], "remove")
        bed.remove_device(devices.pop(name))
    print("done", flush=True)
