"""The lines that users read of their services (state-engine 9), errors included, and that each error heals."""

import json
import os

from engine_gate import EngineGate, refusal
from harness import COMMAND, DeviceTest, app, run, service, wait_until
from system_bus import SystemBus

MESSAGE = "out of order"


class LogLines(DeviceTest):
    def setUp(self):
        super().setUp()
        self.device = self.agent(start=False)
        self.gate = EngineGate(self.device.directory, self.engine.path)
        self.addCleanup(self.gate.stop)
        self.device.engine_address = self.gate.address
        self.device.start()
        self.rounds = 0

    def post(self, **more):
        """A release in which the service is another one."""
        self.rounds += 1
        content = {"environment": {"ROUND": str(self.rounds)}, **more}
        parts = {name: content.pop(name) for name in ("networks", "volumes") if name in content}
        mounts = {"volumes": [f"{name}:/{name}" for name in parts.get("volumes", {})]}
        self.device.post_target(app(service("one", **mounts, **content), **parts))

    def settle(self):
        return self.wait_for_services(self.device, "one")["one"]

    def object(self, container):
        return f"one {container['Image']}"

    def wait_for(self, line, error=None):
        line += f" due to '{error}'" if error else ""
        wait_until(lambda: line in self.device.log, f"the line {line}")

    def refuse(self, method, start, end=""):
        self.gate.before = lambda m, path: (
            refusal(500, MESSAGE) if m == method and path.startswith(start) and path.endswith(end) else True)

    def test_a_release_is_told_from_its_networks_to_its_locks(self):
        self.post(networks={"front": {}}, volumes={"store": {}})
        container = self.settle()
        for line in ("Creating network 'front'", "Creating network 'default'", "Creating volume 'store'",
                     "Taking update locks", "Releasing update locks"):
            self.wait_for(line)
        for words in ("Installing service", "Installed service", "Starting service", "Started service"):
            self.wait_for(f"{words} '{self.object(container)}'")
        self.device.post_target({})
        for words in ("Killing service", "Killed service"):
            self.wait_for(f"{words} '{self.object(container)}'")
        for line in ("Removing network 'front'", "Removing network 'default'"):
            self.wait_for(line)
        self.assertNotIn(" due to '", self.device.log)

    def test_a_service_that_was_stopped_already(self):
        self.post()
        container = self.settle()
        self.engine.request("POST", f"/containers/{container['Id']}/stop")
        self.post()
        self.wait_for(f"Service is already stopped, removing container '{self.object(container)}'")
        self.settle()

    def test_a_service_that_was_removed_already(self):
        self.post()
        container = self.settle()

        def remove(method, path):
            if path.endswith("/stop"):
                self.engine.remove(container["Id"])
            return True

        self.gate.before = remove
        self.post()
        self.wait_for(f"Service is already stopped and the container removed '{self.object(container)}'")
        self.settle()

    def test_a_service_that_cannot_be_stopped(self):
        self.post()
        container = self.settle()
        self.refuse("POST", "/containers/", "/stop")
        self.post()
        self.wait_for(f"Failed to kill service '{self.object(container)}'", MESSAGE)
        self.gate.open()
        self.assertNotEqual(self.settle()["Id"], container["Id"])

    def test_a_service_that_cannot_be_created(self):
        self.post()
        container = self.settle()
        self.refuse("POST", "/containers/create")
        self.post()
        self.wait_for(f"Failed to install service '{self.object(container)}'", MESSAGE)
        self.gate.open()
        self.assertNotEqual(self.settle()["Id"], container["Id"])

    def test_a_service_whose_name_is_taken(self):
        name = self.engine.request("POST", "/containers/create?name=one_1_1_c0ffee01", {
            "Image": "test-image:1", "Cmd": COMMAND})
        self.assertEqual(name.status, 201, name.text)
        self.addCleanup(self.engine.remove, name.json["Id"])
        self.post()
        self.wait_for("Failed to install service 'one sha256:")
        self.assertIn("is already in use by container", self.device.log)
        self.engine.remove(name.json["Id"])
        self.settle()

    def test_a_service_that_cannot_be_started(self):
        self.post(command=["/no/such/program"])
        self.wait_for("Failed to start service 'one sha256:")
        self.assertIn("/no/such/program: no such file or directory", self.device.log)
        self.post()
        self.settle()

    def test_a_dead_container_that_cannot_be_removed(self):
        self.post()
        container = self.settle()
        identity = container["Id"]
        self.engine.request("POST", f"/containers/{identity}/stop")

        def dead(method, path):
            if (method, path) == ("GET", f"/containers/{identity}/json"):
                found = self.engine.request("GET", path)
                if found.status != 200:
                    return True
                body = found.json
                body["State"].update(Status="dead", Dead=True, Running=False)
                body = json.dumps(body).encode()
                return (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                        b"Content-Length: %d\r\n\r\n" % len(body)) + body
            if (method, path) == ("DELETE", f"/containers/{identity}") and not can_remove:
                return refusal(500, MESSAGE)
            return True

        can_remove = []
        self.gate.before = dead
        # An event, so that the agent looks at it again.
        self.engine.request("POST", f"/containers/{identity}/rename?name=one_1_1_c0ffee02")
        self.wait_for(f"Removing dead container '{self.object(container)}'")
        self.wait_for(f"Error removing dead container '{self.object(container)}'", MESSAGE)
        can_remove.append(True)
        self.assertNotEqual(self.settle()["Id"], identity)

    def test_networks_that_cannot_be_made_or_removed(self):
        self.refuse("POST", "/networks/create")
        self.post(networks={"front": {}})
        # The network for the agent comes first, and no app has to wait for it.
        self.wait_for("Error creating network 'front'", MESSAGE)
        self.gate.open()
        self.settle()
        self.refuse("DELETE", "/networks/")
        self.post()
        self.wait_for("Removing network 'front'")
        self.wait_for("Error removing network 'front'", MESSAGE)
        self.gate.open()
        self.settle()

    def test_volumes_that_cannot_be_made_or_removed(self):
        self.refuse("POST", "/volumes/create")
        self.post(volumes={"store": {}})
        self.wait_for("Error creating volume 'store'", MESSAGE)
        self.gate.open()
        self.settle()
        self.refuse("DELETE", "/volumes/")
        self.post(volumes={"store": {"labels": {"changed": "1"}}})
        self.wait_for("Removing volume 'store'")
        self.wait_for("Error removing volume 'store'", MESSAGE)
        self.gate.open()
        self.settle()

    def test_a_purge_that_fails_and_one_that_does_not(self):
        self.post(volumes={"store": {}})
        self.settle()
        self.refuse("POST", "/containers/", "/stop")
        answer = self.device.request("POST", "/v1/purge", {"appId": 1}, timeout=90)
        self.assertEqual(answer.status, 503, answer.text)
        self.wait_for("Purging data for app 1")
        self.wait_for("Error purging data: ")
        self.gate.open()
        self.settle()
        self.assertNotIn("Purged data", self.device.log)
        answer = self.device.request("POST", "/v1/purge", {"appId": 1}, timeout=90)
        self.assertEqual(answer.status, 200, answer.text)
        self.wait_for("Purged data")
        self.settle()


