"""Actions of the HTTP API at the same time, with clients that go away and an agent that is killed."""

import json
import os
import re
import socket
import threading
import time
import urllib.parse

from api import lock
from harness import DeviceTest, UnixConnection, app, service, wait_until

# Ends 2 s after it has been told to, so that an action takes a while.
SLOWER = ["sh", "-c", "trap 'sleep 8; exit 0' TERM; while :; do sleep 1000 & wait $!; done"]
SLOW = ["sh", "-c", "trap 'sleep 2; exit 0' TERM; while :; do sleep 1000 & wait $!; done"]


class EngineEvents:
    """What the engine does to the containers and the volume of an app, in its order, as letters."""

    LETTERS = {("container", "create"): "c", ("container", "start"): "s", ("container", "destroy"): "d",
               ("volume", "destroy"): "V"}
    VOLUME = "2_data"

    def __init__(self, engine):
        self.text = ""
        # The engine's own clock: only what happens from now on.
        since = int(time.time())
        filters = urllib.parse.quote(json.dumps({"type": ["container", "volume"]}))
        self.connection = UnixConnection(engine.path, 120)
        self.connection.request("GET", f"/events?since={since}&filters={filters}")
        self.response = self.connection.getresponse()
        self.marker = None
        self.engine = engine
        self.mark("begin")
        self.text = ""

    def mark(self, name):
        """Reads on until the engine has told everything that came before this call."""
        name = f"marker-{name}"
        self.engine.request("POST", "/volumes/create", {"Name": name})
        while True:
            line = self.response.readline()
            if not line:
                raise AssertionError("the events ended")
            event = json.loads(line)
            if event["Actor"]["ID"] == name and event["Action"] == "create":
                return self.text
            if event["Type"] == "volume" and event["Actor"]["ID"] != self.VOLUME:
                continue
            self.text += self.LETTERS.get((event["Type"], event["Action"].split(":")[0]), "")

    def close(self):
        self.connection.close()


