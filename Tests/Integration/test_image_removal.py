"""Images that nobody needs any more go, and no others."""

import json
import os
import threading

from engine_gate import EngineGate
from harness import COMMAND, IMAGE, run, wait_until
from images import KEY, UUID, ImageTest


class Removal(ImageTest):
    """Outside local mode, where images that nobody wants go; the targets come as preload files."""

    def setUp(self):
        super().setUp()
        for name in ("a", "b"):
            self.engine.make_image(f"local/{name}:1", name)
        self.device_agent = self.agent(
            start=False, config=json.dumps({"uuid": UUID, "apiEndpoint": "http://127.0.0.1:9", "deviceApiKey": KEY}))

    def target(self, apps, commit="c0ffee01", environment=None, **options):
        """`apps`: by app id, the images of its services by name."""
        agent = self.device_agent
        agent.kill()
        document = {"config": {}, "apps": {
            str(app_id) * 32: {"id": app_id, "name": f"app{app_id}", "class": "fleet", "releases": {
                commit: {"id": 99, "volumes": {}, "networks": {}, "services": {
                    name: {"id": 70 + number, "image_id": 80 + number, "image": image, "environment": {},
                           "labels": {}, "composition": {"command": COMMAND}}
                    for number, (name, image) in enumerate(services.items())}}}}
            for app_id, services in apps.items()}}
        with open(agent.path("data/apps.json"), "w", encoding="utf-8") as file:
            json.dump(document, file)
        agent.start(environment=environment, **options)
        for app_id, services in apps.items():
            for name, image in services.items():
                wait_until(lambda: self.runs(app_id, name, image, commit), f"service {name} runs {image}")
        return agent

    def runs(self, app_id, name, image, commit):
        container = self.engine.service_containers(app_id).get(name)
        return (container and container["State"]["Running"] and container["Image"] == self.image_id(image)
                and container["Name"].endswith(commit))

    def test_the_image_of_the_former_release_goes_when_the_new_one_runs(self):
        self.target({1: {"one": "local/a:1"}})
        agent = self.target({1: {"one": "local/b:1"}}, commit="bbbb")
        wait_until(lambda: not self.engine.has_image("local/a:1"), "the former image is gone")
        self.wait_for_line(agent, "Deleting image 'local/a:1'")
        self.wait_for_line(agent, "Deleted image 'local/a:1'")
        self.assertTrue(self.engine.has_image("local/b:1"))

    def test_the_locks_go_before_the_former_image_has_gone(self):
        self.target({1: {"one": "local/a:1"}})
        gate = EngineGate(self.device_agent.directory, self.engine.path)
        self.addCleanup(gate.stop)
        begun, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def before(method, path):
            if method == "DELETE" and path.startswith("/images/"):
                begun.set()
                go_on.wait(60)
            return True

        gate.before = before
        agent = self.target({1: {"one": "local/b:1"}}, commit="bbbb", engine=gate.address)
        self.assertTrue(begun.wait(60), "the removal begins")
        directory = agent.path("host/tmp/balena-supervisor/services/1/one")
        wait_until(lambda: not [name for name in os.listdir(directory) if "lock" in name], "the locks go", seconds=20)
        self.assertTrue(self.engine.has_image("local/a:1"))
        go_on.set()
        wait_until(lambda: not self.engine.has_image("local/a:1"), "the image goes")

    def test_an_image_stays_as_long_as_another_app_uses_it(self):
        self.target({1: {"one": "local/a:1"}, 2: {"two": "local/a:1"}, 3: {"three": IMAGE}})
        two = self.engine.service_containers(2)["two"]["Id"]
        agent = self.target({2: {"two": "local/a:1"}, 3: {"three": IMAGE}})
        wait_until(lambda: not self.engine.service_containers(1), "the first app is gone")
        wait_until(lambda: self.rows("local/a:1") == 1, "the first app's row is gone")
        self.assertTrue(self.engine.has_image("local/a:1"))
        self.assertEqual(self.engine.service_containers(2)["two"]["Id"], two)
        self.assertNotIn("Deleted image", agent.log)
        self.target({3: {"three": IMAGE}})
        wait_until(lambda: not self.engine.has_image("local/a:1"), "the image went with its last use")

    def rows(self, name):
        text = run(["sqlite3", "-readonly", self.device_agent.path("database.sqlite"),
                    f"SELECT count(*) FROM managed_image WHERE name = '{name}'"])
        return int(text)

    def test_an_image_that_somebody_else_uses_holds_nothing_up_and_goes_later(self):
        self.target({1: {"one": "local/a:1"}})
        answer = self.engine.request(
            "POST", "/containers/create?name=foreign", {"Image": "local/a:1", "Cmd": ["true"]})
        self.addCleanup(self.engine.remove, answer.json["Id"])
        agent = self.target({1: {"one": "local/b:1"}}, commit="bbbb")
        self.wait_for_line(agent, "Failed to delete image 'local/a:1'")
        self.engine.remove(answer.json["Id"])
        wait_until(lambda: not self.engine.has_image("local/a:1"), "it goes when nobody uses it")

    def test_images_without_a_name_are_cleaned_up_and_those_with_a_name_stay(self):
        self.engine.make_image("local/dangling:1", "first")
        dangling = self.image_id("local/dangling:1")
        self.engine.make_image("local/dangling:1", "second")
        self.assertEqual(self.image_id(dangling), dangling)
        self.target({1: {"one": "local/a:1"}})
        wait_until(lambda: self.image_id(dangling) is None, "the image without a name is gone")
        self.assertTrue(self.engine.has_image("local/dangling:1"))

    def test_an_image_without_a_name_that_somebody_else_runs_is_left_alone_for_an_hour(self):
        self.engine.make_image("local/used:1", "first")
        used = self.image_id("local/used:1")
        container = self.engine.request(
            "POST", "/containers/create?name=foreign", {"Image": used, "Cmd": COMMAND}).json["Id"]
        self.addCleanup(self.engine.remove, container)
        self.engine.request("POST", f"/containers/{container}/start")
        self.engine.make_image("local/used:1", "second")
        agent = self.target({1: {"one": "local/a:1"}})
        self.wait_for_line(agent, f"Error cleaning up {used}", "will ignore for 1 hour")
        self.assertEqual(self.image_id(used), used)
        self.wait_for_line(agent, "The target state is reached")

    def test_former_images_of_the_agent_itself_are_cleaned_up(self):
        for tag in ("1", "2"):
            self.engine.make_image(f"local/agent:{tag}", f"agent {tag}")
        container = self.engine.request(
            "POST", "/containers/create", {"Image": "local/agent:2", "Cmd": COMMAND}).json["Id"]
        self.addCleanup(self.engine.remove, container)
        self.engine.request("POST", f"/containers/{container}/start")
        self.target({1: {"one": "local/a:1"}}, environment={"SUPERVISOR_CONTAINER_ID": container})
        wait_until(lambda: not self.engine.has_image("local/agent:1"), "the former image is gone")
        self.assertTrue(self.engine.has_image("local/agent:2"))
