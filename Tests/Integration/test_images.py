"""Images: registries that demand something, pulls that go wrong, removal, clean-up, deltas."""

import json
import os
import subprocess

from engine_proxy import EngineProxy
from harness import COMMAND, IMAGE, ROOT, DeviceTest, app, required, run, service, wait_until
from stand_ins import Accounts, DeltaServer, Proxy, Registry, TokenServer

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


class Access(ImageTest):
    def test_a_registry_that_demands_a_password_gets_the_name_and_the_key_of_the_device(self):
        accounts = Accounts(self.directory)
        accounts.put(USER, KEY)
        registry = self.stand_in(Registry(self.directory, accounts.authentication))
        agent = self.device()
        self.post(agent, app(service("one", image=f"{registry.address}/images/a:1")))
        self.wait_for_services(agent, "one")
        self.assertNotIn(KEY, agent.log)

    def test_a_password_that_is_refused_costs_one_image_and_says_so_until_it_is_accepted(self):
        accounts = Accounts(self.directory)
        registry = self.stand_in(Registry(self.directory, accounts.authentication))
        agent = self.device()
        name = f"{registry.address}/images/a:1"
        self.post(agent, app(service("one", image=name)) | app(service("two"), app_id=2))
        self.wait_for_line(agent, f"Failed to download image '{name}'", "the registry refuses access")
        self.wait_for_container("two", app_id=2)
        self.assertEqual(agent.status()["appState"], "applying")
        accounts.put(USER, KEY)
        self.wait_for_container("one")

    def test_a_registry_that_demands_a_token_is_pulled_from(self):
        tokens = self.stand_in(TokenServer(self.directory, USER, KEY))
        registry = self.stand_in(Registry(self.directory, tokens.authentication))
        agent = self.device()
        self.post(agent, app(service("one", image=f"{registry.address}/images/a:1")))
        self.wait_for_services(agent, "one")
        scopes = [scope for request in tokens.asked("/token") for scope in request.query.get("scope", [])]
        self.assertIn("repository:images/a:pull", scopes)

    def test_a_token_that_is_refused_is_said_and_asked_for_again(self):
        tokens = self.stand_in(TokenServer(self.directory, USER, KEY))
        tokens.is_refusing = True
        registry = self.stand_in(Registry(self.directory, tokens.authentication))
        agent = self.device()
        self.post(agent, app(service("one", image=f"{registry.address}/images/a:1")))
        self.wait_for_line(agent, "Failed to download image", "the registry refuses access")
        tokens.is_refusing = False
        self.wait_for_services(agent, "one")


