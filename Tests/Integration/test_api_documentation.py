"""docs/api.md says what happens: each of its calls is made, and answered as it stands there."""

import os

import api_examples
from api import global_key, two_apps
from harness import DeviceTest, wait_until
from system_bus import SystemBus


class Documentation(DeviceTest):
    def test_every_call_of_the_page_is_answered_as_it_says(self):
        agent = self.agent(start=False)
        with open(agent.path("boot/device-type.json"), "w", encoding="utf-8") as file:
            file.write('{"slug":"raspberrypi4-64","arch":"aarch64"}')
        with open(agent.path("host/etc/hostname"), "w", encoding="utf-8") as file:
            file.write("mydevice\n")
        bus = SystemBus(self, agent.directory)
        agent.start(dbus_address=bus.address)
        self.assertEqual(agent.post_target(two_apps()).status, 200)
        wait_until(lambda: agent.status()["appState"] == "applied" and len(self.engine.containers()) == 3,
                   "three services run")
        routes = [route for route, _, _ in api_examples.operations()]
        routes.sort(key=lambda route: api_examples.LAST.index(route) if route in api_examples.LAST else -1)
        answers = {}
        for route in routes:
            wait_until(agent.answers, "the agent listens")
            if route == "POST /v1/reboot":
                # There is no system here to go down: without a bus the agent goes on.
                bus.stop()
            answers[route] = api_examples.call(api_examples.curl_line(route), agent, global_key(agent) or "")
            if route in ("POST /v1/reboot", "POST /v1/shutdown"):
                event = "Rebooting" if "reboot" in route else "Shutting down"
                wait_until(lambda: f"{event} failed" in agent.log, "the system has refused")
        if os.environ.get("API_DOCS") == "write":
            with open(api_examples.PAGE, "w", encoding="utf-8") as file:
                file.write(api_examples.page(answers))
        examples = api_examples.examples()
        self.assertEqual(sorted(examples), sorted(routes), "run scripts/generate-api-docs")
        for route, (line, status, kind) in examples.items():
            with self.subTest(route):
                self.assertEqual(line, api_examples.curl_line(route))
                # What the device that wrote the page lacked, this one may have.
                if status < 300:
                    self.assertEqual((status, kind), answers[route][:2])
