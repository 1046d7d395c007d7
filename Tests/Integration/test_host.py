"""What the API does to the host: reboot, shutdown, VPN, hostname, proxy and light."""

import concurrent.futures
import http.client
import json
import os
import signal
import time

import disclosure
from cloud import CloudTest
from cloud import service as cloud_service
from harness import DeviceTest, app, free_port, remove_firewall, service, wait_until
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


class Power(HostTest):
    def is_closed(self, agent):
        try:
            agent.get("/ping", timeout=2)
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
        self.assertEqual(self.bus.calls, ["StopUnit openvpn.service fail"])
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


class HostConfig(HostTest):
    def patch(self, agent, network, **more):
        answer = agent.request("PATCH", "/v1/device/host-config", {"network": network, **more})
        return answer.status, answer.text

    def test_the_hostname_is_written_to_the_configuration_and_nothing_else(self):
        agent = self.device()
        before = json.loads(self.content(agent, "boot/config.json"))
        self.assertEqual(agent.get("/v1/device/host-config").text, '{"network":{"hostname":"applied"}}')
        self.assertEqual(self.patch(agent, {"hostname": "newname"}), (200, "OK"))
        text = self.content(agent, "boot/config.json")
        self.assertEqual(json.loads(text), {**before, "hostname": "newname"})
        self.assertIn('"foreign":{"b":1,"a":[1.50,"x"]}', text)
        self.assertEqual(self.patch(agent, {"hostname": ""}), (200, "OK"))
        self.assertEqual(json.loads(self.content(agent, "boot/config.json"))["hostname"], before["uuid"][:7])
        self.assertEqual(self.bus.calls, [])

    def test_a_proxy_is_written_byte_for_byte_its_units_restart_in_order_and_a_repeat_does_nothing(self):
        agent = self.device()
        self.assertEqual(self.patch(agent, {"proxy": {**SENT, "noProxy": ["10.0.0.1", "fd00::/8"]}}), (200, "OK"))
        self.assertEqual(self.content(agent, "boot/system-proxy/redsocks.conf"), PROXY)
        self.assertEqual(self.content(agent, "boot/system-proxy/no_proxy"), "10.0.0.1\nfd00::/8")
        self.assertEqual(self.bus.calls, RESTARTS)
        shown = agent.get("/v1/device/host-config").json["network"]
        self.assertEqual(shown["proxy"], {**SENT, "noProxy": ["10.0.0.1", "fd00::/8"]})
        self.assertEqual(shown["dns"], "1.1.1.1:54")
        file = os.stat(agent.path("boot/system-proxy/redsocks.conf"))
        for again in ({**SENT}, {"ip": "example.org"}, {"noProxy": ["fd00::/8", "10.0.0.1"]}, {"dns": "1.1.1.1:54"}):
            self.assertEqual(self.patch(agent, {"proxy": again}), (200, "OK"))
        after = os.stat(agent.path("boot/system-proxy/redsocks.conf"))
        self.assertEqual((after.st_ino, after.st_mtime_ns), (file.st_ino, file.st_mtime_ns))
        self.assertEqual(self.bus.calls, RESTARTS)

        self.assertEqual(self.patch(agent, {"proxy": {"port": 1090, "dns": False, "noProxy": []}}), (200, "OK"))
        self.assertEqual(
            self.content(agent, "boot/system-proxy/redsocks.conf"),
            PROXY.partition("\ndnsu2t")[0].replace("port = 1080", "port = 1090"))
        self.assertFalse(os.path.exists(agent.path("boot/system-proxy/no_proxy")))
        self.assertEqual(self.patch(agent, {"proxy": {}}), (200, "OK"))
        self.assertFalse(os.path.exists(agent.path("boot/system-proxy/redsocks.conf")))
        self.assertEqual(self.bus.calls, RESTARTS * 3)
        self.assertEqual(os.listdir(agent.path("boot/system-proxy")), [])

    def test_a_lock_refuses_a_change_but_not_a_repeat_and_force_counts_in_both_places(self):
        agent = self.device()
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")
        self.lock(agent)
        refused = (423, "Lockfile exists for { appId: 1, service: one }")
        self.assertEqual(self.patch(agent, {"hostname": "one"}), refused)
        self.assertEqual(self.patch(agent, {"proxy": SENT}), refused)
        self.assertEqual(json.loads(self.content(agent, "boot/config.json"))["hostname"], "before")
        self.assertFalse(os.path.exists(agent.path("boot/system-proxy/redsocks.conf")))
        self.assertEqual(self.patch(agent, {"hostname": "before"}), (200, "OK"))
        self.assertEqual(self.patch(agent, {}), (200, "OK"))
        self.assertEqual(self.patch(agent, {"hostname": "one"}, force=True), (200, "OK"))
        self.lock(agent)
        self.assertEqual(self.patch(agent, {"hostname": "two"}), refused)
        self.assertEqual(self.patch(agent, {"hostname": "two", "force": "on"}), (200, "OK"))
        self.assertEqual(json.loads(self.content(agent, "boot/config.json"))["hostname"], "two")

    def test_what_is_no_configuration_is_refused_with_its_place(self):
        agent = self.device()
        first = "Could not parse host config input to a valid format:\n"
        for body, place in (
            ({}, "at network but"), ({"network": 123}, "at network but"),
            ({"network": {"hostname": 123}}, "Expecting string at network.hostname but instead got: 123"),
            ({"network": {"proxy": {"dns": "1.1.1.1"}}}, "at network.proxy.1.dns but"),
            ({"network": {"hostname": "a", "proxy": {"ip": "a\nb"}}}, "network.proxy.ip"),
        ):
            answer = agent.request("PATCH", "/v1/device/host-config", body)
            self.assertEqual(answer.status, 400)
            self.assertEqual(answer.headers["Content-Type"], "text/html; charset=utf-8")
            self.assertTrue(answer.text.startswith(first), answer.text)
            self.assertIn(place, answer.text)
        self.assertEqual(json.loads(self.content(agent, "boot/config.json"))["hostname"], "before")

    def test_without_a_bus_the_files_are_written_and_the_answer_says_what_is_missing(self):
        agent = self.device(has_bus=False)
        status, text = self.patch(agent, {"proxy": SENT})
        self.assertEqual(status, 503)
        self.assertIn("system bus", text)
        self.assertEqual(self.content(agent, "boot/system-proxy/redsocks.conf"), PROXY)

    def test_a_restart_that_could_not_be_made_is_made_by_the_same_request_also_after_a_restart_of_the_agent(self):
        agent = self.device()
        self.bus.stop()
        self.assertEqual(self.patch(agent, {"proxy": SENT})[0], 503)
        self.assertEqual(self.patch(agent, {"proxy": SENT})[0], 503)
        self.assertEqual(self.patch(agent, {"hostname": "before"}), (200, "OK"))
        agent.kill()
        self.bus.start()
        agent.start(dbus_address=self.bus.address)
        self.assertEqual(self.patch(agent, {"proxy": SENT}), (200, "OK"))
        self.assertEqual(self.bus.calls, RESTARTS)
        self.assertEqual(self.patch(agent, {"proxy": SENT}), (200, "OK"))
        self.assertEqual(self.bus.calls, RESTARTS)

    def test_a_restart_that_fails_is_told_the_other_unit_is_restarted_and_a_repeat_makes_up_for_it(self):
        agent = self.device()
        self.bus.control("EndJobs", "string:balena-proxy-config.service", "string:failed")
        self.assertEqual(
            self.patch(agent, {"proxy": SENT}), (503, "Restart of balena-proxy-config.service: failed"))
        self.assertEqual(self.bus.calls, RESTARTS)
        self.bus.control("EndJobs", "string:balena-proxy-config.service", "string:done")
        self.assertEqual(self.patch(agent, {"proxy": {"port": 1080}}), (200, "OK"))
        self.assertEqual(self.bus.calls, RESTARTS * 2)

    def test_changes_that_come_at_the_same_time_are_all_made(self):
        agent = self.device()
        self.assertEqual(self.patch(agent, {"proxy": SENT}), (200, "OK"))
        rounds = 5
        for number in range(1, rounds + 1):
            changes = {"ip": f"10.0.0.{number}", "noProxy": [f"n{number}"]}, {"port": 2000 + number}
            with concurrent.futures.ThreadPoolExecutor(len(changes)) as pool:
                for answer in pool.map(lambda change: self.patch(agent, {"proxy": change}), changes):
                    self.assertEqual(answer, (200, "OK"))
            shown = agent.get("/v1/device/host-config").json["network"]["proxy"]
            self.assertEqual(shown, {**SENT, **changes[0], **changes[1]})
        self.assertEqual(self.bus.calls, RESTARTS * (1 + 2 * rounds))


    def test_an_agent_that_is_told_to_end_finishes_the_file_and_gives_back_its_locks(self):
        agent = self.device()
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")
        directory = agent.path("boot/system-proxy")
        locks = agent.path("host/tmp/balena-supervisor/services/1/one")
        os.makedirs(directory)
        for number in range(3):
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                answer = pool.submit(self.patch_or_end, agent, {"proxy": {**SENT, "port": 3000 + number}})
                deadline = time.monotonic() + 20
                while not any(name.startswith(".redsocks.conf.") for name in os.listdir(directory)):
                    self.assertLess(time.monotonic(), deadline, "no write begins")
                self.assertEqual(agent.kill(signal.SIGTERM), 143)
                answer.result()
            self.assertEqual(os.listdir(directory), ["redsocks.conf"])
            self.assertIn(f"port = {3000 + number};", self.content(agent, "boot/system-proxy/redsocks.conf"))
            self.assertEqual(os.listdir(locks), [])
            agent.start(dbus_address=self.bus.address)

    def patch_or_end(self, agent, network):
        try:
            self.patch(agent, network)
        except (OSError, http.client.HTTPException):
            pass


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