class Pulls(ImageTest):
    def setUp(self):
        super().setUp()
        self.proxy = self.stand_in(Proxy(self.shared))

    def named(self, image):
        return f"{self.proxy.address}/images/{image}:1"

    def pulls(self, agent, image):
        """How often the agent has begun to pull the image."""
        return agent.log.count(f"Downloading image '{self.named(image)}'")

    def test_three_images_are_pulled_at_a_time_and_the_others_after_them(self):
        self.proxy.held.update(NAMES)
        agent = self.agent()
        target = app(*(service(name, image=self.named(name), number=number) for number, name in enumerate(NAMES, 1)))
        agent.post_target(target)
        wait_until(lambda: len(self.proxy.pulled()) == 3, "three pulls have begun")
        # One more round of the planner, which has every reason to begin another.
        agent.post_target(target | app(service("other"), app_id=2))
        self.wait_for_container("other", app_id=2)
        first = self.proxy.pulled()
        self.assertEqual((len(first), agent.log.count("Downloading image")), (3, 3))
        one = sorted(first)[0]
        self.proxy.held.discard(one)
        wait_until(lambda: len(self.proxy.pulled()) == 4, "the fourth pull follows the first one's end")
        wait_until(lambda: self.engine.has_image(self.named(one)), "the first pull's image is there")
        self.assertEqual(agent.log.count("Downloading image"), 4)
        self.proxy.held.clear()
        self.wait_for_container(NAMES[-1])
        wait_until(lambda: len(self.engine.service_containers(1)) == 5, "all services run")

    def test_an_image_that_fails_waits_alone_with_its_reason_and_the_time_of_the_next_try(self):
        self.proxy.refused["a"] = 404
        agent = self.agent()
        agent.post_target(
            app(service("one", image=self.named("a"))) | app(service("two", image=self.named("b")), app_id=2))
        self.wait_for_container("two", app_id=2)

        def waiting():
            found = [row for row in self.waits(agent) if row.get("retryAt") and row.get("reason")]
            return found and found[0]

        wait = wait_until(waiting, "the wait is explained")
        self.assertEqual((wait["image"], wait["service"]), (self.named("a"), "one"))
        self.assertIn("the registry does not have the image", wait["reason"])
        wait_until(lambda: self.pulls(agent, "a") >= 3, "it is tried again")
        # Every failed try is said, with the reason.
        lines = self.wait_for_line(agent, f"Failed to download image '{self.named('a')}'")
        self.assertGreaterEqual(len(lines), 2)
        self.assertTrue(all("the registry does not have the image" in line for line in lines), lines)
        del self.proxy.refused["a"]
        self.wait_for_container("one")
        self.assertEqual(self.waits(agent), [])

    def test_a_layer_that_arrives_damaged_is_not_used_and_fetched_again(self):
        self.proxy.spoiled.add("a")
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        self.wait_for_line(agent, "Failed to download image", "damaged or incomplete")
        self.assertIsNone(self.image_id(self.named("a")))
        self.proxy.spoiled.clear()
        self.wait_for_services(agent, "one")

    def test_a_layer_that_is_cut_short_is_not_used_and_fetched_again(self):
        self.proxy.cut.add("a")
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        self.wait_for_line(agent, "Failed to download image", self.named("a"), "damaged or incomplete")
        self.assertIsNone(self.image_id(self.named("a")))
        self.assertEqual(agent.status()["appState"], "applying")
        self.proxy.cut.clear()
        self.wait_for_services(agent, "one")

    def test_an_engine_whose_disk_is_full_costs_one_image_until_there_is_room(self):
        # A layer that no other image has. What the engine downloads comes here first; the layer is larger.
        self.push("large")
        place = f"{self.engine.directory}/data/tmp"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
        mounted = [place]
        self.addCleanup(lambda: [subprocess.run(["umount", "-l", path], check=True) for path in mounted])
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("large"))) | app(service("two"), app_id=2))
        self.wait_for_line(agent, f"Failed to download image '{self.named('large')}'", "no space is left for it")
        self.wait_for_container("two", app_id=2)
        wait = wait_until(
            lambda: [row for row in self.waits(agent) if row.get("retryAt")], "the wait is explained")[0]
        self.assertIn("no space is left for it", wait["reason"])
        subprocess.run(["umount", "-l", mounted.pop()], check=True)
        self.wait_for_container("one")

    def test_a_registry_that_is_down_is_tried_until_it_is_up(self):
        port = self.proxy.port
        self.proxy.stop()
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        self.wait_for_line(agent, "Failed to download image", "the registry cannot be reached")
        self.stand_in(Proxy(self.shared, port=port))
        self.wait_for_services(agent, "one")
        # The first one is stopped twice otherwise.
        self.proxy.stop = lambda: None

    def test_a_pull_that_a_newer_target_does_not_want_is_given_up(self):
        self.proxy.held.add("a")
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        wait_until(lambda: "a" in self.proxy.pulled(), "the pull has begun")
        agent.post_target(app(service("one", image=self.named("b"), number=2), commit="bbbb", release_id=2))
        self.wait_for_services(agent, "one")
        self.wait_for_line(agent, self.named("a"), "was given up for a newer target")
        # What still arrives of it makes no image.
        self.proxy.held.clear()
        agent.post_target(app(service("one", image=self.named("c"), number=3), commit="cccc", release_id=3))
        wait_until(lambda: self.engine.has_image(self.named("c")), "the next image is there")
        self.assertNotIn("Failed to download image", agent.log)
        self.assertIsNone(self.image_id(self.named("a")))

    def test_a_pull_that_a_newer_target_still_wants_goes_on(self):
        self.proxy.held.add("a")
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        wait_until(lambda: "a" in self.proxy.pulled(), "the pull has begun")
        agent.post_target(app(service("one", image=self.named("a"), environment={"NEW": "1"})))
        self.proxy.held.clear()
        one = self.wait_for_services(agent, "one")["one"]
        self.assertIn("NEW=1", one["Config"]["Env"])
        self.assertEqual(self.pulls(agent, "a"), 1)

    def test_nothing_is_pulled_while_too_little_space_is_free(self):
        agent = self.agent()
        root = agent.path("host") + self.engine.get("/info")["DockerRootDir"]
        os.makedirs(root)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", root], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", root], check=True)
        agent.post_target(app(service("one", image=self.named("a"))) | app(service("two"), app_id=2))
        line = self.wait_for_line(agent, "Failed to download image", "no space is left for it")[0]
        self.assertIn("MiB are free", line)
        self.wait_for_container("two", app_id=2)
        self.assertEqual(self.proxy.pulled(), set())
        subprocess.run(["mount", "-o", "remount,size=64m", root], check=True)
        self.wait_for_container("one")

    def test_an_image_that_was_deleted_comes_back_with_its_container(self):
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        before = self.wait_for_services(agent, "one")["one"]

        def taken_away():
            # The agent may be quicker in bringing the container back than the image is deleted.
            for container in self.engine.containers():
                self.engine.remove(container["Id"])
            self.engine.request("DELETE", f"/images/{self.named('a')}?force=1")
            return self.pulls(agent, "a") > 1

        wait_until(taken_away, "the image is pulled again")
        after = self.wait_for_container("one", other_than=before["Id"])
        self.assertEqual(after["Image"], before["Image"])

    def test_an_image_that_was_deleted_below_a_stopped_service_comes_back(self):
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"), command=["true"], restart="no")))
        wait_until(
            lambda: [c["State"]["Status"] for c in self.engine.service_containers(1).values()] == ["exited"],
            "the service has run to its end")
        wait_until(lambda: agent.status()["appState"] == "applied", "the target is reached")
        self.engine.request("DELETE", f"/images/{self.named('a')}?force=1")
        wait_until(lambda: self.image_id(self.named("a")), "the image is back")
        self.assertEqual(self.pulls(agent, "a"), 2)

    def test_a_tag_that_was_deleted_costs_no_download(self):
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        before = self.wait_for_services(agent, "one")["one"]
        self.engine.request("DELETE", f"/images/{self.named('a')}?force=1")
        agent.post_target(app(service("one", image=self.named("a"), environment={"NEW": "1"})))
        after = self.wait_for_container("one", other_than=before["Id"])
        self.assertEqual(after["Image"], before["Image"])
        self.assertEqual(self.pulls(agent, "a"), 1)


