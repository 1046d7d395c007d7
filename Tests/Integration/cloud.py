"""A device below a cloud: the stand-in of Tests/CloudStandIn, and agents that are configured for it."""

import http.client
import json
import os
import sys
import tempfile

import disclosure
from harness import COMMAND, IMAGE, ROOT, Agent, DeviceTest, free_port, required, run, wait_until

sys.path.insert(0, os.path.join(ROOT, "Tests", "CloudStandIn"))

from server import StandIn  # noqa: E402

PROVISIONING_KEY = "0123456789abcdef-provisioning"
POLL = 1000
# Less the time on the way, and what a timer may be late.
REPORT_SPACING = 9.5


def service(image=IMAGE, **more):
    """A service of a release that ends at once on SIGTERM."""
    return {"image": image, "composition": {"command": COMMAND, "restart": "always"}, **more}


class CloudTest(DeviceTest):
    """Each test has its own cloud, whose poll interval is a second. No test leaves a key in a URL."""

    def setUp(self):
        super().setUp()
        base = os.path.join(required("SUPERVISOR_TEST_DIRECTORY"), "clouds")
        os.makedirs(base, exist_ok=True)
        self.cloud_directory = tempfile.mkdtemp(dir=base)
        self.stand_in = StandIn(self.cloud_directory, poll_floor=POLL)
        self.cloud = self.stand_in.cloud
        self.fleet = self.cloud.add_fleet("fleet", provisioning_key=PROVISIONING_KEY)

    def tearDown(self):
        try:
            self.check_secrets()
            self.check_reports()
        finally:
            super().tearDown()
            self.stand_in.stop()

    def preload(self, agent, release):
        """The device was made with a release of one service, and wants to be pinned to it."""
        main = {"id": 1, "image_id": 1, "image": IMAGE, "environment": {}, "labels": {},
                "composition": {"command": COMMAND, "restart": "always"}}
        content = {"config": {}, "pinDevice": True, "apps": {self.fleet.uuid: {
            "id": self.fleet.id, "name": "fleet", "class": "fleet", "releases": {release.commit: {
                "id": release.id, "services": {"main": main}, "volumes": {}, "networks": {}}}}}}
        with open(agent.path("data/apps.json"), "w", encoding="utf-8") as file:
            json.dump(content, file)

    def check_secrets(self):
        """Tells what the device has sent, and what its cloud knows of keys; the search is done when all tests have run."""
        disclosure.secret("provisioning key", PROVISIONING_KEY)
        for key in self.cloud.user_keys:
            disclosure.secret("key of a person", key)
        for device in self.cloud.devices.values():
            for key in device.keys:
                disclosure.secret("deviceApiKey", key)
            for _, record in device.log_arrivals:
                disclosure.sent("log-stream", device.uuid, "", json.dumps(record).encode())
        for token in self.stand_in.tokens:
            disclosure.secret("token of the registry", token)
        for agent in self.agents:
            self.ask_for_everything(agent)
        for row in self.stand_in.requests:
            for report in (row.get("report") or {}).values():
                disclosure.secret("key of the device's API", report.get("api_secret"))
            if "path" in row:
                self.assertFalse(row.get("key_in_url"), row["path"])
                disclosure.sent(row["method"], row["path"], str(row["headers"]), row.get("body", b""))

    def check_reports(self):
        """After one that was taken there is none for ten seconds, but for one of an agent that has just started."""
        starts = [at for agent in self.agents for at in agent.starts]
        last = {}
        for row in self.stand_in.seen("state-patch"):
            for uuid in row.get("report") or {}:
                former = last.get(uuid)
                if former and row["at"] - former < REPORT_SPACING:
                    self.assertTrue(any(former < at < row["at"] for at in starts), f"reports {row['at'] - former} s apart")
                last[uuid] = row["at"] if row["status"] == 200 and not row["faulty"] else None

    def ask_for_everything(self, agent):
        """What people and monitors see; the harness keeps the answers."""
        if not agent.process or agent.process.poll() is not None:
            return
        device = self.cloud.devices.get(self.config_of(agent).get("uuid"))
        key = device and device.state.get("api_secret") or ""
        for path in ("/v2/metrics", "/v2/explain"):
            try:
                agent.get(f"{path}?apikey={key}")
            except (OSError, http.client.HTTPException):
                # Some tests leave an agent that is about to end.
                pass

    def config(self, **more):
        return {
            "apiEndpoint": self.stand_in.url, "apiKey": PROVISIONING_KEY, "applicationId": self.fleet.id,
            "deviceType": "generic-amd64", "balenaRootCA": self.stand_in.root_base64,
            "appUpdatePollInterval": POLL, "bootstrapRetryDelay": 1000, **more,
        }

    def config_of(self, agent):
        with open(agent.config, encoding="utf-8") as file:
            return json.load(file)

    def write_config(self, agent, config):
        """As the host's tools do."""
        path = agent.config + ".new"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        os.rename(path, agent.config)

    def managed_agent(self, start=True, **more):
        agent = self.agent(start=False, config=json.dumps({k: v for k, v in self.config(**more).items() if v is not None}))
        self.stand_in.device_address = ("127.0.0.1", agent.port)
        if start:
            agent.start()
        return agent

    def device(self, agent):
        """The cloud's row of the agent's device, once it is registered."""
        return wait_until(
            lambda: self.cloud.devices.get(self.config_of(agent).get("uuid")), "the device is registered")

    def provisioned_agent(self, **more):
        agent = self.managed_agent(**more)
        device = self.device(agent)
        wait_until(lambda: "deviceId" in self.config_of(agent), "the device knows that it is registered")
        return agent, device

    def reported_services(self, device, release):
        """Services of a release as reported, by name; None while the release is not reported as running."""
        app = device.state.get("apps", {}).get(self.fleet.uuid, {})
        if app.get("release_uuid") != release.commit:
            return None
        return app["releases"].get(release.commit, {}).get("services")

    def wait_for_report(self, device, release, *names):
        """Waits until exactly these services of this release, and nothing else, are reported as running."""

        def reported():
            services = self.reported_services(device, release)
            if services is None or sorted(services) != sorted(names):
                return None
            if any(row["status"] != "Running" for row in services.values()):
                return None
            releases = device.state["apps"][self.fleet.uuid]["releases"]
            return list(releases) == [release.commit] and releases[release.commit]["update_status"] == "done"

        wait_until(reported, f"{release.commit} is reported as running: {names}; {device.state.get('apps')}")

    def wait_for_containers(self, agent, *names):
        return self.wait_for_services(agent, *names, app_id=self.fleet.id)

    def get_json(self, agent, device, path):
        """As the cloud asks: with the key that the device has reported."""
        reply = agent.get(f"{path}?apikey={device.state['api_secret']}")
        self.assertEqual(reply.status, 200, reply.text)
        return reply.json

    def wait_for_services(self, agent, *names, app_id=1):
        """As in local mode, with a key."""
        device = self.device(agent)

        def settled():
            if not device.state.get("api_secret"):
                return None
            try:
                reply = agent.get(f"/v2/state/status?apikey={device.state['api_secret']}")
            except (OSError, http.client.HTTPException):
                agent.assert_alive()
                return None
            if reply.status != 200 or reply.json["appState"] != "applied":
                return None
            containers = self.engine.service_containers(app_id)
            if sorted(containers) != sorted(names):
                return None
            return {"containers": containers} if all(c["State"]["Running"] for c in containers.values()) else None

        return wait_until(settled, f"services running: {', '.join(names) or 'none'}")["containers"]


def token_registry(test):
    """A registry that shares the plain one's images and demands a token of the test's cloud; its address."""
    port = free_port()
    stand_in = test.stand_in
    directory = os.path.join(test.cloud_directory, "registry")
    os.makedirs(directory)
    path = os.path.join(directory, "auth.yml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f"auth:\n  token:\n    realm: {stand_in.plain_url}/auth/v1/token\n    service: 127.0.0.1:{port}\n"
            f"    issuer: {stand_in.token_issuer}\n    rootcertbundle: {stand_in.signer.certificate}\n")
    storage = os.path.join(required("SUPERVISOR_TEST_DIRECTORY"), "registry", "storage")
    run([f"{ROOT}/scripts/registry", "start", directory, str(port), f"@{path}", storage])
    test.addCleanup(run, [f"{ROOT}/scripts/registry", "stop", directory])
    return f"127.0.0.1:{port}"


__all__ = ["Agent", "CloudTest", "PROVISIONING_KEY", "service", "token_registry"]
