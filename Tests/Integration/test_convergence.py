"""Whatever happens in between, the agent comes to the target, without duplicates."""

import random
import time

from harness import IMAGE, OTHER_IMAGE, DeviceTest, app, service, wait_until

KILLS = 12


class Convergence(DeviceTest):
    def test_a_container_removed_behind_its_back_comes_back(self):
        agent = self.agent()
        agent.post_target(app(service("one"), service("two", number=2)))
        before = self.wait_for_services(agent, "one", "two")
        self.engine.remove(before["one"]["Id"])
        wait_until(lambda: "one" in self.engine.service_containers(1), "the container is back")
        after = self.wait_for_services(agent, "one", "two")
        self.assertEqual(after["two"]["Id"], before["two"]["Id"])

    def test_a_container_stopped_behind_its_back_is_left_alone(self):
        agent = self.agent()
        agent.post_target(app(service("one")))
        before = self.wait_for_services(agent, "one")["one"]
        self.engine.request("POST", f"/containers/{before['Id']}/stop")
        wait_until(lambda: [row["status"] for row in agent.status()["containers"]] == ["exited"], "it has exited")
        agent.post_target(app(service("one")) | app(service("two"), app_id=2))
        wait_until(lambda: "two" in self.engine.service_containers(2), "the other app runs")
        wait_until(lambda: agent.status()["appState"] == "applied", "the target is applied")
        after = self.engine.service_containers(1)["one"]
        self.assertEqual((after["Id"], after["State"]["Running"]), (before["Id"], False))

    def test_a_restart_of_the_agent_touches_no_container(self):
        agent = self.agent()
        agent.post_target(app(service("one"), service("two", number=2)))
        before = self.wait_for_services(agent, "one", "two")
        agent.kill()
        agent.start()
        after = self.wait_for_services(agent, "one", "two")
        for name in before:
            self.assertEqual(after[name]["Id"], before[name]["Id"])
            self.assertEqual(after[name]["State"]["StartedAt"], before[name]["State"]["StartedAt"])

    def test_a_change_made_while_the_agent_was_away_is_undone(self):
        agent = self.agent()
        agent.post_target(app(service("one"), service("two", number=2)))
        before = self.wait_for_services(agent, "one", "two")
        agent.kill()
        self.engine.remove(before["two"]["Id"])
        agent.start()
        wait_until(lambda: "two" in self.engine.service_containers(1), "the container is back")
        self.assertEqual(self.wait_for_services(agent, "one", "two")["one"]["Id"], before["one"]["Id"])

    def test_kill_9_at_any_moment_of_an_update_converges_without_duplicates_or_loss_of_the_volume(self):
        chance = random.Random(20)
        agent = self.agent()
        agent.post_target(app(service("one", volumes=["store:/store"]), volumes={"store": {}}))
        container = self.wait_for_services(agent, "one")["one"]["Id"]
        self.write_mark(container)
        for number in range(KILLS):
            image = (IMAGE, OTHER_IMAGE)[number % 2]
            target = app(
                service("one", image=image, volumes=["store:/store"], environment={"ROUND": str(number)}),
                service("two", image=image, number=2, environment={"ROUND": str(number)}, depends_on=["one"]),
                commit=f"c{number}", release_id=number + 1, volumes={"store": {}})
            self.assertEqual(agent.post_target(target).status, 200)
            time.sleep(chance.uniform(0, 1.2))
            agent.kill()
            agent.start()
            if number % 3 == 2:
                time.sleep(chance.uniform(0, 0.5))
                agent.kill()
                agent.start()
            self.wait_for_round(number)
        self.wait_for_services(agent, "one", "two")
        containers = self.engine.containers()
        self.assertEqual(len(containers), 2, containers)
        mark = self.engine.service_containers(1)["one"]["Id"]
        self.assertEqual(self.engine.request("GET", f"/containers/{mark}/archive?path=/store/mark").status, 200)

    def write_mark(self, container):
        created = self.engine.request(
            "POST", f"/containers/{container}/exec", {"Cmd": ["touch", "/store/mark"]}).json
        self.engine.request("POST", f"/exec/{created['Id']}/start", {"Detach": False})

    def wait_for_round(self, number):
        def arrived():
            containers = self.engine.service_containers(1)
            return sorted(containers) == ["one", "two"] and all(
                f"ROUND={number}" in container["Config"]["Env"] and container["State"]["Running"]
                for container in containers.values())

        wait_until(arrived, f"both services of round {number} run")

    def test_a_restart_of_the_engine_converges(self):
        agent = self.agent()
        agent.post_target(app(service("one"), service("two", number=2)))
        before = self.wait_for_services(agent, "one", "two")
        self.engine.control("kill")
        self.assertEqual(agent.get("/ping").text, "OK")
        self.engine.control("start")
        after = self.wait_for_services(agent, "one", "two")
        self.assertEqual({name: after[name]["Id"] for name in after}, {name: before[name]["Id"] for name in before})

    def test_a_target_posted_while_the_engine_is_down_is_applied_after_it_starts(self):
        agent = self.agent()
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")
        self.engine.control("kill")
        self.assertEqual(agent.post_target(app(service("one"), service("two", number=2))).status, 200)
        self.assertEqual(agent.get("/ping").text, "OK")
        self.engine.control("start")
        self.wait_for_services(agent, "one", "two")
