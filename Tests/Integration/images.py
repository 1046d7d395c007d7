"""Devices and registries of the tests of images."""

import json
import os

from harness import ROOT, DeviceTest, required, run, wait_until

UUID = "5" * 32
KEY = "a61d0f7c94e24b38859b7e3c20f1d46a"
USER = f"d_{UUID}"
NAMES = ("a", "b", "c", "d", "e")


class ImageTest(DeviceTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shared = required("SUPERVISOR_TEST_REGISTRY")
        for name in NAMES:
            cls.push(name)
        cls.push("delta", "images/b")

    @classmethod
    def push(cls, name, text=None, tag="1"):
        """An image in the shared registry, `images/NAME:TAG`, that is not on the engine any more."""
        cls.engine.make_image(f"local/{name}:{tag}", text or f"images/{name}")
        cls.push_local(name, tag)

    @classmethod
    def push_local(cls, name, tag="1"):
        run([f"{ROOT}/scripts/registry", "push", cls.shared.rpartition(":")[2], cls.engine.address,
             f"local/{name}:{tag}", f"images/{name}:{tag}"])
        cls.forget_images()

    @classmethod
    def forget_images(cls):
        for image in cls.engine.get("/images/json"):
            for name in (image["RepoTags"] or []) + (image["RepoDigests"] or []):
                if "/images/" in name or name.startswith("local/"):
                    cls.engine.request("DELETE", f"/images/{name}?force=1")

    def setUp(self):
        super().setUp()
        self.directory = os.path.join(required("SUPERVISOR_TEST_DIRECTORY"), "images", self.id().rpartition(".")[2])
        self.addCleanup(self.forget_images)

    def stand_in(self, server):
        self.addCleanup(server.stop)
        return server

    def device(self, api="http://127.0.0.1:9", variables=None, **settings):
        """A device of a fleet in local mode: targets are posted, and it has a name and a key for registries."""
        self.variables = {"RESIN_SUPERVISOR_LOCAL_MODE": "1", **(variables or {})}
        config = {"uuid": UUID, "apiEndpoint": api, "deviceApiKey": KEY, "registered_at": 1700000000, "deviceId": 5,
                  **settings}
        agent = self.agent(start=False, config=json.dumps(config))
        with open(agent.path("data/apps.json"), "w", encoding="utf-8") as file:
            json.dump({"config": self.variables, "apps": {}}, file)
        agent.start()
        wait_until(lambda: self.post(agent, {}).status == 200, "local mode is on")
        return agent

    def post(self, agent, apps):
        body = {"local": {"name": "device", "config": getattr(self, "variables", {}), "apps": apps}}
        return agent.request("POST", "/v2/local/target-state", body)

    def wait_for_line(self, agent, *words):
        def lines():
            agent.assert_alive()
            return [line for line in agent.log.splitlines() if all(word in line for word in words)]

        return wait_until(lines, f"a line of the log with {words}")

    def wait_for_container(self, name, app_id=1, other_than=None):
        def running():
            container = self.engine.service_containers(app_id).get(name)
            return container and container["State"]["Running"] and container["Id"] != other_than and container

        return wait_until(running, f"a container of service {name}")

    def image_id(self, name):
        answer = self.engine.request("GET", f"/images/{name}/json")
        return answer.json["Id"] if answer.status == 200 else None

    def waits(self, agent, app_id=1):
        """What the services of an app wait for, as `/v2/explain` has it."""
        apps = {row["appId"]: row for row in agent.get("/v2/explain").json["apps"]}
        return apps.get(app_id, {"waiting": []})["waiting"]