class Exclusive(DeviceTest):
    def setUp(self):
        super().setUp()
        self.device = self.agent()
        apps = app(service("one", number=21, volumes=["data:/data"]), service("two", number=22),
                   app_id=2, commit="c0ffee02", release_id=2, volumes={"data": {}})
        self.assertEqual(self.device.post_target(apps).status, 200)
        wait_until(self.is_settled, "two services run")

    def is_settled(self):
        status = self.device.status()
        names = [name for name, container in self.engine.service_containers(2).items()
                 if container["State"]["Running"]]
        return status["appState"] == "applied" and sorted(names) == ["one", "two"]

    def post(self, path, body=None):
        return self.device.request("POST", path, {} if body is None else body, timeout=120)

    def at_once(self, *calls, repeat=False):
        """Answers of calls that are made at the same time, in the calls' order; with `repeat` one that has waited
        for its turn for too long asks again."""
        answers = [None] * len(calls)

        def call(index):
            while answers[index] is None or repeat and "held by another supervisor operation" in answers[index].text:
                answers[index] = self.post(*calls[index])

        threads = [threading.Thread(target=call, args=(index,)) for index in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def test_restarts_and_purges_of_one_app_never_interleave(self):
        events = EngineEvents(self.engine)
        answers = self.at_once(
            ("/v1/restart", {"appId": 2}), ("/v1/purge", {"appId": 2}), ("/v2/applications/2/restart",),
            ("/v2/applications/2/purge",))
        text = events.mark("end")
        events.close()
        self.assertEqual([answer.status for answer in answers], [200] * 4, [a.text for a in answers])
        # Each action takes both containers away before it makes both again; a purge takes the
        # volume in between. Nothing else happened.
        block = r"ddV?(?:ccss|cscs)"
        self.assertRegex(text, rf"\A(?:{block}){{4}}\Z")
        self.assertEqual(len(re.findall("V", text)), 2, text)
        wait_until(self.is_settled, "all run again")

    def test_calls_on_one_service_never_interleave(self):
        events = EngineEvents(self.engine)
        answers = self.at_once(*[
            ("/v2/applications/2/restart-service", {"serviceName": name}) for name in ("one", "two") * 3], repeat=True)
        text = events.mark("end")
        events.close()
        self.assertEqual([(answer.status, answer.text) for answer in answers], [(200, "OK")] * 6)
        self.assertRegex(text, r"\A(?:dcs){6}\Z")
        wait_until(self.is_settled, "all run again")

    def test_actions_on_an_app_and_a_new_target_for_it_end_at_the_target(self):
        changed = app(service("one", number=21, environment={"NEW": "1"}, volumes=["data:/data"]),
                      service("two", number=22), app_id=2, commit="c0ffee03", release_id=3, volumes={"data": {}})
        answers = self.at_once(
            ("/v1/restart", {"appId": 2}), ("/v1/purge", {"appId": 2}),
            ("/v2/local/target-state", {"local": {"apps": changed}}),
            ("/v2/applications/2/restart",))
        self.assertTrue(all(answer.status == 200 for answer in answers), [a.text for a in answers])
        wait_until(lambda: self.is_settled() and self.device.status()["release"] == "c0ffee03", "the new release runs")
        self.assertIn("NEW=1", self.engine.service_containers(2)["one"]["Config"]["Env"])

    def test_what_a_client_began_is_finished_when_it_goes_away(self):
        before = {name: row["Id"] for name, row in self.engine.service_containers(2).items()}
        point = self.engine.get("/volumes/2_data")["Mountpoint"]
        with open(os.path.join(point, "kept"), "w", encoding="utf-8") as file:
            file.write("x")
        connection = self.device.connect()
        connection.sendall(b"POST /v2/applications/2/purge HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        wait_until(
            lambda: self.device.get("/v2/explain").json["appState"] == "applying" or
            {row["Id"] for row in self.engine.service_containers(2).values()} != set(before.values()), "it has begun")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

        def purged():
            now = self.engine.service_containers(2)
            return len(now) == 2 and not {row["Id"] for row in now.values()} & set(before.values()) \
                and self.is_settled()

        wait_until(purged, "the purge is finished")
        self.assertEqual(os.listdir(self.engine.get("/volumes/2_data")["Mountpoint"]), [])

    def test_an_agent_killed_in_the_middle_of_an_action_comes_back_to_the_target(self):
        slow = app(service("one", number=21, command=SLOW, volumes=["data:/data"]),
                   service("two", number=22, command=SLOW), app_id=2, commit="c0ffee04", release_id=4,
                   volumes={"data": {}})
        self.assertEqual(self.device.post_target(slow).status, 200)
        wait_until(lambda: self.is_settled() and self.device.status()["release"] == "c0ffee04", "they run")
        for path in ("purge", "restart", "purge"):
            with self.subTest(path), self.device.connect() as connection:
                connection.sendall(
                    f"POST /v2/applications/2/{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
                wait_until(lambda: any(decision["step"] == "kill" and decision["appId"] == 2 for decision in
                                       self.device.get("/v2/explain").json["decisions"]), "it has begun")
                self.device.kill()
                self.device.start()
                wait_until(self.is_settled, "all run again")
                volumes = {row["Name"] for row in self.engine.get("/volumes")["Volumes"]}
                self.assertIn("2_data", volumes)
        # No lock of the agent is left in the way of the next action.
        answer = self.post("/v2/applications/2/restart")
        self.assertEqual((answer.status, answer.text), (200, "OK"))

    def test_an_update_lock_that_appears_is_respected_by_actions_that_wait(self):
        path = lock(self.device, 2, "one")
        answers = self.at_once(("/v1/restart", {"appId": 2}), ("/v1/purge", {"appId": 2}),
                               ("/v2/applications/2/stop-service", {"serviceName": "two"}))
        self.assertEqual([answer.status for answer in answers], [423] * 3)
        os.unlink(path)
        self.assertEqual(self.post("/v1/restart", {"appId": 2}).status, 200)

    def test_an_engine_that_dies_in_the_middle_of_an_action_ends_it_with_503_and_the_app_comes_back(self):
        slow = app(service("one", number=21, command=SLOWER, stopGracePeriod="30s", volumes=["data:/data"]),
                   service("two", number=22, command=SLOWER, stopGracePeriod="30s"),
                   app_id=2, commit="c0ffee05", release_id=5, volumes={"data": {}})
        self.assertEqual(self.device.post_target(slow).status, 200)
        wait_until(lambda: self.is_settled() and self.device.status()["release"] == "c0ffee05", "they run")
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.post("/v2/applications/2/purge")))
        thread.start()
        wait_until(lambda: any(row["steps"] for row in self.device.get("/v2/explain").json["apps"]), "it has begun")
        self.engine.control("kill")
        try:
            thread.join()
            self.assertEqual((answers[0].status, answers[0].json["status"]), (503, "failed"), answers[0].text)
        finally:
            self.engine.control("start")
        wait_until(self.is_settled, "all run again")
        answer = self.post("/v2/applications/2/purge")
        self.assertEqual((answer.status, answer.text), (200, "OK"))
