"""The update strategies, on images that are on the device and on images that come late."""

import json
import os
import sqlite3

from harness import COMMAND, IMAGE, OTHER_IMAGE, ROOT, DeviceTest, app, required, run, service, wait_until

STRATEGY = "io.balena.update.strategy"
TIMEOUT = "io.balena.update.handover-timeout"
NEVER = "3600000"


class Strategies(DeviceTest):
    def labelled(self, name, strategy, image=IMAGE, **more):
        labels = {STRATEGY: strategy, **more.pop("labels", {})}
        return service(name, image=image, labels=labels, **more)

    def release(self, *services, number, **more):
        return app(*services, commit=f"c0ffee0{number}", release_id=number, **more)

    def decisions(self, agent):
        """Steps of services, oldest first, as (step, service)."""
        found = agent.get("/v2/explain").json["decisions"]
        return [(row["step"], row["service"]) for row in reversed(found) if row["service"]]

    def waits(self, agent):
        apps = agent.get("/v2/explain").json["apps"]
        return {row["service"]: row["for"] for one in apps for row in one["waiting"]}

    def rows(self, name):
        """Containers of one service, oldest first."""
        found = self.engine.containers("io.balena.app-id=1")
        found = [row for row in found if row["Labels"]["io.balena.service-name"] == name]
        return sorted(found, key=lambda row: row["Created"])


class LateImages(Strategies):
    """The registry gets the image while the agent asks for it."""

    def setUp(self):
        super().setUp()
        self.registry = required("SUPERVISOR_TEST_REGISTRY")
        self.name = f"tests/late-{os.getpid()}-{id(self)}:1"
        self.late = f"{self.registry}/{self.name}"

    def tearDown(self):
        super().tearDown()
        self.engine.request("DELETE", f"/images/{self.late}?force=1")

    def push(self):
        port = self.registry.rpartition(":")[2]
        run([f"{ROOT}/scripts/registry", "push", port, self.engine.address, OTHER_IMAGE, self.name])

    def failed_once(self, agent):
        wait_until(lambda: f"Failed to download image '{self.late}'" in agent.log, "the download fails")

    def test_by_default_all_images_are_there_before_the_first_container_goes(self):
        agent = self.agent()
        agent.post_target(self.release(service("one"), service("two", number=2), number=1))
        before = self.wait_for_services(agent, "one", "two")
        agent.post_target(self.release(
            service("one", image=OTHER_IMAGE), service("two", number=2, image=self.late), number=2))
        self.failed_once(agent)
        after = self.engine.service_containers(1)
        for name, container in before.items():
            self.assertEqual((after[name]["Id"], after[name]["State"]["Running"]), (container["Id"], True))
        wait_until(lambda: self.waits(agent).get("one") == "the images of two", "the reason is told")
        device = agent.get("/v1/device").json
        self.assertEqual((device["update_pending"], device["update_failed"]), (True, True))
        self.push()
        wait_until(lambda: ("start", "two") in self.decisions(agent)[-4:], "the new containers start")
        after = self.wait_for_services(agent, "one", "two")
        device = agent.get("/v1/device").json
        self.assertEqual((device["update_pending"], device["update_failed"]), (False, False))
        self.assertTrue(all(container["Name"].endswith("_2_c0ffee02") for container in after.values()))
        steps = self.decisions(agent)
        last_fetch = max(index for index, step in enumerate(steps) if step[0] == "fetch")
        self.assertGreater(min(index for index, step in enumerate(steps) if step[0] == "kill"), last_fetch)

    def early(self, strategy):
        agent = self.agent()
        agent.post_target(self.release(
            self.labelled("one", strategy), service("two", number=2), number=1))
        before = self.wait_for_services(agent, "one", "two")
        agent.post_target(self.release(
            self.labelled("one", strategy, image=self.late), service("two", number=2, image=OTHER_IMAGE), number=2))
        self.failed_once(agent)
        # The default strategy of the other service waits for the image of this one.
        running = self.engine.service_containers(1)
        self.assertEqual({name: row["Id"] for name, row in running.items()}, {"two": before["two"]["Id"]})
        self.push()
        after = self.wait_for_services(agent, "one", "two")
        self.assertTrue(all(container["Name"].endswith("_2_c0ffee02") for container in after.values()))
        steps = self.decisions(agent)
        self.assertLess(steps.index(("kill", "one")), steps.index(("fetch", "one")))
        self.assertLess(steps.index(("fetch", "one")), steps.index(("kill", "two")))

    def test_kill_then_download_kills_before_the_download(self):
        self.early("kill-then-download")

    def test_delete_then_download_kills_before_the_download(self):
        self.early("delete-then-download")

    def test_hand_over_downloads_while_the_old_container_runs(self):
        agent = self.agent()
        labels = {TIMEOUT: "100"}
        agent.post_target(self.release(self.labelled("one", "hand-over", labels=labels), number=1))
        before = self.wait_for_services(agent, "one")["one"]["Id"]
        agent.post_target(self.release(self.labelled("one", "hand-over", self.late, labels=labels), number=2))
        self.failed_once(agent)
        row = self.engine.service_containers(1)["one"]
        self.assertEqual((row["Id"], row["State"]["Running"]), (before, True))
        self.push()
        wait_until(lambda: [row["Id"] for row in self.rows("one")] not in ([], [before]), "the new container is made")
        after = wait_until(lambda: len(self.rows("one")) == 1 and self.wait_for_services(agent, "one"), "it is alone")
        self.assertTrue(after["one"]["Name"].endswith("_2_c0ffee02"))


