"""What tests of the host have in common: a device with a system bus of its own."""

import os

import disclosure
from harness import DeviceTest
from system_bus import SystemBus

PROXY = """base {
\tlog_debug = off;
\tlog_info = on;
\tlog = stderr;
\tdaemon = off;
\tredirector = iptables;
}

redsocks {
\ttype = socks5;
\tip = example.org;
\tport = 1080;
\tlogin = "foo";
\tpassword = "b\\"ar-of-the-proxy";
\tlocal_ip = 127.0.0.1;
\tlocal_port = 12345;
}

dnsu2t {
\tremote_ip = 1.1.1.1;
\tremote_port = 54;
\tlocal_ip = 127.0.0.1;
\tlocal_port = 53;
}
"""
PASSWORD = 'b"ar-of-the-proxy'
SENT = {"type": "socks5", "ip": "example.org", "port": 1080, "login": "foo", "password": PASSWORD, "dns": "1.1.1.1:54"}
RESTARTS = ["RestartUnit balena-proxy-config.service fail", "RestartUnit redsocks.service fail"]
CONFIG = '{"hostname":"before","foreign":{"b":1,"a":[1.50,"x"]},"appUpdatePollInterval":900000}'


class HostTest(DeviceTest):
    def device(self, has_bus=True, units=(), **options):
        disclosure.secret("password of the proxy", PASSWORD)
        agent = self.agent(start=False, config=CONFIG)
        with open(agent.path("host/etc/hostname"), "w", encoding="utf-8") as file:
            file.write("applied\n")
        self.bus = SystemBus(self, agent.directory, *units) if has_bus else None
        return agent.start(dbus_address=f"unix:path={agent.directory}/bus", **options)

    def content(self, agent, name):
        with open(agent.path(name), encoding="utf-8") as file:
            return file.read()

    def lock(self, agent):
        directory = agent.path("host/tmp/balena-supervisor/services/1/one")
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, "updates.lock")
        with open(path, "w", encoding="utf-8"):
            pass
        return path
