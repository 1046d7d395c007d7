"""A device below a cloud: the stand-in of Tests/CloudStandIn, and agents that are configured for it."""

import http.client
import json
import os
import sys
import tempfile

from harness import COMMAND, IMAGE, ROOT, Agent, DeviceTest, free_port, required, run, wait_until

sys.path.insert(0, os.path.join(ROOT, "Tests", "CloudStandIn"))

from server import StandIn  # noqa: E402

PROVISIONING_KEY = "0123456789abcdef-provisioning"
POLL = 1000


def service(image=IMAGE, **more):
    """A service of a release that ends at once on SIGTERM."""
    return {"image": image, "composition": {"command": COMMAND, "restart": "always"}, **more}


class CloudTest(DeviceTest):
    """Each test has its own cloud, whose poll interval is a second. No test leaves a key in a log or in a URL."""

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
        finally:
            super().tearDown()
            self.stand_in.stop()

    def check_secrets(self):
        secrets = {PROVISIONING_KEY}
        for device in self.cloud.devices.values():
            secrets |= device.keys | {device.state.get("api_secret")}
        for agent in self.agents:
            secrets |= {self.config_of(agent).get("deviceApiKey")}
        secrets = {secret for secret in secrets if secret}
        for agent in self.agents:
            log = agent.log
            for secret in secrets:
                self.assertNotIn(secret, log, "a key stands in the agent's log")
        for text in self.public_answers():
            for secret in secrets:
                self.assertNotIn(secret, text, "a key stands in an answer for people and monitors")
        for row in self.stand_in.requests:
            self.assertFalse(row.get("key_in_url"), row.get("path"))

    def public_answers(self):
        for agent in self.agents:
            if not agent.process or agent.process.poll() is not None:
                continue
            device = self.cloud.devices.get(self.config_of(agent).get("uuid"))
            key = device and device.state.get("api_secret") or ""
            for path in ("/v2/metrics", "/v2/explain"):
                try:
                    yield agent.get(f"{path}?apikey={key}").text
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
