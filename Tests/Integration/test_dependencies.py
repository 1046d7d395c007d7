"""depends_on: a service starts when those that it waits for have started, are healthy, or have done their work."""

import json

from harness import DeviceTest, app, service, wait_until

HEALTH = {"test": ["CMD", "test", "-f", "/ready"], "interval": "1s", "timeout": "30s", "retries": 1000}
UNTIL_TOLD = ["sh", "-c", "trap 'exit 0' TERM; until [ -f /code ]; do sleep 1 & wait $!; done; exit $(cat /code)"]


class Dependencies(DeviceTest):
    def execute(self, container, *command):
        """Runs a command in a container and waits for its end."""
        made = self.engine.request("POST", f"/containers/{container['Id']}/exec", {"Cmd": list(command)}).json["Id"]
        self.engine.request("POST", f"/exec/{made}/start", {"Detach": True})
        wait_until(lambda: not self.engine.get(f"/exec/{made}/json")["Running"], f"{command} has ended")
        self.assertEqual(self.engine.get(f"/exec/{made}/json")["ExitCode"], 0)

    def running(self, name):
        container = self.engine.service_containers(1).get(name)
        return container if container and container["State"]["Running"] else None

    def wait_for(self, name):
        return wait_until(lambda: self.running(name), f"{name} runs")

    def waiting(self, agent):
        """What each service waits for, as the agent explains it."""
        apps = agent.get("/v2/explain").json["apps"]
        return {entry["service"]: entry["for"] for app in apps for entry in app["waiting"]}

    def assert_never_started(self, name):
        container = self.engine.service_containers(1).get(name)
        if container:
            self.assertTrue(container["State"]["StartedAt"].startswith("0001-"), container["State"])

    def test_a_service_waits_for_another_to_be_healthy(self):
        agent = self.agent()
        agent.post_target(app(
            service("web", depends_on={"db": {"condition": "service_healthy"}}),
            service("db", number=2, healthcheck=HEALTH)))
        db = self.wait_for("db")
        wait_until(lambda: self.waiting(agent).get("web") == "db to be healthy", "the wait is explained")
        # A look or two of the health check later it still waits.
        wait_until(lambda: len(self.running("db")["State"]["Health"]["Log"]) > 1, "the check has been made twice")
        self.assert_never_started("web")
        self.execute(db, "touch", "/ready")
        containers = self.wait_for_services(agent, "web", "db")
        self.assertEqual(containers["db"]["Id"], db["Id"])
        self.assertEqual(containers["db"]["State"]["Health"]["Status"], "healthy")

    def test_a_restart_through_the_api_is_over_when_those_behind_a_health_check_run(self):
        agent = self.agent()
        agent.post_target(app(
            service("web", depends_on={"db": {"condition": "service_healthy"}}),
            service("db", number=2, healthcheck={"test": ["CMD", "true"], "interval": "2s", "timeout": "30s"})))
        before = self.wait_for_services(agent, "web", "db")
        reply = agent.request("POST", "/v1/restart", {"appId": 1}, timeout=60)
        self.assertEqual((reply.status, reply.text), (200, "OK"))
        after = self.engine.service_containers(1)
        self.assertTrue(after["web"]["State"]["Running"])
        self.assertNotEqual(after["web"]["Id"], before["web"]["Id"])

    def test_a_service_waits_for_another_to_have_done_its_work(self):
        agent = self.agent()
        agent.post_target(app(
            service("web", depends_on={"migrate": {"condition": "service_completed_successfully"}}),
            service("migrate", number=2, command=UNTIL_TOLD, restart="no")))
        migrate = self.wait_for("migrate")
        wait_until(lambda: self.waiting(agent).get("web") == "migrate to complete successfully", "it is explained")
        self.assert_never_started("web")
        self.execute(migrate, "sh", "-c", "echo 0 >/code.new; mv /code.new /code")
        web = self.wait_for("web")
        wait_until(lambda: agent.status()["appState"] == "applied", "the target is applied")
        after = self.engine.service_containers(1)
        self.assertEqual(after["migrate"]["Id"], migrate["Id"])
        self.assertEqual(after["migrate"]["State"]["ExitCode"], 0)
        self.assertFalse(after["migrate"]["State"]["Running"])
        self.assertGreater(web["State"]["StartedAt"], after["migrate"]["State"]["FinishedAt"])

    def test_work_that_has_failed_keeps_back_those_that_need_it_and_no_others(self):
        agent = self.agent()
        need = {"condition": "service_completed_successfully"}
        agent.post_target(app(
            service("web", depends_on={"migrate": need}),
            service("lenient", number=3, depends_on={"migrate": {**need, "required": False}}),
            service("migrate", number=2, command=UNTIL_TOLD, restart="no")))
        migrate = self.wait_for("migrate")
        self.assert_never_started("lenient")
        self.execute(migrate, "sh", "-c", "echo 3 >/code.new; mv /code.new /code")
        self.wait_for("lenient")
        self.assert_never_started("web")
        self.assertEqual(self.waiting(agent).get("web"), "migrate to complete successfully")

    def test_services_start_in_the_order_of_their_dependencies(self):
        agent = self.agent()
        agent.post_target(app(
            service("one", depends_on=["two"]),
            service("two", number=2, depends_on={"three": None}),
            service("three", number=3)))
        containers = self.wait_for_services(agent, "one", "two", "three")
        started = {name: container["State"]["StartedAt"] for name, container in containers.items()}
        self.assertEqual(sorted(started, key=started.get), ["three", "two", "one"], json.dumps(started))
