"""Images as a difference to the one that is there, and whole where that does not work."""

from engine_proxy import EngineProxy
from harness import app, service, wait_until
from images import KEY, USER, ImageTest
from stand_ins import DeltaServer, Proxy, Registry, TokenServer


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
