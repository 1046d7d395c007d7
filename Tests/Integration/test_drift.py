"""What changes behind the agent's back is put right; what was stopped on purpose stays stopped; rest is rest.

REST_SECONDS: watch the settled device for so long, and print what it costs.
"""

import os
import time

from engine_gate import EngineGate
from harness import IMAGE, OTHER_IMAGE, ROOT, DeviceTest, app, required, run, service, wait_until

CROWD = 20
SCRIPT = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"]


class Drift(DeviceTest):
    def state(self, name, app_id=1):
        container = self.engine.service_containers(app_id)[name]
        return container["Id"], container["State"]["Status"]

    def settled(self, agent):
        wait_until(lambda: agent.status()["appState"] == "applied", "the target is applied")

    def call(self, agent, action, name):
        answer = agent.request("POST", f"/v2/applications/1/{action}-service", {"serviceName": name})
        self.assertEqual(answer.status, 200, answer.text)

    def test_all_of_an_app_taken_away_at_once_comes_back(self):
        agent = self.agent()
        target = app(
            service("one", volumes=["store:/store"], networks=["front"]), volumes={"store": {}},
            networks={"front": {}})
        agent.post_target(target)
        container = self.wait_for_services(agent, "one")["one"]
        networks = [name for name in container["NetworkSettings"]["Networks"] if name.endswith("_front")]
        self.engine.remove(container["Id"])
        self.engine.request("DELETE", f"/networks/{networks[0]}")
        self.engine.request("DELETE", "/volumes/1_store")
        wait_until(lambda: "one" in self.engine.service_containers(1), "the service is back")
        back = self.wait_for_services(agent, "one")["one"]
        self.assertNotEqual(back["Id"], container["Id"])
        self.assertIn(networks[0], back["NetworkSettings"]["Networks"])
        self.assertEqual(self.engine.request("GET", "/volumes/1_store").status, 200)

    def test_a_supervisor_network_that_is_not_as_it_shall_be_is_made_anew(self):
        agent = self.agent()
        agent.post_target(app(service("one")))
        before = self.wait_for_services(agent, "one")["one"]["Id"]
        self.engine.request("DELETE", "/networks/supervisor0")
        wait_until(lambda: self.engine.request("GET", "/networks/supervisor0").status == 200, "it is back")
        agent.kill()
        self.engine.request("DELETE", "/networks/supervisor0")
        pool = {"Subnet": "10.114.105.0/25", "Gateway": "10.114.105.1"}
        made = self.engine.request("POST", "/networks/create", {
            "Name": "supervisor0", "Options": {"com.docker.network.bridge.name": "supervisor0"},
            "IPAM": {"Driver": "default", "Config": [pool]}})
        self.assertEqual(made.status, 201, made.text)
        agent.start()

        def subnet():
            answer = self.engine.request("GET", "/networks/supervisor0")
            return answer.status == 200 and answer.json["IPAM"]["Config"][0]["Subnet"]

        wait_until(lambda: subnet() == "10.114.104.0/25", "it is made anew")
        self.assertIn("supervisor0 differs: subnet: 10.114.105.0/25 -> 10.114.104.0/25; gateway: ", agent.log)
        # Who does not talk to the agent is left alone.
        self.assertEqual(self.wait_for_services(agent, "one")["one"]["Id"], before)

    def test_an_image_taken_away_is_pulled_again(self):
        port = required("SUPERVISOR_TEST_REGISTRY").rpartition(":")[2]
        source = "drift-source:1"
        self.engine.make_image(source, "drift")
        image = run([f"{ROOT}/scripts/registry", "push", port, self.engine.address, source, "tests/drift:1"]).strip()
        agent = self.agent()
        agent.post_target(app(service("one", image=image)))
        container = self.wait_for_services(agent, "one")["one"]["Id"]
        self.engine.remove(container)
        wait_until(lambda: self.take_image(source), "the image is gone")
        wait_until(
            lambda: self.engine.service_containers(1).get("one", {"Id": container})["Id"] != container, "it is back")
        self.wait_for_services(agent, "one")
        self.assertTrue(self.engine.has_image(image))

    def take_image(self, name):
        """Takes an image away with all its names; false while a container holds it."""
        found = self.engine.request("GET", f"/images/{name}/json")
        if found.status == 200:
            self.identity = found.json["Id"]
        for container in self.engine.containers():
            self.engine.remove(container["Id"])
        self.engine.request("DELETE", f"/images/{self.identity}?force=1")
        return self.engine.request("GET", f"/images/{self.identity}/json").status == 404

    def test_a_service_stopped_through_the_api_stays_stopped_until_it_changes_or_is_started(self):
        agent = self.agent()

        def release(number, image=IMAGE):
            return app(service("one", image=image), service("two", number=2), commit=f"b{number}", release_id=number)

        agent.post_target(release(1))
        before = self.wait_for_services(agent, "one", "two")["one"]["Id"]
        self.call(agent, "stop", "one")
        # The call returns when the container has stopped.
        self.assertEqual(self.state("one"), (before, "exited"))
        agent.kill()
        agent.start()
        self.settled(agent)
        self.assertEqual(self.state("one"), (before, "exited"))
        # Another release of the same configuration renames the container, and leaves it as it is.
        agent.post_target(release(2))
        wait_until(lambda: self.engine.service_containers(1)["one"]["Name"].endswith("_2_b2"), "it is renamed")
        self.settled(agent)
        self.assertEqual(self.state("one"), (before, "exited"))
        self.call(agent, "start", "one")
        self.assertEqual(self.state("one"), (before, "running"))
        self.call(agent, "stop", "one")
        agent.post_target(release(3, OTHER_IMAGE))
        wait_until(lambda: self.state_or_none("one") not in (None, (before, "exited")), "it is made anew")
        self.wait_for_services(agent, "one", "two")

    def state_or_none(self, name):
        container = self.engine.service_containers(1).get(name)
        return container and (container["Id"], container["State"]["Status"])

    def test_a_service_that_is_not_to_run_any_more_is_stopped_and_kept(self):
        agent = self.agent()
        agent.post_target(app(service("one"), service("two", number=2)))
        before = self.wait_for_services(agent, "one", "two")
        agent.post_target(app(service("one", running=False), service("two", number=2)))
        wait_until(lambda: self.state("one") == (before["one"]["Id"], "exited"), "it is stopped")
        self.settled(agent)
        self.assertEqual(self.state("two"), (before["two"]["Id"], "running"))
        # Started by hand it is stopped again.
        self.engine.request("POST", f"/containers/{before['one']['Id']}/start")
        wait_until(lambda: self.state("one")[1] == "exited", "it is stopped again")

    def test_only_what_the_release_changes_is_touched(self):
        agent = self.agent()

        def release(number, **environment):
            return app(
                service("one", environment=environment), service("two", number=2), commit=f"b{number}",
                release_id=number)

        agent.post_target(release(1))
        before = self.wait_for_services(agent, "one", "two")
        agent.post_target(release(2, ROUND="2"))
        wait_until(lambda: "ROUND=2" in self.environment("one"), "the changed service is made anew")
        after = self.wait_for_services(agent, "one", "two")
        self.assertNotEqual(after["one"]["Id"], before["one"]["Id"])
        self.assertEqual(after["two"]["Id"], before["two"]["Id"])
        self.assertEqual(after["two"]["State"]["StartedAt"], before["two"]["State"]["StartedAt"])
        self.assertTrue(after["two"]["Name"].endswith("_2_b2"))

    def environment(self, name):
        container = self.engine.service_containers(1).get(name)
        return container["Config"]["Env"] if container else []


