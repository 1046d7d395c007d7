"""The failures of the HTTP API that need something to go wrong: with the engine, the target, the settings."""

import json
import os

from api import MANAGED, bearer, check_case, database, global_key, load, lock, put_preload, two_apps
from engine_proxy import EngineProxy
from harness import DeviceTest, app, run, service, wait_until


class Failures(DeviceTest):
    def is_settled(self, agent, *names):
        running = [name for app_id in (1, 2) for name, container in
                   self.engine.service_containers(app_id).items() if container["State"]["Running"]]
        return agent.status()["appState"] == "applied" and sorted(running) == sorted(names)

    def test_what_the_engine_refuses_is_answered_as_the_table_says(self):
        agent = self.agent(start=False)
        proxy = EngineProxy(self.engine.path, agent.path("engine.sock"))
        self.addCleanup(proxy.stop)
        agent.start(engine=proxy.address)
        self.assertEqual(agent.post_target(two_apps()).status, 200)
        self.engine.request("POST", "/volumes/create", {"Name": "9_left"})
        names = ("main", "one", "two")
        for case in load("failures.json"):
            with self.subTest(case["name"]):
                wait_until(lambda: self.is_settled(agent, *names), "all run")
                if "start" in case["path"].rpartition("/")[2].split("-"):
                    # One that runs is not started.
                    for app_id, body in ((1, {"serviceName": "main"}), (2, {"serviceName": "two"})):
                        stopped = agent.request("POST", f"/v2/applications/{app_id}/stop-service", body, timeout=60)
                        self.assertEqual(stopped.status, 200, stopped.text)
                proxy.refusals = [tuple(case["refuse"])]
                proxy.refused.clear()
                try:
                    check_case(self, agent, case)
                    self.assertTrue(proxy.refused)
                finally:
                    proxy.refusals = []
                for app_id, name in ((1, "main"), (2, "one"), (2, "two")):
                    if "purge" in case["path"] or case["path"].endswith("restart"):
                        break
                    answer = agent.request(
                        "POST", f"/v2/applications/{app_id}/start-service", {"serviceName": name}, timeout=60)
                    self.assertIn(answer.status, (200, 404), answer.text)
                if not self.is_settled(agent, *names):
                    # The target brings back what an action has left undone.
                    self.assertEqual(agent.request("POST", "/v1/update", {}).status, 204)
                    self.assertEqual(agent.post_target(two_apps()).status, 200)

    def test_without_an_engine_each_route_says_so_or_answers_from_memory(self):
        agent = self.agent(start=False)
        agent.start(engine=f"unix://{agent.path('nothing.sock')}")
        wait_until(lambda: not agent.get("/v2/explain").json["engine"]["reachable"], "it is known")
        for case in load("no-engine.json"):
            with self.subTest(case["name"]):
                check_case(self, agent, case)

    def test_a_service_that_the_target_does_not_have_is_404_on_v1_and_v2(self):
        agent = self.agent()
        self.assertEqual(agent.post_target(two_apps()).status, 200)
        wait_until(lambda: self.is_settled(agent, "main", "one", "two"), "all run")
        # Locks keep what runs from being replaced by the new target.
        paths = [lock(agent, 1, "main"), lock(agent, 2, "one")]
        apps = {**app(service("other", number=5), app_id=1, commit="c0ffee11", release_id=11),
                **app(service("one", number=21), app_id=2, commit="c0ffee12", release_id=12)}
        self.assertEqual(agent.post_target(apps).status, 200)
        wait_until(lambda: {row["appId"] for row in agent.get("/v2/explain").json["apps"] if row.get("lock")} == {1, 2},
                   "both apps are held up")
        text = "Service does not exist in target release"
        for path, body in (("/v1/apps/1/stop", None), ("/v1/apps/1/start", None),
                           *((f"/v2/applications/2/{action}-service", {"serviceName": "two"})
                             for action in ("start", "stop", "restart"))):
            with self.subTest(path):
                check_case(self, agent, {
                    "method": "POST", "path": path, "status": 404, "type": "text/html; charset=utf-8", "answer": text,
                    **({"body": json.dumps(body), "headers": {"Content-Type": "application/json"}} if body else {})})
        for path in paths:
            os.unlink(path)
        wait_until(lambda: self.is_settled(agent, "other", "one"), "the new target runs")

    def test_an_update_is_accepted_and_not_begun_when_instant_updates_are_off(self):
        agent = self.agent()
        agent.kill()
        database(agent, "INSERT INTO config (key, value) VALUES ('instantUpdates', 'false')"
                        " ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        agent.start()
        for body, status, kind, answer in (
            ("{}", 202, "text/plain; charset=utf-8", "Accepted"),
            ('{"cancel":true}', 202, "text/plain; charset=utf-8", "Accepted"),
            ('{"force":"yes"}', 202, "text/plain; charset=utf-8", "Accepted"),
            ('{"force":"on"}', 204, None, ""),
        ):
            with self.subTest(body):
                check_case(self, agent, {
                    "method": "POST", "path": "/v1/update", "headers": {"Content-Type": "application/json"},
                    "body": body, "status": status, "type": kind, "answer": answer})

    def test_a_lock_that_cannot_be_made_is_a_500_of_reboot_and_a_503_of_an_action(self):
        agent = self.agent()
        self.assertEqual(agent.post_target(two_apps()).status, 200)
        wait_until(lambda: self.is_settled(agent, "main", "one", "two"), "all run")
        # Nothing can be made in the service's directory, whatever the user.
        directory = os.path.dirname(lock(agent, 1, "main"))
        os.unlink(os.path.join(directory, "updates.lock"))
        run(["mount", "-t", "tmpfs", "-o", "ro", "none", directory])
        self.addCleanup(run, ["umount", "-l", directory])
        for path in ("/v1/reboot", "/v1/shutdown"):
            check_case(self, agent, {
                "method": "POST", "path": path, "status": 500, "type": "application/json; charset=utf-8",
                "body": '{"force":true}', "headers": {"Content-Type": "application/json"},
                "pattern": r'\{"Data":"","Error":"Got code [^"]+ while trying to take lock: [^"]+"\}'})
        check_case(self, agent, {
            "method": "POST", "path": "/v1/restart", "status": 503, "type": "application/json; charset=utf-8",
            "body": '{"appId":1,"force":true}', "headers": {"Content-Type": "application/json"},
            "pattern": r'\{"status":"failed","message":"[^"]*Got code [^"]+ while trying to take lock: .+"\}'})
        self.assertEqual(agent.get("/ping").text, "OK")

    def test_a_device_that_does_not_reach_its_cloud_says_what_it_cannot_do(self):
        agent = self.agent(config=MANAGED)
        headers = bearer(global_key(agent))
        answer = agent.request("GET", "/v2/device/tags", headers=headers)
        self.assertEqual((answer.status, answer.json["status"]), (500, "failed"))
        self.assertTrue(answer.json["message"])
        answer = agent.request("POST", "/v2/local/target-state", {"local": {}}, headers)
        self.assertEqual((answer.status, answer.json["message"]),
                         (400, "Target state can only set when device is in local mode"))
        fresh = self.agent(config='{"apiEndpoint":"http://127.0.0.1:9"}')
        answer = fresh.request("GET", "/v2/device/tags", headers=bearer(global_key(fresh)))
        self.assertEqual((answer.status, answer.json), (
            500, {"status": "failed", "message": "Attempt to retrieve device tags before provision"}))
        unmanaged = self.agent()
        answer = unmanaged.get("/v2/device/tags")
        self.assertEqual((answer.status, answer.text), (500, json.dumps({
            "status": "failed", "message": "Attempt to communicate with API, without initialized client",
        }, separators=(",", ":"))))

    def test_an_agent_whose_work_hangs_is_unhealthy_until_it_goes_on(self):
        # A look at the engine may take twice this.
        agent = self.agent(start=False, config=json.dumps({**json.loads(MANAGED), "appUpdatePollInterval": 500}))
        proxy = EngineProxy(self.engine.path, agent.path("engine.sock"))
        self.addCleanup(proxy.stop)
        put_preload(agent, 1)
        healthy = {"method": "GET", "path": "/v1/healthy", "status": 200, "type": "text/plain; charset=utf-8",
                   "answer": ""}
        unhealthy = {"method": "GET", "path": "/v1/healthy", "status": 500, "type": "text/html; charset=utf-8",
                     "answer": "Unhealthy"}
        proxy.held = "/containers/json"
        try:
            agent.start(engine=proxy.address)
            wait_until(lambda: agent.get("/v1/healthy").status == 500, "it says that it hangs")
            check_case(self, agent, unhealthy)
            self.assertIn("Healthcheck failed", agent.log)
        finally:
            proxy.held = None
        wait_until(lambda: agent.get("/v1/healthy").status == 200, "it goes on")
        check_case(self, agent, healthy)
