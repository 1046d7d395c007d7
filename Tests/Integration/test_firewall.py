"""The firewall of a device that is the agent's, with packets that come from outside: from a namespace behind a link."""

import os
import socket
import subprocess
import sys
import threading
import unittest.mock

from cloud import CloudTest, service
from harness import COMMAND, free_port, remove_firewall, required, run, wait_until

# Prints what becomes of a connection, or of a datagram that is sent until there is an answer or a refusal.
CONNECT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as peer:
        peer.sendall(b"GET /ping HTTP/1.0\\r\\n\\r\\n")
        print("answered" if peer.recv(1) else "closed")
except ConnectionRefusedError:
    print("refused")
except ConnectionResetError:
    print("answered")
except OSError as error:
    print(error)
"""
DATAGRAM = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
    peer.settimeout(1)
    peer.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[3]))
    if not sys.argv[1].startswith("224."):
        peer.connect((sys.argv[1], int(sys.argv[2])))
    for _ in range(20):
        try:
            peer.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
            peer.recv(1)
            print("answered")
            break
        except ConnectionRefusedError:
            print("refused")
            break
        except TimeoutError:
            pass
"""
FOREIGN = ["-N FOREIGN", "-A FOREIGN -s 192.0.2.7/32 -j DROP", "-A INPUT -s 192.0.2.8/32 -j FOREIGN"]
SSH, MULTICAST = 22222, "224.0.0.251"


class Outside:
    """A machine at the other end of links into this device."""

    def __init__(self, test):
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
        test.addCleanup(self.end)
        own = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") != own, "a network of its own")

    def end(self):
        self.process.kill()
        self.process.wait()

    def run(self, *command):
        return run(["nsenter", "-t", str(self.process.pid), "-n", *command])

    def link(self, test, name, network):
        run(["ip", "link", "add", name, "type", "veth", "peer", "name", "out", "netns", str(self.process.pid)])
        test.addCleanup(subprocess.run, ["ip", "link", "delete", name], check=False)
        self.run("ip", "link", "set", "out", "name", f"o-{name}")
        run(["ip", "address", "add", f"{network}.1/24", "dev", name])
        self.run("ip", "address", "add", f"{network}.2/24", "dev", f"o-{name}")
        run(["ip", "link", "set", name, "up"])
        self.run("ip", "link", "set", f"o-{name}", "up")

    def connect(self, address, port):
        return self.run(sys.executable, "-c", CONNECT, address, str(port)).strip()

    def datagram(self, address, port, source):
        return self.run(sys.executable, "-c", DATAGRAM, address, str(port), source).strip()


class Echo:
    """Answers on a port of the device with what it is sent."""

    def __init__(self, test, port, kind=socket.SOCK_STREAM, group=None, interface=None):
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("", port))
        if group:
            self.socket.setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(interface))
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        self.kind = kind
        threading.Thread(target=self.serve, daemon=True).start()
        test.addCleanup(self.socket.close)

    def serve(self):
        while True:
            try:
                if self.kind == socket.SOCK_DGRAM:
                    self.socket.sendto(*self.socket.recvfrom(100))
                else:
                    peer = self.socket.accept()[0]
                    peer.sendall(peer.recv(100))
                    peer.close()
            except OSError:
                if self.socket.fileno() < 0:
                    return