class Rest(DeviceTest):
    """A settled device asks the engine nothing and plans nothing."""

    METERS = ("supervisor_plans_total", "supervisor_engine_requests_total")

    def meters(self, agent):
        lines = agent.get("/v2/metrics").text.splitlines()
        return {name: float(line.split()[-1]) for line in lines for name in self.METERS if line.startswith(name)}

    def test_twenty_settled_services_cost_nothing(self):
        agent = self.agent(start=False)
        gate = EngineGate(agent.directory, self.engine.path)
        self.addCleanup(gate.stop)
        seen = []
        gate.before = lambda method, path: seen.append((method, path)) or True
        agent.engine_address = gate.address
        agent.start()
        names = [f"s{number}" for number in range(CROWD)]
        agent.post_target(app(*(service(name, number=index) for index, name in enumerate(names, 1))))
        containers = self.wait_for_services(agent, *names)
        before = self.still(agent)
        mark = len(seen)
        # Commands in a container, and an unlabelled container that comes and goes, are none of the agent's business.
        one = containers["s0"]["Id"]
        for _ in range(3):
            command = self.engine.request("POST", f"/containers/{one}/exec", {"Cmd": ["sh", "-c", ":"]}).json["Id"]
            self.engine.request("POST", f"/exec/{command}/start", {"Detach": False, "Tty": False})
            other = self.engine.request("POST", "/containers/create", {"Image": IMAGE, "Cmd": SCRIPT}).json["Id"]
            self.engine.request("POST", f"/containers/{other}/start")
            self.engine.remove(other)
        # An event of a container of its own ends whatever would have been planned for all those.
        self.engine.request("POST", f"/containers/{one}/kill?signal=CONT")
        wait_until(lambda: self.meters(agent) != before, "the agent hears of its own container")
        after = self.still(agent)
        plans, requests = self.METERS
        self.assertEqual(after[plans] - before[plans], 1)
        self.assertLessEqual(after[requests] - before[requests], 2)
        # What the engine was asked is what the agent counts, and all of it for that one event.
        self.assertEqual(len(seen) - mark, after[requests] - before[requests], seen[mark:])
        self.assertEqual({method for method, _ in seen[mark:]} - {"GET"}, set())
        if "REST_SECONDS" in os.environ:
            self.watch(agent, float(os.environ["REST_SECONDS"]))

    def watch(self, agent, seconds):
        """For less than the 15 minutes until everything is read again."""
        start = self.still(agent)
        before = self.cost(agent)
        time.sleep(seconds)
        after = self.cost(agent)
        processor, wakes = (after[key] - before[key] for key in ("seconds", "wakes"))
        print(f"{CROWD} services at rest for {seconds:.0f} s: {processor:.2f} s of processor, {wakes} wake-ups")
        self.assertEqual(self.meters(agent), start)
        self.assertLess(processor / seconds, 0.001)

    def cost(self, agent):
        with open(f"/proc/{agent.process.pid}/schedstat", encoding="utf-8") as file:
            processor = int(file.read().split()[0]) / 1e9
        return {"seconds": processor, "wakes": agent.process_status("voluntary_ctxt_switches")}

    def still(self, agent):
        """Waits until nothing has moved for many looks in a row; returns the meters."""
        looks = []

        def resting():
            looks.append(self.meters(agent))
            return len(looks) >= 60 and all(look == looks[-1] for look in looks[-60:]) and looks[-1]

        return wait_until(resting, "the agent rests")
