"""`GET /v2/explain`: what each app waits for, and until when."""

import datetime

from api import two_apps
from harness import DeviceTest, app, service, wait_until


def explained(agent, app_id):
    return next((row for row in agent.get("/v2/explain").json["apps"] if row["appId"] == app_id), None)


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
        at = datetime.datetime.fromisoformat(item["retryAt"].replace("Z", "+00:00"))
        away = (at - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        self.assertLess(abs(away), 1000)
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
        container = wait_until(lambda: self.engine.service_containers(1).get("first"), "the first one runs")
        command = self.engine.request("POST", f"/containers/{container['Id']}/exec",
                                      {"Cmd": ["touch", "/tmp/healthy"]}).json["Id"]
        self.engine.request("POST", f"/exec/{command}/start", {"Detach": True})
        self.wait_for_services(agent, "first", "second")
        self.assertEqual(explained(agent, 1)["waiting"], [])

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
