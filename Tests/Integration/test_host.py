"""What the API does to the host: reboot, shutdown, VPN and light; what the agent reads of it."""

import json
import os
import signal
import time

from cloud import CloudTest
from cloud import service as cloud_service
from harness import app, free_port, remove_firewall, service, wait_until
from host import HostTest
from system_bus import SystemBus


class Power(HostTest):
    def is_closed(self, agent):
        try:
            agent.get("/ping")
        except ConnectionRefusedError:
            return True
        return False

    def test_a_reboot_is_answered_and_then_asked_of_logind_while_services_run_on(self):
        agent = self.device()
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")
        answer = agent.request("POST", "/v1/reboot", {})
        self.assertEqual((answer.status, answer.text), (202, '{"Data":"OK","Error":""}'))
        wait_until(lambda: self.bus.calls == ["Reboot 0"], "logind is told")
        self.assertTrue(self.is_closed(agent))
        self.assertTrue(self.engine.service_containers(1)["one"]["State"]["Running"])

    def test_a_lock_stops_reboot_and_shutdown_and_force_overrides_it(self):
        agent = self.device()
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")
        self.lock(agent)
        for path in ("/v1/reboot", "/v1/shutdown"):
            answer = agent.request("POST", path, {})
            self.assertEqual(
                (answer.status, answer.text),
                (423, '{"Data":"","Error":"Lockfile exists for { appId: 1, service: one }"}'))
        self.assertEqual(self.bus.calls, [])
        self.assertEqual(agent.request("POST", "/v1/reboot", {"force": True}).status, 202)
        wait_until(lambda: self.bus.calls == ["Reboot 0"], "logind is told")

    def test_a_shutdown_that_the_system_refuses_is_told_and_the_api_comes_back(self):
        agent = self.device()
        self.assertEqual(agent.request("POST", "/v1/shutdown", {}).status, 202)
        wait_until(lambda: "Unable to shutdown: " in agent.log and "Operation inhibited" in agent.log, "it is told")
        wait_until(agent.answers, "the agent listens again")

    def test_a_program_that_inhibits_the_shutdown_stops_a_reboot_and_force_overrides_it(self):
        agent = self.device()
        self.bus.control("Inhibit", "string:sleep:shutdown", "string:block")
        self.assertEqual(agent.request("POST", "/v1/reboot", {}).status, 202)
        wait_until(lambda: "Reboot is inhibited by backup (copies the disk)" in agent.log, "it is told")
        wait_until(agent.answers, "the agent listens again")
        self.assertEqual(self.bus.calls, [])
        self.assertEqual(agent.request("POST", "/v1/reboot", {"force": True}).status, 202)
        wait_until(lambda: self.bus.calls == ["Reboot 0"], "logind is told")

    def test_while_the_host_goes_down_by_itself_no_step_is_begun(self):
        agent = self.device()
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")
        self.bus.control("Prepare", "boolean:true")
        wait_until(lambda: "The host goes down" in agent.log, "it is heard")
        agent.post_target(app(service("one"), service("two")))
        time.sleep(3)
        self.assertEqual(list(self.engine.service_containers(1)), ["one"])
        self.bus.control("Prepare", "boolean:false")
        self.wait_for_services(agent, "one", "two")

    def test_a_shutdown_that_was_called_off_while_the_bus_was_away_is_noticed_when_it_is_back(self):
        agent = self.device()
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")
        self.bus.control("Prepare", "boolean:true")
        wait_until(lambda: "The host goes down" in agent.log, "it is heard")
        self.bus.stop()
        agent.post_target(app(service("one"), service("two")))
        self.bus.start()
        wait_until(lambda: "The host does not go down after all" in agent.log, "logind is asked", seconds=90)
        self.wait_for_services(agent, "one", "two")

    def test_without_a_bus_a_reboot_is_told_to_fail_and_the_api_comes_back(self):
        agent = self.device(has_bus=False)
        self.assertEqual(agent.request("POST", "/v1/reboot", {}).status, 202)
        wait_until(lambda: "Unable to reboot: " in agent.log, "it is told")
        self.assertIn("no connection to the system bus", agent.log)
        wait_until(agent.answers, "the agent listens again")


