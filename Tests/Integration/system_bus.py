"""A system bus of a test's own, with a small service that stands in for logind and for the service manager."""

import os
import subprocess

from harness import ROOT, wait_until

SERVICE = os.path.join(ROOT, "Tests/SystemBusTests/bus-service.py")
CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>{address}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow eavesdrop="true"/></policy></busconfig>
"""


class SystemBus:
    """It ends with the test. `units`: what is unusual of them, as bus-service.py takes it."""

    def __init__(self, test, directory, *units):
        self.test = test
        self.units = units
        self.directory = directory
        self.address = f"unix:path={directory}/bus"
        self.start()

    def start(self):
        with open(os.path.join(self.directory, "bus.conf"), "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(address=self.address))
        self.daemon = self.run(["dbus-daemon", "--nofork", f"--config-file={self.directory}/bus.conf"], "bus.log")
        wait_until(lambda: os.path.exists(os.path.join(self.directory, "bus")), "the bus listens")
        self.service = self.run(["/usr/bin/python3", SERVICE, self.address, *self.units], "calls")
        wait_until(lambda: "ready\n" in self.output, "the services are on the bus")

    def run(self, command, output):
        with open(os.path.join(self.directory, output), "wb") as file:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self.test.addCleanup(self.end, process)
        return process

    def stop(self):
        self.end(self.service)
        self.end(self.daemon)
        os.unlink(os.path.join(self.directory, "bus"))

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
            process.wait()

    @property
    def output(self):
        with open(os.path.join(self.directory, "calls"), encoding="utf-8") as file:
            return file.read()

    @property
    def calls(self):
        return [line for line in self.output.splitlines() if line not in ("ready", "Subscribe")]
