"""Hostname and proxy of the host through the API: files, locks, and the units that restart."""

import concurrent.futures
import http.client
import json
import os
import signal
import time

from harness import app, service
from host import PROXY, RESTARTS, SENT, HostTest


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

    def test_a_hostname_that_is_none_is_taken_with_a_warning(self):
        agent = self.device()
        self.assertEqual(self.patch(agent, {"hostname": "my_device"}), (200, "OK"))
        self.assertIn('Expecting a host name of RFC 1123 at network.hostname but instead got: "my_device"', agent.log)
        self.assertEqual(json.loads(self.content(agent, "boot/config.json"))["hostname"], "my_device")

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
                deadline = time.monotonic() + 60
                # On a busy machine a write may be over before it is seen.
                while not any(name.startswith(".redsocks.conf.") for name in os.listdir(directory)) \
                        and not self.has(agent, f"port = {3000 + number};"):
                    self.assertLess(time.monotonic(), deadline, "no write begins")
                self.assertEqual(agent.kill(signal.SIGTERM), 143)
                answer.result()
            self.assertEqual(os.listdir(directory), ["redsocks.conf"])
            self.assertIn(f"port = {3000 + number};", self.content(agent, "boot/system-proxy/redsocks.conf"))
            self.assertEqual(os.listdir(locks), [])
            agent.start(dbus_address=self.bus.address)

    def has(self, agent, text):
        name = "boot/system-proxy/redsocks.conf"
        return os.path.exists(agent.path(name)) and text in self.content(agent, name)

    def patch_or_end(self, agent, network):
        try:
            self.patch(agent, network)
        except (OSError, http.client.HTTPException):
            pass


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
