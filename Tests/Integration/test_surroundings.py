"""An engine that hangs, and containers that end at once: said, and over by itself."""

import os
import signal

from harness import DeviceTest, app, service, wait_until


class Surroundings(DeviceTest):
    def wait_for_line(self, agent, *words, seconds=180):
        def lines():
            agent.assert_alive()
            return [line for line in agent.log.splitlines() if all(word in line for word in words)]

        return wait_until(lines, f"a line of the log with {words}", seconds=seconds)

    def test_an_engine_that_hangs_for_a_minute_is_said_to_and_the_update_goes_on_when_it_is_back(self):
        agent = self.agent()
        agent.post_target(app(service("one", stopGracePeriod="1s")))
        before = self.wait_for_services(agent, "one")["one"]["Id"]
        with open(f"{self.engine.directory}/dockerd.pid", encoding="utf-8") as file:
            process = int(file.read())
        os.kill(process, signal.SIGSTOP)
        try:
            agent.post_target(app(service("one", stopGracePeriod="1s", environment={"NEW": "1"})))
            self.wait_for_line(agent, "The engine has not ended the step kill of the service 1 one for ")

            def problem():
                engine = agent.get("/v2/explain").json["engine"]
                return not engine["reachable"] and engine["problem"]

            self.assertIn("has not answered for 30 seconds", wait_until(problem, "the problem is in the answer"))
            self.wait_for_line(agent, "The engine cannot be used: it has not answered for 30 seconds")
            self.assertEqual(agent.get("/v1/healthy").status, 200)
            self.assertEqual(agent.get("/ping").text, "OK")
        finally:
            os.kill(process, signal.SIGCONT)
        self.wait_for_line(agent, "The engine answers again")
        after = self.wait_for_services(agent, "one")["one"]
        self.assertIn("NEW=1", after["Config"]["Env"])
        self.assertNotEqual(after["Id"], before)

    def test_a_container_that_ends_at_once_is_the_engines_to_restart_and_each_end_is_said(self):
        agent = self.agent()
        command = ["sh", "-c", "test -e /store/ready && exec sleep 1000; exit 3"]
        agent.post_target(app(service("one", command=command, volumes=["store:/store"]), volumes={"store": {}}))
        self.wait_for_line(agent, "Service exited 'one sha256:")
        self.wait_for_line(agent, "Restarting service 'one sha256:")
        # It is started: that is all that the target asks for.
        wait_until(lambda: agent.status()["appState"] == "applied", "the target is reached")
        container = self.engine.service_containers(1)["one"]
        plans = agent.log.count("Starting service")
        self.assertEqual(plans, 1)
        path = f"{self.engine.directory}/data/volumes/1_store/_data/ready"
        with open(path, "x", encoding="utf-8"):
            pass
        after = self.wait_for_services(agent, "one")["one"]
        self.assertEqual(after["Id"], container["Id"])
        self.assertEqual(agent.log.count("Starting service"), 1)