class DeviceLines(DeviceTest):
    """What is said of the device's own configuration and of its end."""

    def device(self):
        agent = self.agent(start=False)
        for name, text in (("boot/device-type.json", '{"slug":"raspberrypi4-64","arch":"aarch64"}'),
                           ("boot/config.txt", "gpu_mem=16\n")):
            with open(agent.path(name), "w", encoding="utf-8") as file:
                file.write(text)
        self.bus = SystemBus(self, agent.directory)
        return agent.start(dbus_address=self.bus.address)

    def configure(self, agent, **config):
        answer = agent.request("POST", "/v2/local/target-state", {"local": {
            "name": "local", "config": {f"BALENA_{name}": value for name, value in config.items()}, "apps": {}}})
        self.assertEqual(answer.status, 200, answer.text)

    def wait_for(self, agent, *lines, seconds=90):
        for line in lines:
            wait_until(lambda line=line: line in agent.log, f"the line {line}", seconds=seconds)

    def wait_for_change(self, agent, words, variable, seconds=90):
        """The line may name other variables too, which have their defaults then."""
        wait_until(lambda: any(f"{words} configuration change {{" in line and variable in line
                               for line in agent.log.splitlines()), f"{words} {variable}", seconds=seconds)

    def test_configuration_is_told_and_so_is_what_cannot_be_written(self):
        agent = self.device()
        # What the file says already, so that no reboot is needed.
        self.configure(agent, SUPERVISOR_POLL_INTERVAL="800000", HOST_CONFIG_gpu_mem="16")
        for words in ("Applying", "Applied"):
            self.wait_for_change(agent, words, '"SUPERVISOR_POLL_INTERVAL":"800000"')
        boot = agent.path("boot")
        run(["mount", "--bind", boot, boot])
        self.addCleanup(run, ["umount", "-l", boot])
        run(["mount", "-o", "remount,bind,ro", boot])
        self.configure(agent, SUPERVISOR_POLL_INTERVAL="700000", HOST_CONFIG_gpu_mem="16")
        self.wait_for_change(agent, "Applying", '"SUPERVISOR_POLL_INTERVAL":"700000"')
        self.wait_for(agent, "Error applying configuration change: ")
        run(["mount", "-o", "remount,bind,rw", boot])
        # It is tried again after a minute.
        self.wait_for_change(agent, "Applied", '"SUPERVISOR_POLL_INTERVAL":"700000"', seconds=300)
        run(["mount", "-o", "remount,bind,ro", boot])
        self.configure(agent, SUPERVISOR_POLL_INTERVAL="700000", HOST_CONFIG_gpu_mem="64")
        self.wait_for(agent, 'Applying boot config: {"gpu_mem":"64"}', "Error setting boot config: ")
        # There is nothing to reboot for.
        marker = agent.path("host/tmp/balena-supervisor/reboot-after-apply")
        wait_until(lambda: not os.path.exists(marker), "the reboot is called off")
        wait_until(lambda: agent.status()["appState"] == "applied", "the rest is settled")
        self.assertNotIn("Rebooting", agent.log)

    def test_a_reboot_and_a_shutdown_are_told(self):
        for path, line in (("/v1/reboot", "Rebooting"), ("/v1/shutdown", "Shutting down")):
            agent = self.device()
            self.assertEqual(agent.request("POST", path, {}).status, 202)
            self.wait_for(agent, line)
