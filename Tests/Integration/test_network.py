"""What the agent notices of the network: connectivity, the VPN's marker, addresses, names of the links around."""

import json
import os
import socket
import struct
import subprocess
import threading
import time

from cloud import CloudTest
from harness import DeviceTest, free_port, remove_firewall, run, wait_until

ONLINE = "Internet Connectivity: OK"
OFFLINE = "Waiting for connectivity..."


class Listener:
    """Takes TCP connections and closes them."""

    def __init__(self, port, address="127.0.0.1"):
        self.socket = socket.create_server((address, port))
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                self.socket.accept()[0].close()
            except OSError:
                return

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


class Interface:
    """A link of the test's own, which leads nowhere."""

    def __init__(self, test, name, address):
        run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}-end"])
        test.addCleanup(run, ["ip", "link", "delete", name])
        run(["ip", "address", "add", f"{address}/24", "dev", name])
        run(["ip", "link", "set", f"{name}-end", "up"])
        run(["ip", "link", "set", name, "up"])


class Responder:
    """Answers questions of multicast DNS for one name, as the name's owner does."""

    def __init__(self, name, address, interface_address):
        self.name = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        self.address = socket.inet_aton(address)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("", 5353))
        group = socket.inet_aton("224.0.0.251") + socket.inet_aton(interface_address)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        self.questions = 0
        self.is_over = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            message, source = self.socket.recvfrom(9000)
            if self.is_over:
                return
            if not message[12:].startswith(self.name):
                continue
            self.questions += 1
            head = message[:2] + struct.pack(">HHHHH", 0x8400, 2, 1, 0, 0)
            record = struct.pack(">HHHIH", 0xC00C, 1, 0x8001, 10, 4) + self.address
            self.socket.sendto(head + message[12:] + record, source)

    def close(self):
        self.is_over = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", 5353))
        self.thread.join()
        self.socket.close()


class Connectivity(DeviceTest):
    def device(self, endpoint, **environment):
        config = {"apiEndpoint": endpoint, "deviceType": "generic-amd64", "uuid": "0" * 32}
        agent = self.agent(start=False, config=json.dumps(config))
        return agent.start(environment=environment)

    def wait_for_count(self, agent, line, count):
        wait_until(lambda: agent.log.count(line) >= count, f"{count} times: {line}")

    def test_the_light_tells_that_the_cloud_is_out_of_reach_until_it_is_back(self):
        port = free_port()
        light = os.path.join(self.engine.directory, "light")
        with open(light, "w", encoding="utf-8") as file:
            file.write("0")
        agent = self.device(f"http://127.0.0.1:{port}", LED_FILE=light)
        self.wait_for_count(agent, OFFLINE, 1)

        def brightness():
            with open(light, encoding="utf-8") as file:
                return file.read().strip()

        wait_until(lambda: brightness() == "1", "the light is on")
        wait_until(lambda: brightness() == "0", "the light is off")
        self.assertEqual(agent.get("/v1/healthy").status, 200)
        self.assertNotIn(ONLINE, agent.log)
        listener = Listener(port)
        self.addCleanup(listener.close)
        self.wait_for_count(agent, ONLINE, 1)
        wait_until(lambda: brightness() == "0", "the light is as it was")
        self.assertEqual(agent.log.count(OFFLINE), 1)

    def test_a_vpn_stands_for_connectivity(self):
        agent = self.device(f"http://127.0.0.1:{free_port()}")
        self.wait_for_count(agent, OFFLINE, 1)
        marker = agent.path("host/run/openvpn/vpn_status/active")
        with open(marker, "w", encoding="utf-8"):
            pass
        self.wait_for_count(agent, "VPN connection is active.", 1)
        self.wait_for_count(agent, ONLINE, 1)
        os.unlink(marker)
        self.wait_for_count(agent, "VPN connection is not active.", 1)
        self.wait_for_count(agent, OFFLINE, 2)

    def test_a_cloud_on_the_same_link_is_found_by_its_name(self):
        Interface(self, "link7", "10.77.7.1")
        port = free_port()
        listener = Listener(port, "10.77.7.1")
        self.addCleanup(listener.close)
        responder = Responder("Cloud-7.local", "10.77.7.1", "10.77.7.1")
        self.addCleanup(responder.close)
        agent = self.device(f"http://Cloud-7.local:{port}")
        self.wait_for_count(agent, ONLINE, 1)
        self.assertGreater(responder.questions, 0)


class Addresses(CloudTest):
    def test_a_new_address_is_reported(self):
        _, device = self.provisioned_agent()
        wait_until(lambda: device.state.get("api_secret"), "the device has reported")
        Interface(self, "link8", "10.77.8.1")
        wait_until(lambda: "10.77.8.1" in (device.state.get("ip_address") or "").split(), "the address is reported")


class AddressesWithoutACloud(DeviceTest):
    def test_a_new_address_that_somebody_has_asked_for_before_is_noticed(self):
        agent = self.agent()
        # Until all links of the start are there and what is known of the addresses is old.
        time.sleep(13)
        Interface(self, "link9", "10.77.9.1")
        self.assertIn("10.77.9.1", agent.get("/v1/device").json["ip_address"].split())
        wait_until(lambda: any("Addresses: " in line and "10.77.9.1" in line.split() for line in agent.log.splitlines()),
                   "it is told")


class Port(CloudTest):
    def test_a_port_that_is_changed_counts_from_the_next_start_on(self):
        self.addCleanup(remove_firewall)
        port, later = free_port(), free_port()
        agent = self.managed_agent(start=False, listenPort=port)
        agent.port = port
        self.stand_in.device_address = ("127.0.0.1", port)
        agent.start(listen=None)
        device = self.device(agent)
        wait_until(lambda: device.state.get("api_port") == port, "the device has reported")

        path = agent.path("boot/config.json")
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        with open(f"{path}.edited", "w", encoding="utf-8") as file:
            json.dump({**config, "listenPort": later}, file)
        os.replace(f"{path}.edited", path)
        # Facts are read anew, and rules are made anew.
        Interface(self, "link10", "10.77.10.1")
        self.fleet.config["RESIN_HOST_FIREWALL_MODE"] = "on"
        wait_until(lambda: "10.77.10.1" in (device.state.get("ip_address") or "").split(), "the address is reported")
        wait_until(lambda: "Applied firewall mode on (IPv4)" in agent.log, "the rules are made")
        rules = subprocess.run(["iptables", "--wait", "-S", "BALENA-FIREWALL"], check=True, capture_output=True,
                               text=True).stdout
        self.assertIn(f"--dport {port} ", rules)
        self.assertNotIn(f"--dport {later} ", rules)
        self.assertEqual(device.state["api_port"], port)
        self.assertEqual(agent.get(f"/v1/device?apikey={device.state['api_secret']}").json["api_port"], port)
