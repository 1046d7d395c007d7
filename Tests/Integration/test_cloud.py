"""A device and its cloud, end to end."""

import http.client
import json
import os
import re
import sqlite3
import time

from cloud import POLL, PROVISIONING_KEY, CloudTest, StandIn, service, token_registry
from engine_gate import EngineGate
from harness import COMMAND, IMAGE, OTHER_IMAGE, ROOT, app, required, run, wait_until
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


class LocalMode(CloudTest):
    def test_local_mode_takes_the_clouds_app_away_and_gives_it_back(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        refused = agent.request(
            "POST", f"/v2/local/target-state?apikey={device.state['api_secret']}", {"local": {"apps": {}}})
        self.assertEqual(refused.status, 400)
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        wait_until(lambda: self.engine.service_containers(self.fleet.id) == {}, "the cloud's app stops")
        # What the hardware does may go with it.
        wait_until(
            lambda: any(set(row["report"][device.uuid]) <= METRICS for row in self.stand_in.seen("state-patch")
                        if row.get("report")),
            "an empty report says so")
        seen = len(self.stand_in.seen("state-patch"))
        # As the command line tool does: what it got, with other apps.
        target = agent.get("/v2/local/target-state").json["state"]["local"]
        target["apps"] = app(local_service("bench"))
        self.assertEqual(agent.request("POST", "/v2/local/target-state", {"local": target}).status, 200)
        wait_until(lambda: "bench" in self.engine.service_containers(1), "the local app runs")
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "0"
        self.wait_for_containers(agent, "main")
        wait_until(lambda: self.engine.service_containers(1) == {}, "the local app is gone")
        wait_until(
            lambda: any("apps" in row["report"][device.uuid] for row in self.stand_in.seen("state-patch")[seen:]
                        if row.get("report")), "apps are reported again")
        for row in self.stand_in.seen("state-patch"):
            self.assertEqual(row["status"], 200 if "done" in row else None, row)

    def test_what_came_with_local_mode_goes_with_it_also_after_a_crash_in_the_middle(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.managed_agent(start=False)
        gate = EngineGate(agent.directory, self.engine.path)
        self.addCleanup(gate.stop)
        agent.engine_address = gate.address
        agent.start()
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        self.addCleanup(self.engine.request, "DELETE", "/volumes/before?force=1")
        self.engine.request("POST", "/volumes/create", {"Name": "before"})

        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        wait_until(lambda: self.engine.service_containers(self.fleet.id) == {}, "the cloud's app stops")
        self.assertIn('"before"', self.snapshot(agent))
        for name in ("left-1", "left-2"):
            self.engine.request("POST", "/volumes/create", {"Name": name})
            self.engine.request("POST", "/networks/create", {"Name": name})
            made = self.engine.request("POST", f"/containers/create?name={name}", {"Image": IMAGE, "Cmd": COMMAND})
            self.assertEqual(made.status, 201, made.text)
        target = agent.get("/v2/local/target-state").json["state"]["local"]
        target["apps"] = app(local_service("bench"))
        self.assertEqual(agent.request("POST", "/v2/local/target-state", {"local": target}).status, 200)
        wait_until(lambda: "bench" in self.engine.service_containers(1), "the local app runs")

        def crash(method, path):
            if method == "DELETE" and path.startswith("/volumes/left-"):
                agent.process.kill()
                return False
            return True

        gate.before = crash
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "0"
        agent.wait_for_end(90)
        self.assertEqual(self.engine.service_containers(self.fleet.id), {}, "the cloud's app waits for the clean-up")
        gate.open()
        agent.start()
        self.wait_for_containers(agent, "main")
        volumes = {row["Name"] for row in self.engine.get("/volumes")["Volumes"] or []}
        networks = {row["Name"] for row in self.engine.get("/networks")}
        containers = {name for row in self.engine.get("/containers/json?all=1") for name in row["Names"]}
        for name in ("left-1", "left-2"):
            self.assertNotIn(name, volumes)
            self.assertNotIn(name, networks)
            self.assertNotIn(f"/{name}", containers)
        self.assertIn("before", volumes)
        self.assertEqual(self.engine.service_containers(1), {})
        self.assertTrue(self.engine.has_image(IMAGE))
        self.assertIsNone(self.snapshot(agent))
        self.wait_for_report(device, release, "main")

    def create(self, name, image=IMAGE, **more):
        """A container with a volume and a network of its own, all of this name."""
        for kind in ("volumes", "networks"):
            self.addCleanup(self.engine.request, "DELETE", f"/{kind}/{name}?force=1")
            self.engine.request("POST", f"/{kind}/create", {"Name": name})
        self.addCleanup(self.engine.remove, name)
        made = self.engine.request("POST", f"/containers/create?name={name}", {
            "Image": image, "Cmd": COMMAND, **more,
            "HostConfig": {"Binds": [f"{name}:/own"], "NetworkMode": name, **more.get("HostConfig", {})}})
        self.assertEqual(made.status, 201, made.text)
        started = self.engine.request("POST", f"/containers/{name}/start")
        self.assertEqual(started.status, 204, started.text)
        return made.json["Id"]

    def names(self):
        volumes = {row["Name"] for row in self.engine.get("/volumes")["Volumes"] or []}
        networks = {row["Name"] for row in self.engine.get("/networks")}
        containers = {name[1:] for row in self.engine.get("/containers/json?all=1") for name in row["Names"]}
        return volumes & networks & containers, volumes | networks | containers

    def test_a_device_that_leaves_its_fleet_in_local_mode_keeps_what_its_owner_makes(self):
        agent, device = self.provisioned_agent()
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        wait_until(lambda: self.snapshot(agent), "what there is is noted")
        former = self.config_of(agent)
        self.write_config(agent, {k: v for k, v in former.items() if k != "apiEndpoint"})
        wait_until(lambda: not self.snapshot(agent), "the note is gone")
        self.addCleanup(self.engine.request, "DELETE", "/volumes/owners?force=1")
        self.engine.request("POST", "/volumes/create", {"Name": "owners"})
        self.write_config(agent, former)
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "0"
        wait_until(lambda: "Previous engine snapshot was not stored" in agent.log, "local mode ends")
        self.assertIn("owners", {row["Name"] for row in self.engine.get("/volumes")["Volumes"] or []})

    def test_leaving_local_mode_leaves_the_agents_own_container_with_all_that_it_has(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        wait_until(lambda: self.engine.service_containers(self.fleet.id) == {}, "the cloud's app stops")
        wait_until(lambda: self.snapshot(agent), "what there is is noted")
        agent.kill()
        # Not in the note: launchers make the agent's container anew.
        for image in ("own-image:1", "named-image:1"):
            self.addCleanup(self.engine.request, "DELETE", f"/images/{image}?force=1")
            self.engine.make_image(image, image)
        self.create("balena_supervisor", "named-image:1")
        self.create("left")
        binary, directory = required("SUPERVISOR_TEST_BINARY"), required("SUPERVISOR_TEST_DIRECTORY")
        places = {"/usr", "/lib", "/lib64", "/run", os.path.dirname(binary), directory}
        places = [place for place in places if os.path.exists(place)]
        agent.starts.append(time.monotonic())
        own = self.create(
            "the-agent", "own-image:1", Cmd=[binary, *agent.arguments()], Env=["LOG_LEVEL=debug"],
            HostConfig={"NetworkMode": "host", "Binds": ["the-agent:/own", *(f"{p}:{p}" for p in places)]})
        self.addCleanup(self.print_log_of_failure, own)
        wait_until(lambda: self.is_answering(agent), "the agent in the container answers")
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "0"
        self.wait_for_containers(agent, "main")
        whole, parts = self.names()
        self.assertNotIn("left", parts)
        self.assertIn("balena_supervisor", whole)
        # It is in the host's network, and not in the one with its name.
        self.assertIn("the-agent", parts)
        for image in ("own-image:1", "named-image:1"):
            self.assertTrue(self.engine.has_image(image), image)
        state = self.engine.get(f"/containers/{own}/json")
        self.assertTrue(state["State"]["Running"])
        self.assertEqual(state["RestartCount"], 0)
        self.assertIn("the-agent", {row["Name"] for row in self.engine.get("/volumes")["Volumes"]})
        self.assertIsNone(self.snapshot(agent))

    def is_answering(self, agent):
        try:
            return agent.get("/ping", timeout=2).text == "OK"
        except (OSError, http.client.HTTPException):
            return False

    def print_log_of_failure(self, container):
        if not self._outcome.success:
            print(self.engine.request("GET", f"/containers/{container}/logs?stdout=1&stderr=1").body.decode(errors="replace"))

    def snapshot(self, agent):
        connection = sqlite3.connect(agent.path("database.sqlite"), timeout=10)
        try:
            row = connection.execute("SELECT snapshot FROM engine_snapshot").fetchone()
        finally:
            connection.close()
        return row and row[0]


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
