"""The first contact of a device with its cloud: pinning, what is configured on it, and an endpoint that is not https."""

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys

from cloud import CloudTest, service
from harness import IMAGE, OTHER_IMAGE, ROOT, DeviceTest, free_port, run, wait_until


class FirstContact(CloudTest):
    def test_a_preloaded_device_that_wants_it_is_pinned_to_its_release(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        agent = self.managed_agent(start=False)
        self.preload(agent, release)
        agent.start()
        device = self.device(agent)
        wait_until(lambda: device.pin == release.commit, "the device is pinned")
        self.wait_for_report(device, release, "main")
        connection = sqlite3.connect(agent.path("database.sqlite"), timeout=10)
        self.addCleanup(connection.close)
        rows = connection.execute("SELECT value FROM config WHERE key = 'pinDevice'").fetchall()
        self.assertIn(rows, ([], [("null",)]))

    def test_a_preloaded_device_that_the_cloud_knows_is_pinned_before_it_polls(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        later = self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        uuid, key = "ab" * 16, "91e7c30fa5d24b86870ce4b12f9d356a"
        device = self.cloud.add_device(self.fleet, uuid, key)
        agent = self.managed_agent(
            start=False, apiKey=None, uuid=uuid, deviceApiKey=key, deviceId=device.id, registered_at=1_700_000_000)
        self.preload(agent, release)
        agent.start()
        wait_until(lambda: device.pin == release.commit, "the device is pinned")
        self.wait_for_report(device, release, "main")
        self.assertNotIn(later.commit, agent.log)

    def test_a_preloaded_device_without_an_engine_is_known_to_its_cloud(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.managed_agent(start=False)
        self.preload(agent, release)
        agent.engine_address = f"unix://{agent.path('no-engine.sock')}"
        agent.start()
        self.device(agent)
        wait_until(lambda: self.stand_in.seen("state-get", status=200), "it polls")

    def test_what_is_configured_on_the_device_becomes_variables_of_the_cloud_once(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent(persistentLogging=True)
        self.wait_for_report(device, release, "main")

        def variables():
            return [json.loads(row["body"]) for row in self.stand_in.seen("odata", method="POST")]

        self.assertIn(
            {"device": device.id, "name": "RESIN_SUPERVISOR_PERSISTENT_LOGGING", "value": "true"}, variables())
        self.assertEqual(device.config["RESIN_SUPERVISOR_PERSISTENT_LOGGING"], "true")
        seen = len(variables())
        agent.kill()
        polls = len(self.stand_in.seen("state-get"))
        agent.start()
        wait_until(lambda: len(self.stand_in.seen("state-get")) > polls + 1, "it polls again")
        self.assertEqual(len(variables()), seen)

    def test_what_is_configured_is_told_also_when_the_agent_is_killed_before_the_cloud_takes_it(self):
        self.stand_in.faults.add(endpoint="odata", status=500)
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent(persistentLogging=True)
        wait_until(lambda: "Could not report initial configuration" in agent.log, "the cloud does not take it")
        self.wait_for_report(device, release, "main")
        wait_until(lambda: self.stand_in.seen("state-get", status=304), "the target has its tag")
        agent.kill()
        self.stand_in.faults.clear()
        agent.start()
        wait_until(lambda: device.config.get("RESIN_SUPERVISOR_PERSISTENT_LOGGING") == "true", "the variable")
        whole = len(self.stand_in.seen("state-get", status=200))
        polls = len(self.stand_in.seen("state-get", status=304))
        wait_until(lambda: len(self.stand_in.seen("state-get", status=304)) > polls + 1, "it polls by the tag again")
        # The variable is a new target, which is fetched once.
        self.assertLessEqual(len(self.stand_in.seen("state-get", status=200)), whole + 1)

    def test_an_endpoint_that_redirects_is_read_with_the_key(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        uuid, key = "ab" * 16, "91e7c30fa5d24b86870ce4b12f9d356a"
        device = self.cloud.add_device(self.fleet, uuid, key)
        agent = self.managed_agent(
            apiEndpoint=self.stand_in.plain_url, apiKey=None, uuid=uuid, deviceApiKey=key, deviceId=device.id,
            registered_at=1_700_000_000)
        wait_until(lambda: self.stand_in.seen("state-get", status=200), "the target is read")
        wait_until(lambda: release.commit in agent.log, "the release is applied")

    def test_an_endpoint_that_redirects_writes_keeps_the_identity_and_heals_with_the_right_one(self):
        agent = self.managed_agent(apiEndpoint=self.stand_in.plain_url)
        wait_until(lambda: self.stand_in.seen("register", status=301), "it tries to register")
        wait_until(lambda: "Device bootstrap failed" in agent.log, "the failure is said")
        self.assertIn("301", agent.log)
        self.assertEqual(self.cloud.devices, {})
        uuid = self.config_of(agent)["uuid"]
        config = {**self.config_of(agent), "apiEndpoint": self.stand_in.url}
        with open(agent.config + ".new", "w", encoding="utf-8") as file:
            json.dump(config, file)
        os.rename(agent.config + ".new", agent.config)
        self.assertEqual(self.device(agent).uuid, uuid)
        self.assertEqual(self.stand_in.seen("register", status=301), self.stand_in.seen("register", scheme="http"))


class FailedStore(CloudTest):
    def test_a_target_that_cannot_be_stored_is_fetched_whole_until_it_can(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.managed_agent(start=False)
        disk = agent.path("disk")
        os.mkdir(disk)
        run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk])
        self.addCleanup(run, ["umount", disk])
        agent.start(database=f"{disk}/database.sqlite")
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        container = self.wait_for_containers(agent, "main")["main"]["Id"]
        with open(f"{disk}/filling", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        # Larger than what the database may have left free in itself.
        label = {"filling": "".join(str(number) for number in range(150_000))}
        new = self.cloud.add_release(self.fleet, {"main": service(labels=label)})
        wait_until(lambda: "the target state cannot be stored" in agent.log, "it cannot be stored, which is said")
        whole = len(self.stand_in.seen("state-get", status=200))
        wait_until(lambda: len(self.stand_in.seen("state-get", status=200)) > whole, "it is fetched whole again")
        self.assertEqual(self.wait_for_containers(agent, "main")["main"]["Id"], container)
        os.remove(f"{disk}/filling")
        self.wait_for_report(device, new, "main")


class Desk(DeviceTest):
    def page(self, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST" if body is not None else "GET", path, body and json.dumps(body))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def requests(self):
        return json.loads(self.page("/requests")[1])

    def shown(self):
        try:
            return json.loads(self.page("/state")[1])
        except (OSError, http.client.HTTPException):
            return None

    def test_a_cloud_for_the_desk_shows_a_device_and_has_its_buttons(self):
        agent = self.agent(start=False)
        directory, ports = agent.path("cloud"), [free_port() for _ in range(3)]
        self.port = ports[2]
        with open(agent.path("cloud.log"), "ab") as log:
            cloud = subprocess.Popen(
                [sys.executable, "-B", f"{ROOT}/Tests/CloudStandIn", "--directory", directory, "--port", str(ports[0]),
                 "--plain-port", str(ports[1]), "--page", str(ports[2]), "--image", IMAGE, "--command", " ".join(["sleep", "1000"]),
                 "--device", f"127.0.0.1:{agent.port}", "--poll", "1000"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=os.setsid)
        self.addCleanup(cloud.wait)
        self.addCleanup(os.killpg, cloud.pid, signal.SIGKILL)
        wait_until(self.shown, "the page answers")
        self.assertIn("<html", self.page("/")[1].lower())
        agent.start(config=os.path.join(directory, "config.json"))
        device = wait_until(
            lambda: next((d for d in self.shown()["devices"] if d["state"].get("apps") and d["logs"]), None),
            "the device, its state and its log are shown")
        self.assertNotIn("api_secret", device["state"])
        status, text = self.page("/call", {"uuid": device["uuid"], "method": "GET", "path": "/ping"})
        self.assertEqual((status, json.loads(text)), (200, {"status": 200, "body": "OK"}))
        status, text = self.page("/fault", {"endpoint": "state-get", "status": 500, "count": 1})
        self.assertEqual(status, 200, text)
        wait_until(lambda: any(fault["hits"] for fault in self.shown()["faults"]), "the fault hits")
        self.assertEqual(self.page("/fault", {"endpoint": "nothing"})[0], 400)
        polls = sum(row["endpoint"] == "state-get" for row in self.requests())
        self.assertEqual(self.page("/update", {"uuid": device["uuid"]})[0], 200)
        wait_until(lambda: sum(r["endpoint"] == "state-get" for r in self.requests()) > polls, "it polls")
        self.assertEqual(self.page("/close-idle", {})[0], 200)
        self.assertEqual(self.page("/connections", {"delay": 0.1, "limit": 8, "sessions": False})[0], 200)
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        self.assertEqual(self.page("/rotate", {"uuid": device["uuid"], "key": os.urandom(16).hex()})[0], 200)
        refused = wait_until(lambda: [r for r in self.requests() if r.get("status") == 401], "the old key is refused")
        self.assertEqual(refused, sorted(refused, key=lambda row: row["at"]))
        self.assertEqual(self.page("/rotate", {"uuid": device["uuid"], "key": config["deviceApiKey"]})[0], 200)
        self.assertNotIn(config["deviceApiKey"], json.dumps(self.requests()))
        status, _ = self.page("/config", {"uuid": device["uuid"], "name": "RESIN_SUPERVISOR_LOCAL_MODE", "value": "1"})
        self.assertEqual(status, 200)
        wait_until(lambda: agent.get("/v2/device/name").status == 200, "the device is in local mode: no key is needed")