class HandOver(Strategies):
    def begin(self, timeout=NEVER, prepare=lambda directory: None):
        """An update up to where both containers run; returns the agent and the directory of its files."""
        agent = self.agent()
        labels = {TIMEOUT: timeout}
        agent.post_target(self.release(self.labelled("one", "hand-over", labels=labels), number=1))
        self.old = self.wait_for_services(agent, "one")["one"]["Id"]
        directory = agent.path("host/tmp/balena-supervisor/services/1/one")
        os.makedirs(directory, exist_ok=True)
        prepare(directory)
        self.target = self.release(self.labelled("one", "hand-over", OTHER_IMAGE, labels=labels), number=2)
        agent.post_target(self.target)
        return agent, directory

    def both(self):
        rows = self.rows("one")
        return rows if len(rows) == 2 and all(row["State"] == "running" for row in rows) else None

    def alone(self, agent):
        wait_until(lambda: [row["Id"] for row in self.rows("one") if row["Id"] == self.old] == [], "the old one goes")
        container = self.wait_for_services(agent, "one")["one"]
        self.assertTrue(container["Name"].endswith("_2_c0ffee02"), container["Name"])

    def complete_with(self, name):
        agent, directory = self.begin()
        # The engine's order says nothing of containers that were made in one second.
        old, new = sorted(wait_until(self.both, "both containers run"), key=lambda row: row["Id"] != self.old)
        self.assertEqual(old["Id"], self.old)
        self.assertTrue(old["Names"][0].startswith("/old_one_"), old["Names"])
        self.assertTrue(new["Names"][0].endswith("_2_c0ffee02"), new["Names"])
        policy = self.engine.get(f"/containers/{self.old}/json")["HostConfig"]["RestartPolicy"]["Name"]
        self.assertIn(policy, ("", "no"))
        wait_until(lambda: self.waits(agent).get("one") == "the hand-over to complete", "the reason is told")
        path = os.path.join(directory, name)
        with open(path, "w", encoding="utf-8"):
            pass
        self.alone(agent)
        self.assertFalse(os.path.exists(path), "the file is left")

    def test_both_containers_run_until_the_file_appears(self):
        self.complete_with("handover-complete")

    def test_the_file_may_have_its_old_name(self):
        self.complete_with("resin-kill-me")

    def test_a_file_of_an_earlier_update_does_not_count(self):
        def leave(directory):
            for name in ("handover-complete", "resin-kill-me"):
                with open(os.path.join(directory, name), "w", encoding="utf-8"):
                    pass

        agent, directory = self.begin(prepare=leave)
        wait_until(self.both, "both containers run")
        wait_until(lambda: self.waits(agent).get("one") == "the hand-over to complete", "it waits")
        self.assertEqual([name for name in os.listdir(directory) if "lock" not in name], [])
        self.assertIsNotNone(self.both())

    def test_without_a_file_it_ends_with_its_time(self):
        agent, _ = self.begin(timeout="1500")
        self.alone(agent)
        self.assertIn(("handover", "one"), self.decisions(agent))

    def test_a_newer_target_ends_it_at_once(self):
        agent, _ = self.begin()
        wait_until(self.both, "both containers run")
        labels = {TIMEOUT: "100"}
        newer = self.labelled("one", "hand-over", OTHER_IMAGE, labels=labels, environment={"NEWER": "1"})
        agent.post_target(self.release(newer, number=3))
        container = self.wait_for_services(agent, "one")["one"]
        self.assertTrue(container["Name"].endswith("_3_c0ffee03"), container["Name"])

    def test_the_target_before_takes_it_back_without_a_stop(self):
        agent, _ = self.begin()
        wait_until(self.both, "both containers run")
        started = self.engine.get(f"/containers/{self.old}/json")["State"]["StartedAt"]
        agent.post_target(self.release(self.labelled("one", "hand-over", labels={TIMEOUT: NEVER}), number=1))
        container = self.wait_for_services(agent, "one")["one"]
        self.assertEqual((container["Id"], container["State"]["StartedAt"]), (self.old, started))
        self.assertTrue(container["Name"].startswith("/one_"), container["Name"])
        self.assertEqual(container["HostConfig"]["RestartPolicy"]["Name"], "always")

    def test_a_users_lock_holds_it_up(self):
        def lock(directory):
            with open(os.path.join(directory, "updates.lock"), "w", encoding="utf-8"):
                pass

        agent, directory = self.begin(timeout="100", prepare=lock)
        wait_until(lambda: "Updates are locked" in agent.log, "the lock is told of")
        self.assertEqual([row["Id"] for row in self.rows("one")], [self.old])
        os.unlink(os.path.join(directory, "updates.lock"))
        self.alone(agent)

    def hand_over_of(self, app_networks=None, **needs):
        """An update of a service that needs what two containers cannot both have."""
        agent = self.agent()
        labels = {TIMEOUT: "100"}
        agent.post_target(self.release(self.labelled("one", "hand-over", labels=labels, **needs), number=1, networks=app_networks or {}))
        self.old = self.wait_for_services(agent, "one")["one"]["Id"]
        agent.post_target(self.release(
            self.labelled("one", "hand-over", OTHER_IMAGE, labels=labels, **needs), number=2, networks=app_networks or {}))
        self.alone(agent)
        steps = self.decisions(agent)
        # The old one is not stopped before it is known to be in the way, and the new one is made once.
        self.assertEqual(steps[steps.index(("handover", "one")):][:3],
                         [("handover", "one"), ("kill", "one"), ("start", "one")])

    def test_an_old_container_that_holds_the_port_makes_room_for_the_new_one(self):
        self.hand_over_of(ports=["18080:80"])

    def test_an_old_container_that_holds_the_address_does(self):
        self.hand_over_of(
            app_networks={"fixed": {"ipam": {"config": [{"subnet": "172.30.0.0/24", "gateway": "172.30.0.1"}]}}},
            networks={"fixed": {"ipv4_address": "172.30.0.9"}})

    def test_other_apps_are_updated_meanwhile(self):
        agent, directory = self.begin()
        wait_until(self.both, "both containers run")
        agent.post_target(self.target | app(service("other"), app_id=2))
        wait_until(lambda: "other" in self.engine.service_containers(2), "the other app is installed")
        self.assertIsNotNone(self.both())
        with open(os.path.join(directory, "handover-complete"), "w", encoding="utf-8"):
            pass
        wait_until(lambda: [row["Id"] for row in self.rows("one") if row["Id"] == self.old] == [], "it is complete")

    def test_the_newest_container_survives_when_the_agent_is_killed_meanwhile(self):
        agent, _ = self.begin()
        wait_until(self.both, "both containers run")
        agent.kill()
        agent.start()
        self.alone(agent)


