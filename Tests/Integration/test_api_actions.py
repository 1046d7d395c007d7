"""Actions of the HTTP API on real containers: what they answer, when, and what is left."""

import json
import os
import signal
import sys
import threading
import time

from api import bearer, check_case, database, load, lock, two_apps
from harness import DeviceTest, app, service, wait_until

# Debian's package, also for a Python that is not Debian's.
sys.path.append("/usr/lib/python3/dist-packages")
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402


class Actions(DeviceTest):
    def setUp(self):
        super().setUp()
        self.device = self.agent()
        self.assertEqual(self.device.post_target(two_apps()).status, 200)
        wait_until(self.is_settled, "three services run")

    def is_settled(self):
        status = self.device.status()
        names = [name for app_id in (1, 2) for name, container in
                 self.engine.service_containers(app_id).items() if container["State"]["Running"]]
        return status["appState"] == "applied" and sorted(names) == ["main", "one", "two"]

    def container(self, name, app_id=1):
        return self.engine.service_containers(app_id)[name]

    def post(self, path, body=None):
        return self.device.request("POST", path, {} if body is None else body, timeout=90)

    def test_every_answer_of_the_table_is_as_it_stands_there(self):
        variables = {
            "main": self.container("main")["Id"], "one": self.container("one", 2)["Id"],
            "two": self.container("two", 2)["Id"],
            "image": self.container("main")["Config"]["Image"],
        }
        locks = [lock(self.device, 1, "main"), lock(self.device, 2, "two", "resin-updates.lock")]
        for case in load("containers.json"):
            with self.subTest(case["name"]):
                if case.get("unlocked") and locks:
                    # A forced call has deleted that of its app.
                    for path in filter(os.path.exists, locks):
                        os.unlink(path)
                    locks = []
                check_case(self, self.device, case, variables)

    def test_stop_answers_when_the_container_has_stopped_and_it_stays_stopped(self):
        answer = self.post("/v1/apps/1/stop")
        container = self.container("main")
        self.assertEqual((answer.status, answer.json), (200, {"containerId": container["Id"]}))
        self.assertFalse(container["State"]["Running"])
        self.assertEqual(self.post("/v1/update").status, 204)
        self.device.kill()
        self.device.start()
        wait_until(lambda: self.device.status()["appState"] == "applied", "settled")
        time.sleep(1)
        self.assertFalse(self.container("main")["State"]["Running"])
        answer = self.post("/v1/apps/1/start")
        self.assertEqual((answer.status, answer.json), (200, {"containerId": container["Id"]}))
        self.assertTrue(self.container("main")["State"]["Running"])

    def test_a_restarted_service_has_another_container_when_the_answer_comes(self):
        before = self.container("two", 2)["Id"]
        other = self.container("one", 2)["Id"]
        answer = self.post("/v2/applications/2/restart-service", {"serviceName": "two"})
        self.assertEqual((answer.status, answer.text), (200, "OK"))
        after = self.container("two", 2)
        self.assertNotEqual(after["Id"], before)
        self.assertTrue(after["State"]["Running"])
        self.assertEqual(self.container("one", 2)["Id"], other)

    def test_a_lock_stops_restart_purge_and_stop_and_force_overrides_it(self):
        path = lock(self.device, 2, "one")
        before = {name: row["Id"] for name, row in self.engine.service_containers(2).items()}
        message = {"status": "failed", "message": "Lockfile exists for { appId: 2, service: one }"}
        for call, body in (
            ("/v1/restart", {"appId": 2}), ("/v1/purge", {"appId": 2}),
            ("/v2/applications/2/restart", {}), ("/v2/applications/2/purge", {}),
            ("/v2/applications/2/stop-service", {"serviceName": "two"}),
            ("/v2/applications/2/restart-service", {"imageId": 22}),
        ):
            with self.subTest(call):
                answer = self.post(call, body)
                self.assertEqual((answer.status, answer.json), (423, message))
        self.assertEqual({name: row["Id"] for name, row in self.engine.service_containers(2).items()}, before)
        self.assertTrue(os.path.exists(path))
        self.assertEqual(self.post("/v2/applications/2/start-service", {"serviceName": "one"}).status, 200)
        answer = self.post("/v1/restart", {"appId": "2", "force": "on"})
        self.assertEqual((answer.status, answer.text), (200, "OK"))
        after = {name: row["Id"] for name, row in self.engine.service_containers(2).items()}
        self.assertEqual(set(after), {"one", "two"})
        self.assertFalse(set(after.values()) & set(before.values()))

    def test_a_lock_stops_a_reboot_and_the_answer_has_its_own_form(self):
        lock(self.device, 1, "main")
        for path in ("/v1/reboot", "/v1/shutdown"):
            answer = self.post(path)
            self.assertEqual(answer.status, 423)
            self.assertEqual(answer.text, '{"Data":"","Error":"Lockfile exists for { appId: 1, service: main }"}')
        with open(self.device.path("state/rollback-health-breadcrumb"), "w", encoding="utf-8"):
            pass
        answer = self.post("/v1/reboot")
        self.assertEqual(answer.text, '{"Data":"","Error":"Waiting for Host OS update to finish"}')

    def test_two_restarts_at_once_both_end_and_leave_one_container_each(self):
        answers = []

        def restart():
            answers.append(self.post("/v1/restart", {"appId": 2}))

        threads = [threading.Thread(target=restart) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([(answer.status, answer.text) for answer in answers], [(200, "OK")] * 3)
        self.assertEqual(sorted(self.engine.service_containers(2)), ["one", "two"])
        wait_until(self.is_settled, "all run again")

    def test_purge_empties_the_volumes_of_its_app_alone(self):
        apps = {
            **app(service("main", volumes=["data:/data"]), app_id=1, volumes={"data": {}}, commit="c0ffee11"),
            **app(service("one", volumes=["data:/data"]), app_id=2, volumes={"data": {}}, commit="c0ffee12"),
        }
        self.assertEqual(self.device.post_target(apps).status, 200)
        wait_until(lambda: self.device.status()["appState"] == "applied"
                   and len(self.engine.service_containers(2)) == 1, "the volumes are mounted")
        for app_id, name in ((1, "main"), (2, "one")):
            point = self.engine.get(f"/volumes/{app_id}_data")["Mountpoint"]
            with open(os.path.join(point, "kept"), "w", encoding="utf-8") as file:
                file.write(name)
        answer = self.post("/v1/purge", {"appId": 1})
        self.assertEqual((answer.status, answer.text), (200, '{"Data":"OK","Error":""}'))
        self.assertEqual(os.listdir(self.engine.get("/volumes/1_data")["Mountpoint"]), [])
        self.assertEqual(os.listdir(self.engine.get("/volumes/2_data")["Mountpoint"]), ["kept"])
        self.assertTrue(self.container("main")["State"]["Running"])

    def test_cleanup_takes_unused_volumes_and_leaves_those_that_a_target_names(self):
        for name in ("1_left", "9_gone", "loose", "extra-firmware"):
            self.engine.request("POST", "/volumes/create", {"Name": name})
        apps = app(service("main"), app_id=1, volumes={"left": {}}, commit="c0ffee21")
        self.assertEqual(self.device.post_target(apps).status, 200)
        wait_until(lambda: self.device.status()["appState"] == "applied", "settled")
        answer = self.device.get("/v2/cleanup-volumes")
        self.assertEqual((answer.status, answer.text), (200, '{"status":"success"}'))
        names = {row["Name"] for row in self.engine.get("/volumes")["Volumes"]}
        self.assertIn("1_left", names)
        self.assertIn("extra-firmware", names)
        self.assertFalse(names & {"9_gone", "loose"})

    def test_the_agent_says_what_it_does_and_why(self):
        lock(self.device, 1, "main")
        apps = two_apps()
        apps["1"]["services"]["1"]["environment"] = {"A": "changed"}
        self.assertEqual(self.device.post_target(apps).status, 200)

        def locked():
            rows = self.device.get("/v2/explain").json["apps"]
            return next((row for row in rows if row["appId"] == 1 and row.get("lock")), None)

        row = wait_until(locked, "the lock is named")
        self.assertEqual((row["lock"]["service"], row["lock"]["kind"]), ("main", "file"))
        self.assertTrue(row["lock"]["path"].endswith("/services/1/main/updates.lock"))
        self.assertGreater(row["retry"]["failures"], 0)
        decisions = self.device.get("/v2/explain").json["decisions"]
        self.assertTrue(any(d["step"] == "takeLock" and d["appId"] == 1 for d in decisions), decisions[:5])

    def test_events_can_be_followed_and_resumed(self):
        first = self.follow(None, lambda event: event["event"] == "snapshot")
        self.assertEqual(len(first["data"]["services"]), 3)
        self.post("/v2/applications/1/stop-service", {"serviceName": "main"})
        stopped = self.follow(first["id"], lambda event: event["event"] == "service"
                              and event["data"]["service"] == "main" and event["data"]["status"] == "exited")
        again = self.follow(first["id"], lambda event: True)
        self.assertNotEqual(again["event"], "snapshot")
        self.assertLessEqual(int(again["id"].split("-")[1]), int(stopped["id"].split("-")[1]))
        unknown = self.follow("other-5", lambda event: True)
        self.assertEqual(unknown["event"], "snapshot")

    def follow(self, last, wanted, seconds=20):
        """The first event that is wanted."""
        with self.device.connect(timeout=seconds) as connection:
            header = f"Last-Event-ID: {last}\r\n" if last else ""
            connection.sendall(f"GET /v2/events HTTP/1.1\r\nHost: a\r\n{header}\r\n".encode())
            file = connection.makefile("r", encoding="utf-8", newline="\n")
            event = {}
            while True:
                line = file.readline()
                self.assertNotEqual(line, "", "the stream ended")
                name, _, value = line.rstrip("\r\n").partition(": ")
                if name in ("id", "event"):
                    event[name] = value
                elif name == "data":
                    event["data"] = json.loads(value)
                    if wanted(event):
                        return event
                    event = {}

    def test_metrics_count_requests_steps_and_memory(self):
        for _ in range(3):
            self.device.get("/v2/version")
        self.device.get("/no/such/path")
        answer = self.device.get("/v2/metrics")
        self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        values = {}
        for family in families.values():
            self.assertTrue(family.documentation, family.name)
            self.assertNotEqual(family.type, "unknown", family.name)
            for sample in family.samples:
                name = (sample.name, tuple(sorted(sample.labels.items())))
                self.assertNotIn(name, values)
                values[name] = sample.value

        def value(name, **labels):
            return values[(f"supervisor_{name}", tuple(sorted(labels.items())))]

        route = {"method": "GET", "route": "/v2/version"}
        self.assertEqual(value("http_requests_total", **route, status="200"), 3)
        self.assertEqual(value("http_requests_total", method="", route="", status="404"), 1)
        buckets = [(float(sample.labels["le"]), sample.value)
                   for sample in families["supervisor_http_request_duration_seconds"].samples
                   if sample.name.endswith("_bucket") and sample.labels["route"] == "/v2/version"]
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual([count for _, count in buckets], sorted(count for _, count in buckets))
        self.assertEqual(buckets[-1], (float("inf"), 3))
        self.assertEqual(value("http_request_duration_seconds_count", **route), 3)
        self.assertGreater(value("http_request_duration_seconds_sum", **route), 0)
        self.assertEqual(value("steps_total", step="start"), 3)
        self.assertEqual(value("pulls_total", outcome="failed"), 0)
        self.assertEqual(value("service_restarts_total"), 0)
        self.assertEqual(value("log_lines_total", outcome="dropped"), 0)
        self.assertEqual(value("log_lines_total", outcome="sent"), 0)
        self.assertGreater(value("engine_requests_total"), 3)
        self.assertGreater(value("loop_wakeups_total"), 3)
        self.assertGreater(value("loop_lag_seconds"), 0)
        memory = self.device.memory()
        self.assertGreater(value("memory_bytes", kind="anonymous"), 100_000)
        self.assertLess(abs(value("memory_bytes", kind="pss") / 1024 - memory["Pss"]), 4096)

    def test_metrics_count_a_service_that_ends(self):
        # Not by the engine, which would take it for its user's wish.
        os.kill(self.container("main")["State"]["Pid"], signal.SIGKILL)
        text = "supervisor_service_restarts_total 1"
        wait_until(lambda: text in self.device.get("/v2/metrics").text, "it is counted")

    def test_a_key_of_one_app_sees_that_app_alone(self):
        apps = two_apps()
        apps["1"]["services"]["1"]["labels"] = {"io.balena.features.supervisor-api": "1"}
        self.assertEqual(self.device.post_target(apps).status, 200)
        wait_until(lambda: self.is_settled() and self.key(), "the container has its key")
        key = self.key()
        environment = dict(item.split("=", 1) for item in self.container("main")["Config"]["Env"])
        self.assertEqual(environment["RESIN_SUPERVISOR_API_KEY"], key)
        self.assertRegex(key, r"\A[0-9a-f]{64}\Z")
        # A fleet's device asks for keys.
        self.device.kill()
        with open(self.device.config, encoding="utf-8") as file:
            config = json.load(file)
        config["apiEndpoint"] = "http://127.0.0.1:9"
        with open(self.device.config, "w", encoding="utf-8") as file:
            json.dump(config, file)
        from api import set_local_mode
        set_local_mode(self.device, False)
        self.device.start()
        headers = bearer(key)
        self.assertEqual(self.device.request("GET", "/v2/version", headers=headers).status, 200)
        explain = self.device.request("GET", "/v2/explain", headers=headers).json
        self.assertLessEqual({row["appId"] for row in explain["apps"]}, {1})
        answer = self.device.request("POST", "/v1/restart", {"appId": 2}, headers)
        self.assertEqual((answer.status, answer.text), (401, '{"status":"failed","message":"Unauthorized"}'))

    def test_a_service_gets_its_new_key_with_the_next_run_and_keeps_its_scope(self):
        apps = two_apps()
        apps["1"]["services"]["1"]["labels"] = {"io.balena.features.supervisor-api": "1"}
        self.assertEqual(self.device.post_target(apps).status, 200)
        wait_until(lambda: self.is_settled() and self.key(), "the container has its key")
        old, container = self.key(), self.container("main")["Id"]
        new = self.device.request("POST", "/v1/regenerate-api-key", headers=bearer(old)).text
        self.assertRegex(new, r"\A[0-9a-f]{64}\Z")
        rows = database(self.device, "SELECT app_id, service_name, key, scopes FROM api_key WHERE app_id = 1")
        self.assertEqual(rows, [(1, "main", new, '[{"type":"app","appId":1}]')])
        # An old key cannot be replaced a second time.
        answer = self.device.request("POST", "/v1/regenerate-api-key", headers=bearer(old))
        self.assertEqual((answer.status, answer.text), (503, '{"status":"failed","message":""}'))
        self.assertEqual(self.device.post_target(apps).status, 200)
        wait_until(lambda: self.is_settled() and self.key() == new, "the container is made anew")
        self.assertNotEqual(self.container("main")["Id"], container)

    def key(self):
        environment = dict(item.split("=", 1) for item in self.container("main")["Config"]["Env"])
        return environment.get("BALENA_SUPERVISOR_API_KEY")
