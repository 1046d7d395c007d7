"""`GET /v2/explain`: what each app waits for, and until when."""

import datetime
import os

from api import lock, two_apps
from harness import DeviceTest, app, service, wait_until
from images import ImageTest
from stand_ins import Proxy


def explained(agent, app_id):
    return next((row for row in agent.get("/v2/explain").json["apps"] if row["appId"] == app_id), None)


def seconds_away(text):
    """From now to a time of an answer."""
    at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (at - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


class Explain(DeviceTest):
    def test_an_image_that_cannot_be_had_is_named_with_the_time_of_the_next_try(self):
        agent = self.agent()
        image = "127.0.0.1:5000/not/there:1"
        self.assertEqual(agent.post_target(app(service("one", image=image))).status, 200)

        def waiting():
            row = explained(agent, 1)
            return row and next((item for item in row["waiting"] if item.get("retryAt")), None)

        item = wait_until(waiting, "the image is tried again")
        self.assertEqual((item["service"], item["image"]), ("one", image))
        self.assertIn(image, item["for"])
        self.assertLess(abs(seconds_away(item["retryAt"])), 1000)
        self.assertTrue(item["reason"])
        decisions = agent.get("/v2/explain").json["decisions"]
        self.assertTrue(any(row["step"] == "fetch" and row["service"] == "one" for row in decisions), decisions)

    def test_a_service_that_waits_for_another_says_for_which(self):
        agent = self.agent()
        second = service("second", number=2, depends_on={"first": {"condition": "service_healthy"}})
        first = service("first", healthcheck={"test": ["CMD", "test", "-e", "/tmp/healthy"], "interval": "1s",
                                              "retries": 1000})
        self.assertEqual(agent.post_target(app(first, second)).status, 200)

        def waiting():
            row = explained(agent, 1)
            return row and next((item for item in row["waiting"] if item.get("service") == "second" and "first" in item["for"]), None)

        wait_until(waiting, "it says that it waits for the first one")

        def running():
            container = self.engine.service_containers(1).get("first")
            return container if container and container["State"]["Running"] else None

        container = wait_until(running, "the first one runs")
        command = self.engine.request("POST", f"/containers/{container['Id']}/exec",
                                      {"Cmd": ["touch", "/tmp/healthy"]}).json["Id"]
        self.engine.request("POST", f"/exec/{command}/start", {"Detach": True})
        self.wait_for_services(agent, "first", "second")
        self.assertEqual(explained(agent, 1)["waiting"], [])

    def test_a_lock_is_named_with_its_path_and_owner_and_the_time_of_the_next_try(self):
        agent = self.agent()
        self.assertEqual(agent.post_target(two_apps()).status, 200)
        wait_until(lambda: agent.status()["appState"] == "applied" and len(self.engine.containers()) == 3, "settled")
        path = lock(agent, 2, "two", "resin-updates.lock")
        os.chown(path, 1234, 1234)
        apps = two_apps()
        apps["2"]["services"]["1"]["environment"] = {"A": "1"}
        self.assertEqual(agent.post_target(apps).status, 200)

        def held_up():
            row = explained(agent, 2)
            return row and row.get("lock") and row.get("retry", {}).get("at") and row

        row = wait_until(held_up, "the lock is explained")
        found = row["lock"]
        self.assertEqual((found["appId"], found["service"], found["kind"], found["ownerUid"]), (2, "two", "file", 1234))
        self.assertTrue(os.path.samefile(found["path"], path), found)
        self.assertLess(abs(seconds_away(found["since"])), 1000)
        self.assertGreater(row["retry"]["failures"], 0)
        self.assertLess(abs(seconds_away(row["retry"]["at"])), 1000)
        self.assertFalse(row["settled"])
        # The other app has nothing to wait for.
        self.assertTrue(explained(agent, 1)["settled"])
        self.assertNotIn("lock", explained(agent, 1))
        os.unlink(path)
        wait_until(lambda: explained(agent, 2)["settled"], "the update goes on")
        row = explained(agent, 2)
        self.assertNotIn("lock", row)
        self.assertNotIn("retry", row)

    def test_each_change_of_a_container_has_its_reason_with_old_and_new_value(self):
        agent = self.agent()
        self.assertEqual(agent.post_target(two_apps()).status, 200)
        wait_until(lambda: agent.status()["appState"] == "applied" and len(self.engine.containers()) == 3, "settled")
        apps = two_apps()
        apps["2"]["services"]["2"]["hostname"] = "another"
        self.assertEqual(agent.post_target(apps).status, 200)
        wait_until(lambda: agent.status()["appState"] == "applied"
                   and self.engine.service_containers(2)["two"]["Config"]["Hostname"] == "another", "settled")
        decisions = [row for row in agent.get("/v2/explain").json["decisions"] if row["step"] == "kill"]
        self.assertEqual([(row["appId"], row["service"]) for row in decisions], [(2, "two")])
        self.assertIn("hostname", decisions[0]["reason"])
        self.assertIn("another", decisions[0]["reason"])

    def test_an_engine_that_is_gone_is_said(self):
        agent = self.agent(start=False)
        agent.start(engine=f"unix://{agent.path('nothing.sock')}")
        answer = wait_until(lambda: (lambda a: a if not a["engine"]["reachable"] else None)(
            agent.get("/v2/explain").json), "it is known")
        self.assertIn("nothing.sock", answer["engine"]["problem"])
        self.assertEqual(agent.get("/v1/device").status, 503)
        self.assertEqual(agent.get("/v2/applications/1/state").status, 500)
        self.assertEqual(agent.get("/ping").text, "OK")
        self.assertIn("supervisor_engine_reachable 0", agent.get("/v2/metrics").text)


class Progress(ImageTest):
    def test_an_image_that_is_being_downloaded_is_named_with_its_progress(self):
        proxy = self.stand_in(Proxy(self.shared))
        proxy.held.add("a")
        agent = self.agent()
        image = f"{proxy.address}/images/a:1"
        self.assertEqual(agent.post_target(app(service("one", image=image))).status, 200)

        def item():
            return next((row for row in self.waits(agent) if row.get("image") == image
                         and row.get("progress") is not None), None)

        row = wait_until(item, "the download is explained")
        self.assertEqual(row["service"], "one")
        self.assertIn(image, row["for"])
        wait_until(lambda: 0 < (item() or {}).get("progress", 0) < 100, "half of the layer has come")
        steps = [(row["step"], row["subject"]) for row in explained(agent, 1)["steps"]]
        self.assertTrue(any(step == "fetch" for step, _ in steps), steps)
        # The state of the apps has the same figure.
        service_row = agent.get("/v2/applications/state").json["app1"]["services"]["one"]
        self.assertEqual(service_row["status"], "Downloading")
        proxy.held.clear()
        self.wait_for_services(agent, "one")
        self.assertEqual(self.waits(agent), [])