class Removal(ImageTest):
    """Outside local mode, where images that nobody wants go; the targets come as preload files."""

    def setUp(self):
        super().setUp()
        for name in ("a", "b"):
            self.engine.make_image(f"local/{name}:1", name)
        self.device_agent = self.agent(
            start=False, config=json.dumps({"uuid": UUID, "apiEndpoint": "http://127.0.0.1:9", "deviceApiKey": KEY}))

    def target(self, apps, commit="c0ffee01", environment=None):
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
        agent.start(environment=environment)
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


class Deltas(ImageTest):
    def setUp(self):
        super().setUp()
        self.tokens = self.stand_in(TokenServer(self.directory, USER, KEY))
        registry = self.stand_in(Registry(self.directory, self.tokens.authentication))
        self.proxy = self.stand_in(Proxy(registry.address))
        self.service = self.stand_in(DeltaServer(USER, KEY, self.tokens))
        self.service.answers = [(200, {"name": self.named("delta")})]
        self.engine_name = "balena-engine"

    def agent(self, **options):
        """On Docker Engine, that calls itself balenaEngine."""
        agent = super().agent(**options)
        engine = self.stand_in(EngineProxy(self.engine.path, agent.path("engine.sock")))
        engine.name = self.engine_name
        agent.engine_address = engine.address
        return agent

    def named(self, image):
        return f"{self.proxy.address}/images/{image}:1"

    def device_with_source(self, version=3, **variables):
        agent = self.device(
            api=f"http://{self.service.address}", deltaEndpoint=f"http://{self.service.address}",
            variables={"RESIN_SUPERVISOR_DELTA": "1", "RESIN_SUPERVISOR_DELTA_VERSION": str(version), **variables})
        self.post(agent, app(service("one", image=self.named("a"))))
        self.wait_for_services(agent, "one")
        return agent

    def update(self, agent):
        before = self.engine.service_containers(1)["one"]["Id"]
        self.post(agent, app(service("one", image=self.named("b"), number=2), commit="bbbb", release_id=2))
        return before

    def wait_for_update(self, before):
        after = self.wait_for_container("one", other_than=before)
        self.assertEqual(after["Image"], self.image_id(self.named("b")))
        return after

    def delta_requests(self):
        return self.service.asked("/api/")

    def test_the_engine_pulls_the_image_that_the_delta_service_names_with_its_token(self):
        agent = self.device_with_source()
        self.assertEqual(self.delta_requests(), [])
        self.wait_for_update(self.update(agent))
        token = self.service.asked("/auth/v1/token")[-1]
        self.assertEqual(token.query, {
            "service": [self.proxy.address], "scope": ["repository:images/b:pull", "repository:images/a:pull"]})
        [request] = self.delta_requests()
        self.assertEqual(request.path, "/api/v3/delta")
        self.assertEqual(request.query, {"src": [self.named("a")], "dest": [self.named("b")]})
        self.assertTrue(request.headers["Authorization"].startswith("Bearer ey"))
        bearers = {r.headers.get("Authorization") for r in self.proxy.asked("/v2/images/delta/")}
        self.assertIn(request.headers["Authorization"], bearers)
        self.wait_for_line(agent, f"Downloading delta for image '{self.named('b')}'")
        self.wait_for_line(agent, f"Downloaded image '{self.named('b')}'")
        self.assertNotIn("b", self.proxy.pulled())
        self.assertFalse(self.engine.has_image(self.named("delta")))
        self.assertNotIn(request.headers["Authorization"].split()[1], agent.log)

    def test_a_delta_that_the_engine_does_not_apply_never_runs(self):
        # What Docker makes of a delta of balenaEngine: an image of its own, that names the image to start from.
        self.engine.make_image("local/labelled:1", "not a root file system")
        container = self.engine.request("POST", "/containers/create", {"Image": "local/labelled:1"}).json["Id"]
        self.engine.request(
            "POST", f"/commit?container={container}&repo=local/kept&tag=1",
            {"Labels": {"io.resin.delta.base": "sha256:" + "0" * 64, "io.resin.delta.config": "{}"}})
        self.engine.remove(container)
        self.push_local("kept")
        scope = self.tokens.token
        self.tokens.token = lambda scopes: scope([*scopes, "repository:images/kept:pull"])
        self.service.answers = [(200, {"name": self.named("kept")})]
        agent = self.device_with_source()
        self.wait_for_update(self.update(agent))
        self.wait_for_line(agent, "is downloaded as a whole", "does not apply deltas")
        self.assertIn("b", self.proxy.pulled())
        self.assertFalse(self.engine.has_image(self.named("kept")))
        # It is not asked for another one.
        self.post(agent, app(service("one", image=self.named("c"), number=3), commit="cccc", release_id=3))
        wait_until(lambda: self.image_id(self.named("c")), "the next image is there")
        self.assertEqual(len(self.delta_requests()), 1)

    def test_a_delta_that_breaks_is_tried_three_times_and_then_the_whole_image_is_pulled(self):
        self.proxy.spoiled.add("delta")
        agent = self.device_with_source()
        self.wait_for_update(self.update(agent))
        self.assertEqual(agent.log.count(f"The delta {self.named('delta')} could not be applied"), 3)
        self.assertEqual(len(self.delta_requests()), 1)
        self.assertIn("b", self.proxy.pulled())
        self.wait_for_line(agent, "is downloaded as a whole", "in 3 tries")

    def test_a_delta_of_which_nothing_more_comes_is_given_up_when_its_time_is_over(self):
        self.proxy.held.add("delta")
        agent = self.device_with_source(RESIN_SUPERVISOR_DELTA_APPLY_TIMEOUT="1500")
        before = self.update(agent)
        self.wait_for_line(agent, "is downloaded as a whole", "the delta was not applied in time")
        self.proxy.held.clear()
        self.wait_for_update(before)

    def test_where_there_is_no_delta_the_whole_image_is_pulled(self):
        self.service.answers = [(404, b"")]
        agent = self.device_with_source()
        self.wait_for_update(self.update(agent))
        self.assertEqual(len(self.delta_requests()), 1)
        self.assertNotIn("delta", self.proxy.pulled())

    def test_a_delta_that_is_not_ready_is_asked_for_again(self):
        self.service.answers = [(504, b""), (502, b""), (200, {"name": self.named("delta")})]
        agent = self.device_with_source()
        self.wait_for_update(self.update(agent))
        self.wait_for_line(agent, "Delta still processing remotely. Will retry...")
        self.assertEqual(len(self.delta_requests()), 3)
        self.assertNotIn("b", self.proxy.pulled())
        self.assertNotIn("Failed to download image", agent.log)

    def test_a_delta_service_that_refuses_the_token_is_asked_again_with_a_new_one(self):
        self.service.answers = [(401, b""), (200, {"name": self.named("delta")})]
        agent = self.device_with_source()
        self.wait_for_update(self.update(agent))
        self.wait_for_line(agent, "Failed to download image", "the delta service failed")
        self.assertEqual(len(self.service.asked("/auth/v1/token")), 2)
        self.assertNotIn("b", self.proxy.pulled())

    def test_a_registry_that_refuses_the_delta_is_tried_later_with_the_whole_request(self):
        self.proxy.refused["delta"] = 403
        agent = self.device_with_source()
        before = self.update(agent)
        self.wait_for_line(agent, "Failed to download image", "the registry refuses access")
        self.assertNotIn("b", self.proxy.pulled())
        del self.proxy.refused["delta"]
        self.wait_for_update(before)
        self.assertGreaterEqual(len(self.delta_requests()), 2)

    def test_where_the_setting_says_version_2_version_3_is_asked_for(self):
        agent = self.device_with_source(version=2)
        self.wait_for_update(self.update(agent))
        self.assertEqual([request.path for request in self.delta_requests()], ["/api/v3/delta"])
        self.assertNotIn("b", self.proxy.pulled())

    def test_no_delta_is_asked_for_on_docker_engine(self):
        self.engine_name = None
        agent = self.device_with_source()
        self.wait_for_update(self.update(agent))
        self.assertEqual(self.delta_requests(), [])
        self.wait_for_line(agent, "is downloaded as a whole", "this engine does not apply deltas")

