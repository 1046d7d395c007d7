"""Updates that are taken back when the new containers do not work."""

from harness import IMAGE, OTHER_IMAGE, DeviceTest, app, service, wait_until

ROLLBACK = {"io.balena.update.rollback": "true"}
# Healthy once it is told to be.
GATED = {"test": ["CMD", "test", "-e", "/go"], "interval": "1s", "timeout": "30s", "retries": 1000}


class Rollback(DeviceTest):
    def release(self, number, *services):
        return app(*services, commit=f"b{number}", release_id=number, volumes={"store": {}})

    def proving(self, name, image=IMAGE, **more):
        return service(name, image=image, labels=ROLLBACK, **more)

    def begin(self):
        agent = self.agent()
        agent.post_target(self.release(1, self.proving("one", volumes=["store:/store"])))
        self.before = self.wait_for_services(agent, "one")["one"]
        return agent

    def rows(self):
        return {row["Id"]: row for row in self.engine.containers("io.balena.app-id=1")}

    def taken_back(self, agent, bad):
        agent.post_target(self.release(2, bad))
        wait_until(lambda: "restore" in [row["step"] for row in agent.get("/v2/explain").json["decisions"]],
                   "the update is taken back")
        name = self.before["Name"]

        def is_back():
            rows = self.rows()
            row = rows.get(self.before["Id"])
            return len(rows) == 1 and row and row["State"] == "running" and row["Names"] == [name]

        wait_until(is_back, "the old container is back, alone, with its name")
        policy = self.engine.get(f"/containers/{self.before['Id']}/json")["HostConfig"]["RestartPolicy"]["Name"]
        self.assertEqual(policy, "always")
        # It stays: the failed release is not tried again at once.
        wait_until(
            lambda: self.waits(agent) == ["the next try of the update that was taken back"], "the reason is told")
        self.assertTrue(is_back())

    def wait_for_trial(self):
        """Waits until the old container stands aside and the new one runs; returns the new one's id."""

        def on_trial():
            rows = self.rows()
            states = {id: row["State"] for id, row in rows.items()}
            new = [id for id, state in states.items() if state == "running"]
            return len(rows) == 2 and states.get(self.before["Id"]) == "exited" and new

        return wait_until(on_trial, "the old container is kept, the new one runs")[0]

    def touch(self, container, path):
        made = self.engine.request("POST", f"/containers/{container}/exec", {"Cmd": ["touch", path]}).json["Id"]
        self.engine.request("POST", f"/exec/{made}/start", {"Detach": True})

    def wait_for_proof(self, agent, failed=0):
        def has_proven_itself():
            self.assertEqual(agent.log.count("Going back from release"), failed, "the update is taken back")
            return self.before["Id"] not in self.rows()

        wait_until(has_proven_itself, "the new one has proven itself")

    def waits(self, agent):
        return [row["for"] for one in agent.get("/v2/explain").json["apps"] for row in one["waiting"]]

    def test_a_release_that_ends_at_once_is_taken_back(self):
        agent = self.begin()
        self.taken_back(agent, self.proving("one", OTHER_IMAGE, command=["false"], volumes=["store:/store"]))
        # Another target is tried at once.
        agent.post_target(self.release(3, self.proving("one", OTHER_IMAGE, volumes=["store:/store"])))
        self.wait_for_proof(agent, failed=1)
        after = self.wait_for_services(agent, "one")["one"]
        self.assertTrue(after["Name"].endswith("_3_b3"), after["Name"])

    def test_a_release_that_was_taken_back_is_not_tried_again_because_the_agent_was_restarted(self):
        agent = self.begin()
        self.taken_back(agent, self.proving("one", OTHER_IMAGE, command=["false"], volumes=["store:/store"]))
        agent.kill()
        before = len(agent.log)
        agent.start()
        wait_until(
            lambda: self.waits(agent) == ["the next try of the update that was taken back"], "the reason is told")
        self.assertNotIn("Killing service", agent.log[before:])
        self.assertEqual({id: row["State"] for id, row in self.rows().items()}, {self.before["Id"]: "running"})

    def test_a_release_that_drops_adds_and_breaks_services_is_taken_back_as_a_whole(self):
        agent = self.agent()
        same = service("same", number=4)
        agent.post_target(self.release(1, self.proving("one"), service("dropped", number=2), same))
        before = self.wait_for_services(agent, "one", "dropped", "same")
        agent.post_target(self.release(
            2, self.proving("one", OTHER_IMAGE, healthcheck=GATED,
                            command=["sh", "-c", "until [ -e /end ]; do sleep 0.1; done; false"]),
            service("added", number=3), same))

        def new(name):
            return [id for id, row in self.rows().items()
                    if row["State"] == "running" and row["Names"][0].startswith(f"/{name}_") and row["Names"][0].endswith("_b2")]

        wait_until(lambda: new("added"), "what it adds is there")
        self.touch(wait_until(lambda: new("one"), "the new one runs")[0], "/end")
        wait_until(lambda: "Going back from release 'b2'" in agent.log, "the release has failed")

        def is_back():
            rows = self.rows()
            return {id: (row["State"], row["Names"][0]) for id, row in rows.items()} == {
                row["Id"]: ("running", row["Name"]) for row in before.values()}

        wait_until(is_back, "all that ran runs again under its name, and nothing else")
        wait_until(lambda: set(self.waits(agent)) == {"the next try of the update that was taken back"}, "it waits")
        self.assertTrue(is_back())

    def test_a_release_that_cannot_be_started_is_taken_back(self):
        agent = self.begin()
        self.taken_back(agent, self.proving("one", OTHER_IMAGE, command=["/no/such/program"]))

    def test_a_release_that_is_unhealthy_is_taken_back(self):
        agent = self.begin()
        check = {"test": ["CMD", "false"], "interval": "1s", "timeout": "5s", "retries": 1}
        self.taken_back(agent, self.proving("one", OTHER_IMAGE, healthcheck=check))

    def test_a_healthy_release_takes_the_place_of_the_old_one(self):
        agent = self.begin()
        agent.post_target(self.release(2, self.proving("one", OTHER_IMAGE, healthcheck=GATED)))
        new = self.wait_for_trial()
        self.assertEqual(self.rows()[self.before["Id"]]["State"], "exited")
        self.touch(new, "/go")
        self.wait_for_proof(agent)
        after = self.wait_for_services(agent, "one")["one"]
        self.assertTrue(after["Name"].endswith("_2_b2"), after["Name"])

    def test_an_agent_killed_during_the_trial_ends_it(self):
        agent = self.begin()
        agent.post_target(self.release(2, self.proving("one", OTHER_IMAGE, healthcheck=GATED)))
        new = self.wait_for_trial()
        agent.kill()
        agent.start()
        self.touch(new, "/go")
        self.wait_for_proof(agent)
        after = self.wait_for_services(agent, "one")["one"]
        self.assertTrue(after["Name"].endswith("_2_b2"), after["Name"])