class OldImages(Strategies):
    """Below a cloud, that images are not kept for; there is none, so the target is put into the database."""

    MANAGED = {"uuid": "0" * 32, "apiEndpoint": "http://127.0.0.1:9", "deviceApiKey": "c84a15f3e07b4d29961d0b7e5fa2c368"}

    def push(self, text, keep=False):
        name = f"tests/old-{os.getpid()}-{text}:1"
        source = f"old-{text}:1"
        self.engine.make_image(source, text)
        port = required("SUPERVISOR_TEST_REGISTRY").rpartition(":")[2]
        run([f"{ROOT}/scripts/registry", "push", port, self.engine.address, source, name])
        address = f"127.0.0.1:{port}/{name}"
        for image in (source,) if keep else (source, address):
            self.engine.request("DELETE", f"/images/{image}?force=1")
        return address

    def update(self, strategy):
        # What a device was made with is on it.
        first, second = self.push("first", keep=True), self.push("second")
        agent = self.agent(start=False, config=json.dumps(self.MANAGED))
        one = {"id": 1, "image_id": 1, "image": first, "environment": {}, "labels": {STRATEGY: strategy},
               "composition": {"command": COMMAND}}
        release = {"id": 1, "services": {"one": one}, "volumes": {}, "networks": {}}
        with open(agent.path("data/apps.json"), "w", encoding="utf-8") as file:
            json.dump({"config": {}, "apps": {"a1b2c3d4e5f60718293a4b5c6d7e8f90": {
                "id": 1, "name": "acme", "class": "fleet", "releases": {"c0ffee01": release}}}}, file)
        agent.start()
        wait_until(lambda: "The target state is reached" in agent.log, "the first release runs")
        self.assertIn("one", self.engine.service_containers(1))
        agent.kill()
        database = sqlite3.connect(agent.path("database.sqlite"))
        with database:
            text, = database.execute("SELECT services FROM target_app WHERE app_id = 1").fetchone()
            self.assertIn(first, text)
            database.execute("UPDATE target_app SET services = ? WHERE app_id = 1", (text.replace(first, second),))
        database.close()
        before = len(agent.log)
        agent.start()
        wait_until(lambda: "The target state is reached" in agent.log[before:], "the second release runs")
        container = self.engine.service_containers(1)["one"]
        self.assertEqual(container["Image"], self.engine.get(f"/images/{second}/json")["Id"])
        self.assertFalse(self.engine.has_image(first))
        steps = ("kill", "removeImage", "fetch", "start")
        positions = {step: agent.log.find(f"{step} (app 1, service one)", before) for step in steps}
        self.assertNotIn(-1, positions.values(), positions)
        return sorted(steps, key=positions.get)

    def test_delete_then_download_deletes_the_old_image_before_the_download(self):
        self.assertEqual(self.update("delete-then-download"), ["kill", "removeImage", "fetch", "start"])

    def test_kill_then_download_deletes_the_old_image_when_the_new_one_runs(self):
        self.assertEqual(self.update("kill-then-download"), ["kill", "fetch", "start", "removeImage"])

    def test_download_then_kill_deletes_the_old_image_when_the_new_one_runs(self):
        self.assertEqual(self.update("download-then-kill"), ["fetch", "kill", "start", "removeImage"])
