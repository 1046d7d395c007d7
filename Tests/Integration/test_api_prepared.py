"""The answers that are kept prepared: right for each key, made anew when the state has changed and not before."""

import re

from api import MANAGED, app_key, bearer, global_key, put_preload
from harness import DeviceTest, wait_until

PATHS = ("/v1/device", "/v2/state/status", "/v2/applications/state")
CALLS = 100


class Prepared(DeviceTest):
    def setUp(self):
        super().setUp()
        self.device = self.agent(start=False, config=MANAGED)
        put_preload(self.device, 1, 2)
        self.device.start()
        wait_until(lambda: all(app_key(self.device, app_id) for app_id in (1, 2)), "the services have their keys")
        self.keys = {"global": global_key(self.device), 1: app_key(self.device, 1), 2: app_key(self.device, 2)}
        wait_until(self.is_settled, "both services run")

    def get(self, path, key):
        answer = self.device.request("GET", path, headers=bearer(self.keys[key]))
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json

    def is_settled(self):
        states = self.get("/v2/applications/state", "global")
        return self.get("/v2/state/status", "global")["appState"] == "applied" and all(
            states.get(name, {}).get("services", {}).get("main", {}).get("status") == "Running"
            for name in ("app1", "app2"))

    def builds(self):
        page = self.device.request("GET", "/v2/metrics", headers=bearer(self.keys["global"])).text
        return int(re.search(r"^supervisor_prepared_answers_total (\d+)$", page, re.MULTILINE)[1])

    def test_each_key_gets_the_answer_of_its_own_apps(self):
        # In turns, so that an answer that is kept for one key would show with another.
        for _ in range(3):
            for key, names, apps in (("global", ["app1", "app2"], {1, 2}), (1, ["app1"], {1}), (2, ["app2"], {2})):
                with self.subTest(key):
                    states = self.get("/v2/applications/state", key)
                    self.assertEqual(sorted(states), names)
                    self.assertTrue(all(row["appId"] in apps for row in states.values()))
                    status = self.get("/v2/state/status", key)
                    # One app at a time (the shape is of the time when there was one).
                    self.assertEqual(len({row["appId"] for row in status["containers"]}), 1)
                    self.assertLessEqual({row["appId"] for row in status["containers"] + status["images"]}, apps)
                    self.assertEqual(status["release"], f"c0ffee0{status['containers'][0]['appId']}")
                    # Of the device as a whole, whoever asks.
                    self.assertEqual(self.get("/v1/device", key)["commit"], "c0ffee01")

    def test_an_answer_is_made_once_for_each_key_as_long_as_nothing_changes(self):
        def made():
            before = self.builds()
            for _ in range(CALLS):
                for path in PATHS:
                    for key in self.keys:
                        self.get(path, key)
            # The device's for all, the others' for each key; what the engine has to tell may come in between.
            return self.builds() - before <= 1 + 2 * len(self.keys)

        wait_until(made, "answers are sent again as they were", seconds=240)

    def test_a_change_shows_in_the_answers_of_all_keys_that_see_it(self):
        container = self.get("/v2/containerId?service=main", 1)["containerId"]
        other = self.get("/v2/applications/state", 2)
        before = self.builds()
        answer = self.device.request("POST", "/v2/applications/1/stop-service", {"serviceName": "main"},
                                     bearer(self.keys[1]), timeout=60)
        self.assertEqual((answer.status, answer.text), (200, "OK"))

        def status(key):
            return next((row["status"] for row in self.get("/v2/state/status", key)["containers"]
                         if row["containerId"] == container), None)

        wait_until(lambda: status(1) == "exited", "the app's key sees it")
        wait_until(lambda: self.get("/v2/applications/state", "global")["app1"]["services"]["main"]["status"] == "exited",
                   "the global key sees it")
        self.assertEqual(self.get("/v2/applications/state", 2), other)
        self.assertGreater(self.builds(), before)
