"""The answers of the HTTP API that the host has a part in, and the body that every route refuses."""

import os
import shutil

from api import check_case, load, lock, two_apps
from harness import DeviceTest, wait_until
from system_bus import SystemBus


class Index(DeviceTest):
    def test_every_answer_about_the_host_is_as_it_stands_in_the_table(self):
        agent = self.agent(start=False, config='{"hostname":"before"}')
        with open(agent.path("host/etc/hostname"), "w", encoding="utf-8") as file:
            file.write("applied\n")
        bus = SystemBus(self, agent.directory)
        agent.start(dbus_address=bus.address)
        self.assertEqual(agent.post_target(two_apps()).status, 200)
        wait_until(lambda: agent.status()["appState"] == "applied" and len(self.engine.containers()) == 3,
                   "three services run")
        proxy = agent.path("boot/system-proxy/redsocks.conf")
        has_bus = True
        for case in load("host.json"):
            with self.subTest(case["name"]):
                given = case.get("given")
                held = lock(agent, 1, "main") if given == "lock" else None
                if given == "no bus" and has_bus:
                    bus.stop()
                    has_bus = False
                if given == "unreadable proxy":
                    os.unlink(proxy)
                    os.mkdir(proxy)
                check_case(self, agent, case)
                if held and os.path.exists(held):
                    os.unlink(held)
                if given == "unreadable proxy":
                    shutil.rmtree(proxy)

    def test_a_broken_body_is_503_on_every_route_that_reads_one(self):
        agent = self.agent()
        for row in load("routes.json"):
            if row.get("outsideIndex"):
                continue
            with self.subTest(f"{row['method']} {row['path']}"):
                answer = agent.request(
                    row["method"], row.get("call", row["path"]), "{", {"Content-Type": "application/json"})
                if row["scope"] != "open" and row.get("readsBody", True):
                    self.assertEqual((answer.status, answer.json["status"]), (503, "failed"))
                elif row["scope"] != "own":
                    self.assertEqual(answer.status, 200)
