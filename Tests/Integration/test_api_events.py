"""`GET /v2/events`: what clients that come, go and come back see."""

import json
import os

from api import lock, two_apps
from harness import DeviceTest, wait_until

LISTENERS = 16


class Listener:
    """A client of the stream."""

    def __init__(self, agent, last=None, query="", seconds=90):
        self.connection = agent.connect(timeout=seconds)
        field = f"Last-Event-ID: {last}\r\n" if last else ""
        self.connection.sendall(f"GET /v2/events{query} HTTP/1.1\r\nHost: a\r\n{field}\r\n".encode())
        self.file = self.connection.makefile("r", encoding="utf-8", newline="\n")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while (line := self.file.readline().rstrip("\r\n")):
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value

    def next(self):
        event = {}
        while True:
            line = self.file.readline()
            if not line:
                raise AssertionError("the stream ended")
            name, _, value = line.rstrip("\r\n").partition(": ")
            if name in ("id", "event"):
                event[name] = value
            elif name == "data":
                event["data"] = json.loads(value)
                return event

    def until(self, wanted):
        """All events up to the first that is wanted."""
        events = []
        while not events or not wanted(events[-1]):
            events.append(self.next())
        return events

    def close(self):
        self.file.close()
        self.connection.close()


def number(event):
    return int(event["id"].split("-")[1])


class Events(DeviceTest):
    def setUp(self):
        super().setUp()
        self.device = self.agent()
        self.post(two_apps())

    def post(self, apps):
        self.assertEqual(self.device.post_target(apps).status, 200)
        wait_until(lambda: self.device.status()["appState"] == "applied" and len(self.engine.containers()) == 3,
                   "three services run")

    def test_an_update_is_told_from_its_decisions_to_its_end_and_again_to_who_comes_back(self):
        listener = Listener(self.device)
        self.assertEqual((listener.status, listener.headers["content-type"]), (200, "text/event-stream"))
        snapshot = listener.next()
        self.assertEqual(snapshot["event"], "snapshot")
        self.assertEqual(sorted(row["service"] for row in snapshot["data"]["services"]), ["main", "one", "two"])
        apps = two_apps()
        apps["1"]["services"]["1"]["environment"] = {"A": "2"}
        self.post(apps)

        def ended(event):
            return event["event"] == "state" and event["data"]["appState"] == "applied"

        events = listener.until(ended)
        listener.close()
        numbers = [number(event) for event in events]
        self.assertEqual(numbers, list(range(number(snapshot) + 1, number(snapshot) + 1 + len(events))))
        self.assertEqual(len({event["id"].split("-")[0] for event in events}), 1)
        decisions = [event["data"] for event in events if event["event"] == "decision" and event["data"]["appId"] == 1]
        reasons = {row["step"]: row["reason"] for row in decisions}
        self.assertIn("environment", reasons["kill"], decisions)
        removed = [event for event in events if event["event"] == "service" and event["data"]["status"] == "removed"]
        # Once more when the engine was seen in the middle of it.
        self.assertEqual({event["data"]["service"] for event in removed}, {"main"})
        # From the middle: the rest, the same. By header as browsers do, and by query.
        middle = events[len(events) // 2]
        rest = [event for event in events if number(event) > number(middle)]
        for arguments in ({"last": middle["id"]}, {"query": f"?lastEventId={middle['id']}"}):
            again = Listener(self.device, **arguments)
            self.assertEqual(again.until(ended), rest)
            again.close()

    def test_ids_of_another_run_or_of_nothing_begin_with_a_snapshot(self):
        first = Listener(self.device)
        known = first.next()["id"]
        first.close()
        run = known.split("-")[0]
        for last in ("other-1", f"{run}-999999", f"{run}-18446744073709551615", "x", "-", f"{run}-", "1-2-3"):
            with self.subTest(last):
                listener = Listener(self.device, last=last)
                self.assertEqual(listener.next()["event"], "snapshot")
                listener.close()
        self.device.kill()
        self.device.start()
        listener = Listener(self.device, last=known)
        event = listener.next()
        self.assertEqual(event["event"], "snapshot")
        self.assertNotEqual(event["id"].split("-")[0], run)
        listener.close()

    def test_a_lock_is_told_when_it_is_met_and_when_it_is_gone(self):
        path = lock(self.device, 1, "main")
        listener = Listener(self.device)
        listener.next()
        apps = two_apps()
        apps["1"]["services"]["1"]["environment"] = {"A": "3"}
        self.assertEqual(self.device.post_target(apps).status, 200)
        event = listener.until(lambda event: event["event"] == "lock")[-1]
        self.assertEqual((event["data"]["appId"], event["data"]["service"], event["data"]["kind"]), (1, "main", "file"))
        os.unlink(path)
        event = listener.until(lambda event: event["event"] == "unlock")[-1]
        self.assertEqual(event["data"], {"appId": 1})
        listener.close()

    def test_more_clients_than_the_limit_are_refused_until_one_goes(self):
        listeners = [Listener(self.device) for _ in range(LISTENERS)]
        for listener in listeners:
            self.assertEqual(listener.next()["event"], "snapshot")
        refused = self.device.get("/v2/events")
        self.assertEqual((refused.status, refused.json["message"]), (503, "Too many clients listen to events"))
        listeners.pop().close()

        def is_let_in():
            listener = Listener(self.device)
            listener.close()
            return listener.status == 200

        wait_until(is_let_in, "there is room again")
        for listener in listeners:
            listener.close()

    def test_a_client_that_does_not_read_holds_up_nobody_and_costs_little(self):
        deaf = Listener(self.device)
        other = Listener(self.device)
        other.next()
        before = self.device.process_status("RssAnon")
        for _ in range(5):
            self.assertEqual(self.device.request("POST", "/v2/applications/2/restart", {}, timeout=90).status, 200)
        other.until(lambda event: event["event"] == "service" and event["data"]["status"] == "Running")
        self.assertLess(self.device.process_status("RssAnon") - before, 4 * 1024)
        deaf.close()
        other.close()