class VPN(HostTest):
    def test_the_state_of_the_vpn_is_that_of_its_unit_and_of_its_marker(self):
        agent = self.device()
        self.assertEqual(
            agent.get("/v2/device/vpn").text, '{"status":"success","vpn":{"enabled":true,"connected":false}}')
        directory = agent.path("host/run/openvpn/vpn_status")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "active"), "w", encoding="utf-8"):
            pass
        self.assertEqual(
            agent.get("/v2/device/vpn").text, '{"status":"success","vpn":{"enabled":true,"connected":true}}')

    def test_a_bus_that_restarts_is_connected_to_again(self):
        agent = self.device()
        self.assertEqual(agent.get("/v2/device/vpn").status, 200)
        self.bus.stop()
        answer = agent.get("/v2/device/vpn")
        self.assertEqual((answer.status, answer.json["status"]), (503, "failed"))
        self.assertIn("system bus", answer.json["message"])
        self.bus.start()
        wait_until(lambda: agent.get("/v2/device/vpn").status == 200, "the bus is there again")


class VPNOfTarget(CloudTest):
    """The switch of the VPN is the fleet's."""

    VARIABLE = "RESIN_SUPERVISOR_VPN_CONTROL"
    ERROR = "Error applying configuration change: openvpn.service"

    def start(self, *units):
        agent = self.managed_agent(start=False)
        self.bus = SystemBus(self, agent.directory, *units)
        return agent.start(dbus_address=self.bus.address)

    def test_the_first_target_and_the_stored_one_after_a_start_switch_it_off(self):
        self.fleet.config[self.VARIABLE] = "false"
        agent = self.start()
        wait_until(lambda: self.bus.calls == ["StopUnit openvpn.service fail"], "it is stopped with the first target")
        agent.kill()
        # The host has booted, and started the unit; the cloud has nothing new.
        self.bus.stop()
        self.bus.start()
        agent.start(dbus_address=self.bus.address)
        wait_until(lambda: self.bus.calls == ["StopUnit openvpn.service fail"], "it is stopped after a start")
        self.fleet.config[self.VARIABLE] = "true"
        wait_until(lambda: self.bus.calls[1:] == ["StartUnit openvpn.service fail"], "it is started again")
        wait_until(lambda: 'Applied configuration change {"SUPERVISOR_VPN_CONTROL":"true"}' in agent.log, "it is told")

    def test_a_unit_that_hangs_holds_up_no_service_and_one_that_fails_is_tried_with_the_next_target(self):
        self.fleet.config[self.VARIABLE] = "false"
        self.cloud.add_release(self.fleet, {"main": cloud_service()})
        agent = self.start("openvpn.service=hanging")
        self.wait_for_containers(agent, "main")
        wait_until(lambda: self.bus.calls == ["StopUnit openvpn.service fail"], "it is stopped")
        self.assertNotIn(self.ERROR, agent.log)
        agent.kill()
        self.bus.stop()
        self.bus.units = ["openvpn.service=failing"]
        self.bus.start()
        agent.start(dbus_address=self.bus.address)
        wait_until(lambda: f"{self.ERROR}: failed" in agent.log, "the failure is told")
        self.assertEqual(self.bus.calls, ["StopUnit openvpn.service fail"])
        self.fleet.config["RESIN_SUPERVISOR_DELTA"] = "1"
        wait_until(lambda: len(self.bus.calls) == 2, "it is tried again")


class Rest(HostTest):
    def bus_calls(self, agent):
        return int(next(line.split()[1] for line in agent.get("/v2/metrics").text.splitlines()
                        if line.startswith("supervisor_bus_calls_total ")))

    def test_a_device_at_rest_makes_no_call_on_the_bus(self):
        agent = self.device()
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")
        self.assertEqual(agent.get("/v2/device/vpn").status, 200)
        before = self.bus_calls(agent)
        self.assertGreater(before, 0)
        time.sleep(5)
        self.assertEqual(self.bus_calls(agent), before)


class Facts(HostTest):
    def test_hardware_addresses_are_read_where_the_environment_says(self):
        agent = self.agent(start=False)
        for name, kind, address in (("eth7", "1", "02:00:00:00:00:0a"), ("ppp0", "512", "02:00:00:00:00:0b")):
            os.makedirs(agent.path(f"net/{name}"))
            for file, text in (("type", kind), ("address", address)):
                with open(agent.path(f"net/{name}/{file}"), "w", encoding="utf-8") as target:
                    target.write(text + "\n")
        agent.start(environment={"MAC_ADDRESS_PATH": agent.path("net")})
        self.assertEqual(agent.get("/v1/device").json["mac_address"], "02:00:00:00:00:0A")

    def test_a_field_that_the_os_release_does_not_have_is_told_once(self):
        agent = self.agent()
        for name in ("one", "two"):
            agent.post_target(app(service(name)))
            self.wait_for_services(agent, name)
        for field, count in (("VERSION", 1), ("PRETTY_NAME", 0)):
            line = f"Field {field} is not available in OS information file: {agent.path('host/etc/os-release')}\n"
            self.assertEqual(agent.log.count(line), count)

    def test_a_discoverability_that_cannot_be_switched_is_told(self):
        port = free_port()
        agent = self.agent(start=False, config=json.dumps({"listenPort": port}))
        agent.port = port
        self.bus = SystemBus(self, agent.directory)
        self.bus.control("EndJobs", "string:avahi-daemon.service", "string:failed")
        self.addCleanup(remove_firewall)
        agent.start(dbus_address=self.bus.address, listen=None)
        line = "There was an error switching host discoverability: avahi-daemon.service: failed"
        wait_until(lambda: line in agent.log, "it is told")
        wait_until(lambda: "StartUnit avahi-daemon.socket fail" in self.bus.calls, "the socket is started too")