class Firewall(CloudTest):
    def rules(self, *chains):
        lines = run(["iptables-save", "-t", "filter"]).splitlines()
        return [line for line in lines if line.startswith(tuple(f"-A {chain} " for chain in chains))]

    def clean(self):
        remove_firewall()
        for rule in ("-D INPUT -s 192.0.2.8/32 -j FOREIGN", "-F FOREIGN", "-X FOREIGN"):
            subprocess.run(["iptables", "--wait", *rule.split()], check=False, capture_output=True)

    def wait_for_mode(self, agent, mode, earlier=0):
        wait_until(lambda: self.applied(agent, mode) > earlier, f"firewall {mode}")

    def applied(self, agent, mode):
        return agent.log.count(f"Applied firewall mode {mode} (IPv4)")

    def test_packets_from_outside_meet_the_rules_of_the_mode(self):
        self.addCleanup(self.clean)
        for rule in FOREIGN:
            run(["iptables", "--wait", *rule.split()])
        foreign = self.rules("FOREIGN", "INPUT", "FORWARD", "DOCKER", "DOCKER-USER")
        outside = Outside(self)
        outside.link(self, "fw-out", "10.99.1")
        outside.link(self, "resin-vpn", "10.99.2")
        published, closed = free_port(), free_port()
        Echo(self, closed)
        Echo(self, closed, socket.SOCK_DGRAM)
        Echo(self, SSH)
        group = free_port()
        Echo(self, group, socket.SOCK_DGRAM, MULTICAST, "10.99.1.1")

        release = self.cloud.add_release(self.fleet, {"main": service(composition={
            "command": ["httpd", "-f", "-p", "80"], "ports": [f"{published}:80"],
            "restart": "always"})})
        port = free_port()
        agent = self.managed_agent(start=False, listenPort=port)
        agent.port = port
        self.stand_in.device_address = ("127.0.0.1", port)
        agent.start(listen=None)
        device = self.device(agent)
        self.wait_for_containers(agent, "main")
        self.wait_for_report(device, release, "main")
        self.wait_for_mode(agent, "off")

        def seen():
            return {
                "API": outside.connect("10.99.1.1", port),
                "API over the VPN": outside.connect("10.99.2.1", port),
                "port of the host": outside.connect("10.99.1.1", closed),
                "datagrams to the host": outside.datagram("10.99.1.1", closed, "10.99.1.2"),
                "SSH": outside.connect("10.99.1.1", SSH),
                "multicast": outside.datagram(MULTICAST, group, "10.99.1.2"),
                "port of a container": outside.connect("10.99.1.1", published),
            }

        off = {
            "API": "refused", "API over the VPN": "answered", "port of the host": "answered",
            "datagrams to the host": "answered", "SSH": "answered", "multicast": "answered",
            "port of a container": "answered",
        }
        on = {**off, "port of the host": "refused", "datagrams to the host": "refused"}
        self.assertEqual(seen(), off)
        self.fleet.config["RESIN_HOST_FIREWALL_MODE"] = "on"
        self.wait_for_mode(agent, "on")
        self.assertEqual(seen(), on)
        earlier = self.applied(agent, "off")
        self.fleet.config["RESIN_HOST_FIREWALL_MODE"] = "off"
        self.wait_for_mode(agent, "off", earlier)
        self.assertEqual(seen(), off)
        self.assertEqual(agent.get("/ping").text, "OK")

        self.assertEqual(self.rules("INPUT")[0], "-A INPUT -j BALENA-FIREWALL")
        own = ("-A INPUT -j BALENA-FIREWALL", "-A DOCKER-USER -j BALENA-SUPERVISOR")
        now = [line for line in self.rules("FOREIGN", "INPUT", "FORWARD", "DOCKER", "DOCKER-USER") if line not in own]
        self.assertEqual([line for line in foreign if line not in now], [])

    def test_auto_is_on_for_services_of_the_host_network_from_the_target_that_has_them_and_from_the_start(self):
        self.addCleanup(self.clean)
        plain = {"main": service()}
        on_host = {"main": service(composition={"command": COMMAND, "restart": "always", "network_mode": "host"})}
        self.fleet.config["RESIN_HOST_FIREWALL_MODE"] = "auto"
        self.cloud.add_release(self.fleet, on_host)
        port = free_port()
        agent = self.managed_agent(start=False, listenPort=port)
        agent.port = port
        self.stand_in.device_address = ("127.0.0.1", port)

        def is_on():
            lines = self.rules("BALENA-FIREWALL")
            return lines and "-A BALENA-FIREWALL -j RETURN" not in lines

        def is_off():
            return "-A BALENA-FIREWALL -j RETURN" in self.rules("BALENA-FIREWALL")

        agent.start(listen=None)
        wait_until(is_on, "on with the first target")
        self.wait_for_containers(agent, "main")
        agent.kill()
        self.clean()
        # No target comes any more, and no engine tells of images.
        self.stand_in.stop()
        agent.start(listen=None, engine=f"unix://{agent.path('no-engine')}")
        self.assertTrue(is_on(), "on with what is stored, before the API answers")
        agent.kill()
        self.clean()
        self.stand_in.start()
        agent.start(listen=None)
        self.cloud.add_release(self.fleet, plain)
        wait_until(is_off, "off with the target that has none")
        self.cloud.add_release(self.fleet, on_host)
        wait_until(is_on, "on again")

    def test_a_firewall_that_cannot_be_set_is_told_to_the_cloud_and_the_device_goes_on(self):
        self.addCleanup(self.clean)
        self.cloud.add_release(self.fleet, {"main": service()})
        port = free_port()
        agent = self.managed_agent(start=False, listenPort=port)
        agent.port = port
        self.stand_in.device_address = ("127.0.0.1", port)
        agent.start(listen=None)
        # What an unknown device says has no place to go.
        self.wait_for_containers(agent, "main")
        self.wait_for_mode(agent, "off")
        agent.kill()
        # A host without the tools: what the agent sees of it is empty where they would be.
        binary = agent.path("on-a-poor-host")
        with open(binary, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nfor d in /usr/sbin /usr/local/sbin; do mount -t tmpfs none $d; done\n"
                       f'exec {required("SUPERVISOR_TEST_BINARY")} "$@"\n')
        os.chmod(binary, 0o755)
        start = agent.path("start")
        with open(start, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec unshare --mount {binary} "$@"\n')
        os.chmod(start, 0o755)
        with unittest.mock.patch.dict(os.environ, SUPERVISOR_TEST_BINARY=start):
            agent.start(listen=None)
        device = self.device(agent)
        for tool in ("iptables", "ip6tables"):
            text = f"Firewall mode not applied due to error: {tool} is not installed"
            wait_until(lambda text=text: [row for _, row in device.log_arrivals if row["message"] == text],
                       f"the cloud is told of {tool}")
            self.assertEqual(agent.log.count(text), 1)
        self.wait_for_containers(agent, "main")
