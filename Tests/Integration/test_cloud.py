"""A device and its cloud, end to end."""

import json
import os
import re

from cloud import POLL, PROVISIONING_KEY, CloudTest, StandIn, service, token_registry
from harness import IMAGE, OTHER_IMAGE, ROOT, app, required, run, wait_until
from harness import service as local_service

METRICS = {
    "cpu_usage", "memory_usage", "memory_total", "storage_usage", "storage_total", "storage_block_device", "cpu_temp",
    "cpu_id", "is_undervolted",
}


class EndToEnd(CloudTest):
    def push(self, image, name):
        """The digest reference of an image in the plain registry, without the registry."""
        port = required("SUPERVISOR_TEST_REGISTRY").rpartition(":")[2]
        pushed = run([f"{ROOT}/scripts/registry", "push", port, self.engine.address, image, name]).strip()
        return pushed.split("/", 1)[1]

    def forget(self, address):
        for image in self.engine.get("/images/json"):
            for name in (image["RepoTags"] or []) + (image["RepoDigests"] or []):
                if name.startswith((address, required("SUPERVISOR_TEST_REGISTRY"))):
                    self.engine.request("DELETE", f"/images/{name}?force=1")

    def test_from_the_first_start_to_the_second_release(self):
        address = token_registry(self)
        first = f"{address}/{self.push(IMAGE, 'cloud/one:1')}"
        second = f"{address}/{self.push(OTHER_IMAGE, 'cloud/one:2')}"
        self.forget(address)
        release = self.cloud.add_release(self.fleet, {"main": service(first)})
        refusals = [self.stand_in.faults.add(endpoint="token", count=1, status=status) for status in (500, 423)]
        agent = self.managed_agent(initialDeviceName="holy-wildflower")
        device = self.device(agent)

        before = self.wait_for_containers(agent, "main")["main"]["Id"]
        self.wait_for_report(device, release, "main")
        config = self.config_of(agent)
        self.assertEqual(config["deviceId"], device.id)
        self.assertNotIn("apiKey", config)
        self.assertGreater(config["registered_at"], 1_600_000_000_000)
        self.assertTrue(any(t["granted"] and t["user"] == f"d_{device.uuid}" for t in self.stand_in.token_requests))
        self.assertEqual([fault.hits for fault in refusals], [1, 1])
        self.assertEqual(device.name, "holy-wildflower")
        for name in ("api_port", "api_secret", "supervisor_version", "os_version", "os_variant", "status"):
            self.assertIn(name, device.state)

        new = self.cloud.add_release(self.fleet, {"main": service(second)})
        self.cloud.notify()
        self.wait_for_report(device, new, "main")
        after = self.wait_for_containers(agent, "main")["main"]
        self.assertNotEqual(after["Id"], before)
        wait_until(
            lambda: any(r["message"].startswith("Started service") and r["isSystem"] for r in device.logs),
            "the agent's events arrive")

        order = [row["endpoint"] for row in self.stand_in.requests if row["endpoint"] not in ("connection", "handshake", "token")]
        self.assertEqual(order[0], "register")
        self.assertEqual(order.count("register"), 1)
        self.assertLess(order.index("register"), order.index("state-get"))
        self.assertLess(order.index("state-get"), order.index("odata"))
        refused = [(r["endpoint"], r["status"]) for r in self.stand_in.requests
                   if "done" in r and r["endpoint"] in ("state-get", "state-patch", "tags") and r["status"] not in (200, 304)]
        self.assertEqual(refused, [])
        self.assertEqual(self.stand_in.overlaps, [])
        patches = [row["at"] for row in self.stand_in.seen("state-patch", status=200)]
        gaps = [later - earlier for earlier, later in zip(patches, patches[1:])]
        self.assertTrue(all(gap > 9.5 for gap in gaps), gaps)
        agents = {row["headers"].get("user-agent") for row in self.stand_in.requests if "headers" in row}
        agents = {text for text in agents if text and not text.startswith("docker/")}
        self.assertTrue(all(re.fullmatch(r"Supervisor/[0-9.]+ \(Linux; Test OS 1\.0; prod\)", t) for t in agents), agents)

    def test_the_first_contact_is_the_sequence_of_the_chapter(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent(initialDeviceName="holy-wildflower", persistentLogging=True)
        self.wait_for_report(device, release, "main")
        wait_until(lambda: device.name == "holy-wildflower", "the name")
        wait_until(lambda: self.stand_in.seen("log-stream"), "the log stream")
        wait_until(lambda: self.stand_in.seen("state-get", status=304), "an unchanged target")
        # The log stream has no end, and others may be under way.
        rows = [(row["method"], row["path"], row["status"]) for row in list(self.stand_in.requests)
                if "done" in row or row["endpoint"] == "log-stream"]
        target, report, log = (
            ("GET", f"/device/v3/{device.uuid}/state"), ("PATCH", "/device/v3/state"),
            ("POST", f"/device/v2/{device.uuid}/log-stream"))
        self.assertEqual(rows[0], ("POST", "/device/register", 201))
        # What follows goes side by side, each in its own order: the target first, then what is configured.
        contact = [row for row in rows[1:] if row[1].startswith("/v7/")]
        self.assertEqual(contact, [
            ("POST", "/v7/device_config_variable", 201), ("PATCH", f"/v7/device({device.id})", 200)])
        self.assertLess(rows.index((*target, 200)), rows.index(contact[0]))
        others = {row for row in rows[1:] if row not in contact}
        self.assertEqual(others, {(*target, 200), (*target, 304), (*report, 200), (*log, None)})

    def test_an_unchanged_target_is_asked_for_by_its_tag_also_after_a_restart(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        container = self.wait_for_containers(agent, "main")["main"]["Id"]
        self.wait_for_report(device, release, "main")
        wait_until(lambda: self.stand_in.seen("state-get", status=304), "an unchanged target is not sent again")
        agent.kill()
        seen = len(self.stand_in.seen("state-get"))
        agent.start()

        def polls():
            return [row for row in self.stand_in.seen("state-get")[seen:] if "done" in row]

        polls = wait_until(lambda: len(polls()) > 1 and polls(), "it polls again")
        self.assertEqual({row["status"] for row in polls}, {304})
        self.assertEqual(self.wait_for_containers(agent, "main")["main"]["Id"], container)


class DeviceData(CloudTest):
    def test_tags_are_written_and_one_that_the_cloud_reserves_holds_up_none(self):
        agent, device = self.provisioned_agent()
        wait_until(lambda: device.state.get("api_secret"), "the key is reported")
        key = device.state["api_secret"]
        reply = agent.request(
            "PATCH", f"/v2/device/tags?apikey={key}", {"one": "1", "io.balena.x": "2", "two": "3"})
        self.assertEqual(reply.status, 202, reply.text)
        wait_until(lambda: {k: v[1] for k, v in device.tags.items()} == {"one": "1", "two": "3"}, "the tags are written")
        rows = self.get_json(agent, device, "/v2/device/tags")["tags"]
        self.assertEqual(sorted((row["name"], row["value"]) for row in rows), [("one", "1"), ("two", "3")])

    def test_the_name_of_the_cloud_is_the_devices_name(self):
        agent, device = self.provisioned_agent()
        wait_until(lambda: device.state.get("api_secret"), "the key is reported")
        device.name = "a name"
        wait_until(lambda: self.get_json(agent, device, "/v2/device/name")["deviceName"] == "a name", "the new name")

    def test_the_cloud_reaches_the_api_with_the_reported_key(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        status, kind, text = self.stand_in.forward(device, "GET", "/v1/device", None)
        self.assertEqual((status, kind), (200, "application/json"))
        self.assertEqual(json.loads(text)["commit"], release.commit)
        self.assertEqual(self.stand_in.forward(device, "GET", "/ping", None), (200, "text/plain", b"OK"))
        before = self.wait_for_containers(agent, "main")["main"]["State"]["StartedAt"]
        status, _, _ = self.stand_in.forward(device, "POST", "/v1/restart", {"appId": self.fleet.id})
        self.assertEqual(status, 200)
        wait_until(
            lambda: self.wait_for_containers(agent, "main")["main"]["State"]["StartedAt"] != before, "it is restarted")
        key = device.state["api_secret"]
        reply = agent.request("POST", f"/v1/regenerate-api-key?apikey={key}")
        self.assertEqual(reply.status, 200)
        self.assertEqual(agent.get(f"/v1/device?apikey={key}").status, 401)
        wait_until(lambda: device.state["api_secret"] == reply.text, "the new key is reported")

    def test_an_update_is_fetched_at_once_when_the_cloud_says_so(self):
        self.cloud.poll_floor = 600_000
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent(appUpdatePollInterval=600_000)
        self.wait_for_report(device, release, "main")
        new = self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        self.cloud.notify()
        self.wait_for_report(device, new, "main")


class Hardware(CloudTest):
    def reports(self, device):
        return [row["report"][device.uuid] for row in self.stand_in.seen("state-patch", status=200) if row.get("report")]

    def test_what_the_hardware_does_is_reported(self):
        agent, device = self.provisioned_agent()
        wait_until(lambda: "memory_total" in device.state, "the metrics are reported")
        first = next(report for report in self.reports(device) if "memory_total" in report)
        with open("/proc/meminfo", encoding="ascii") as file:
            total = int(file.readline().split()[1])
        self.assertAlmostEqual(first["memory_total"], total / 1024, delta=1)
        self.assertTrue(0 < first["memory_usage"] <= first["memory_total"], first)
        # The processor is busy between two looks: the first report may be too early for it.
        self.assertTrue(0 <= first.get("cpu_usage", 0) <= 100, first)
        # What is mounted for data is the machine's business.
        self.assertTrue(0 <= first.get("storage_usage", 0) <= first.get("storage_total", 0), first)
        self.assertIsInstance(first["storage_block_device"], str)
        self.assertIsInstance(first["is_undervolted"], bool)

    def test_a_device_that_is_told_not_to_reports_nothing_of_its_hardware(self):
        self.fleet.config["RESIN_SUPERVISOR_HARDWARE_METRICS"] = "false"
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        new = self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        self.wait_for_report(device, new, "main")
        last = {}
        for report in self.reports(device):
            last |= report
        measured = METRICS - {"is_undervolted"}
        self.assertEqual({name: last.get(name) for name in measured}, dict.fromkeys(measured))
        self.assertIn("is_undervolted", last)


class Membership(CloudTest):
    def test_a_device_joins_and_leaves_by_its_config_json_without_a_restart(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.agent(config="{}")
        self.stand_in.device_address = ("127.0.0.1", agent.port)
        self.assertEqual(agent.status()["appState"], "applied")
        process = agent.process.pid
        config = self.config_of(agent)
        self.write_config(agent, {**config, **self.config()})
        device = self.device(agent)
        self.assertEqual(device.uuid, config["uuid"])
        self.wait_for_report(device, release, "main")
        self.assertEqual(agent.get("/v2/state/status").status, 401)

        config = self.config_of(agent)
        for name in ("apiEndpoint", "apiKey", "deviceApiKey", "deviceId", "registered_at", "applicationId"):
            config.pop(name, None)
        self.write_config(agent, config)
        wait_until(lambda: agent.get("/v2/state/status").status == 200, "no key is needed any more")
        seen = len(self.stand_in.seen("state-get"))
        self.assertEqual(agent.post_target(app(local_service("bench"))).status, 200)
        wait_until(lambda: "bench" in self.engine.service_containers(1), "a local app runs")
        self.assertEqual(len(self.stand_in.seen("state-get")), seen)
        self.assertEqual((agent.process.pid, agent.process.poll()), (process, None))

    def test_a_device_that_joins_its_cloud_again_is_provisioned_without_a_restart(self):
        agent, device = self.provisioned_agent()
        wait_until(lambda: self.stand_in.seen("state-get", status=200), "it polls")
        process = agent.process.pid
        config = self.config_of(agent)
        del config["deviceId"], config["registered_at"]
        self.write_config(agent, {**config, "apiKey": PROVISIONING_KEY})
        wait_until(lambda: self.config_of(agent).get("deviceId") == device.id, "it knows its number again")
        self.assertEqual(self.config_of(agent).get("apiKey"), None)
        self.assertTrue(self.stand_in.seen("register", status=409))
        polls = len(self.stand_in.seen("state-get"))
        wait_until(lambda: len(self.stand_in.seen("state-get")) > polls, "it polls again")
        self.assertEqual((agent.process.pid, agent.process.poll()), (process, None))

    def test_a_device_that_joins_another_cloud_tells_it_everything(self):
        other = StandIn(os.path.join(self.cloud_directory, "other"), poll_floor=POLL)
        self.addCleanup(other.stop)
        fleet = other.cloud.add_fleet("other", provisioning_key=PROVISIONING_KEY)
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        wait_until(lambda: device.state.get("api_secret"), "the first cloud knows the key")
        reply = agent.request("PATCH", f"/v2/device/tags?apikey={device.state['api_secret']}", {"one": "1"})
        self.assertEqual(reply.status, 202, reply.text)
        wait_until(lambda: "one" in device.tags, "the first cloud has the tag")
        process = agent.process.pid
        config = self.config_of(agent)
        for name in ("deviceId", "registered_at", "deviceApiKey"):
            config.pop(name, None)
        self.write_config(agent, {
            **config, "apiEndpoint": other.url, "apiKey": PROVISIONING_KEY, "applicationId": fleet.id,
            "balenaRootCA": other.root_base64})
        there = wait_until(lambda: other.cloud.devices.get(config["uuid"]), "the other cloud knows the device")
        wait_until(lambda: there.state.get("api_secret"), "the other cloud knows the key")
        for name in ("api_port", "supervisor_version", "os_version", "os_variant", "status", "mac_address"):
            self.assertEqual(there.state.get(name), device.state.get(name), name)
        reply = agent.request("PATCH", f"/v2/device/tags?apikey={there.state['api_secret']}", {"one": "1"})
        self.assertEqual(reply.status, 202, reply.text)
        wait_until(lambda: "one" in there.tags, "the other cloud has the tag")
        # It knows nothing of the apps of the first one.
        self.assertEqual({row["status"] for row in other.seen("state-patch") if "done" in row}, {200})
        self.assertEqual((agent.process.pid, agent.process.poll()), (process, None))