class Firmware(HostTest):
    def test_a_malformed_section_of_the_configuration_is_told_once_and_left_alone(self):
        agent = self.agent(config='{"os":{"kernel":["mine"],"b":1.50}}')
        for name in ("one", "two"):
            agent.post_target(app(service(name)))
            self.wait_for_services(agent, name)
        self.assertIn('"os":{"kernel":["mine"],"b":1.50}', self.content(agent, "boot/config.json"))
        self.assertEqual(agent.log.count("Malformed config.json: os.kernel is not an object"), 1)


class Discoverability(CloudTest):
    ON = ["StartUnit avahi-daemon.service fail", "StartUnit avahi-daemon.socket fail"]
    # The socket would start the service again.
    OFF = ["StopUnit avahi-daemon.socket fail", "StopUnit avahi-daemon.service fail"]

    def start(self, owns_host=True):
        port = free_port()
        agent = self.managed_agent(start=False, listenPort=port)
        agent.port = port
        self.stand_in.device_address = ("127.0.0.1", port)
        self.bus = SystemBus(self, agent.directory)
        self.addCleanup(remove_firewall)
        options = {} if owns_host else {"listen": f"127.0.0.1:{port}"}
        return agent.start(**{"dbus_address": self.bus.address, "listen": None, **options})

    @property
    def calls(self):
        return [call for call in self.bus.calls if "avahi" in call]

    def test_avahi_follows_the_variable_at_the_start_and_at_each_change(self):
        agent = self.start()
        wait_until(lambda: self.calls == self.ON, "it is started")
        self.fleet.config["RESIN_HOST_DISCOVERABILITY"] = "false"
        wait_until(lambda: self.calls == self.ON + self.OFF, "it is stopped")
        agent.kill()
        self.bus.stop()
        self.bus.start()
        agent.start(listen=None, dbus_address=self.bus.address)
        wait_until(lambda: self.calls == self.OFF, "it is stopped after a start")
        self.fleet.config["RESIN_HOST_DISCOVERABILITY"] = "true"
        wait_until(lambda: self.calls == self.OFF + self.ON, "it is started again")

    def test_a_guest_leaves_avahi_alone(self):
        self.fleet.config.update(RESIN_HOST_DISCOVERABILITY="false", RESIN_SUPERVISOR_VPN_CONTROL="false")
        self.start(owns_host=False)
        wait_until(lambda: self.bus.calls == ["StopUnit openvpn.service fail"], "the target is applied")
        self.assertEqual(self.calls, [])


class Blink(HostTest):
    def test_the_light_blinks_and_is_given_back_by_an_agent_that_ends_or_was_killed(self):
        agent = self.agent(start=False)
        directory = agent.path("leds/led0")
        os.makedirs(directory)
        files = {"brightness": "3", "max_brightness": "255", "trigger": "none [heartbeat]"}
        for name, text in files.items():
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(text)

        def read(name):
            return self.content(agent, f"leds/led0/{name}")

        environment = {"LED_FILE": os.path.join(directory, "brightness")}
        for end in (signal.SIGTERM, signal.SIGKILL):
            agent.start(environment=environment)
            answer = agent.request("POST", "/v1/blink")
            self.assertEqual((answer.status, answer.text), (200, ""))
            for value in ("255", "0", "255"):
                # It goes on for 15 s from here.
                agent.request("POST", "/v1/blink")
                wait_until(lambda value=value: read("brightness") == value, f"the light is at {value}")
            self.assertEqual(read("trigger"), "none")
            agent.kill(end)
            if end == signal.SIGKILL:
                self.assertEqual(read("trigger"), "none")
                agent.start(environment=environment)
            wait_until(lambda: (read("trigger"), read("brightness")) == ("heartbeat", "3"), "it is given back")
            with open(os.path.join(directory, "trigger"), "w", encoding="utf-8") as file:
                file.write("none [heartbeat]")

    def test_a_device_without_a_light_answers_the_same(self):
        agent = self.agent()
        answer = agent.request("POST", "/v1/blink")
        self.assertEqual((answer.status, answer.text), (200, ""))