class ProxyUnits(HostTest):
    """Which units restart for a new proxy."""

    def restarts(self, *units, status=200):
        agent = self.device(units=units)
        answer = agent.request("PATCH", "/v1/device/host-config", {"network": {"proxy": SENT}})
        self.assertEqual(answer.status, status, answer.text)
        self.assertEqual(self.content(agent, "boot/system-proxy/redsocks.conf"), PROXY)
        return self.bus.calls

    def test_a_host_that_knows_the_unit_by_its_old_name_restarts_that(self):
        self.assertEqual(
            self.restarts("balena-proxy-config.service=missing"),
            ["RestartUnit resin-proxy-config.service fail", RESTARTS[1]])

    def test_a_host_without_units_of_a_proxy_takes_the_files_all_the_same(self):
        missing = (f"{name}.service=missing" for name in ("balena-proxy-config", "resin-proxy-config", "redsocks"))
        self.assertEqual(self.restarts(*missing), [])

    def test_units_that_watch_the_files_themselves_are_left_alone(self):
        target = "redsocks-conf.target"
        self.assertEqual(self.restarts(f"balena-proxy-config.service<{target}", f"redsocks.service<{target}"), [])
        self.assertEqual(self.restarts(f"balena-proxy-config.service<{target}"), RESTARTS[1:])
        self.assertEqual(self.restarts(f"redsocks.service<{target}"), RESTARTS[:1])


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
