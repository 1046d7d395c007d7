"""kill -9 right before and right after each change that an update makes to containers, and the update called back
before the agent is there again: the service runs as before."""

import http.client
import os

from engine_gate import EngineGate, changes_container
from harness import DeviceTest, app, service, wait_until

AGENT_UID = 65534
LOCK_NAMES = ("updates.lock", "resin-updates.lock")


class Crashes:
    LABELS = {}
    # What an update does to containers, in order.
    CHANGES = ()

    def target(self, number):
        return app(
            service("one", environment={"ROUND": str(number)}, labels=self.LABELS), commit=f"c{number}",
            release_id=number + 1)

    def is_at(self, agent, number):
        """Only the container of that target is there, and runs, and the agent is content."""
        try:
            containers = [self.engine.get(f"/containers/{row['Id']}/json") for row in self.engine.containers()]
            return (
                len(containers) == 1 and f"ROUND={number}" in containers[0]["Config"]["Env"]
                and containers[0]["State"]["Running"] and agent.status()["appState"] == "applied" and containers[0])
        except (OSError, KeyError, http.client.HTTPException):
            return False

    def gated_agent(self):
        agent = self.agent(start=False)
        gate = EngineGate(agent.directory, self.engine.path)
        self.addCleanup(gate.stop)
        agent.engine_address = gate.address
        return agent.start(), gate

    @staticmethod
    def kill_at(gate, agent, moment, number):
        """Kills the agent at its change of that number; the request, or its answer, is lost. Returns the changes."""
        seen = []

        def kill(method, path):
            if not changes_container(method, path):
                return True
            last = path.rpartition("/")[2]
            seen.append(method if len(last) == 64 else last)
            if len(seen) <= number:
                return True
            agent.kill()
            return False

        setattr(gate, moment, kill)
        return seen

    def lock_in_place_of_the_agent(self, agent):
        """A user's lock, where the killed agent may have left its own: nothing of the update goes on."""
        directory = agent.path("host/tmp/balena-supervisor/services/1/one")
        os.makedirs(directory, exist_ok=True)
        for name in LOCK_NAMES:
            path = os.path.join(directory, name)
            if os.path.lexists(path):
                self.assertEqual(os.lstat(path).st_uid, AGENT_UID)
                os.unlink(path)
        path = os.path.join(directory, LOCK_NAMES[0])
        with open(path, "x", encoding="utf-8"):
            return path

    def crash(self, gate, agent, moment, number):
        seen = self.kill_at(gate, agent, moment, number)
        agent.post_target(self.target(1))
        wait_until(lambda: agent.process.poll() is not None, f"the agent is killed at change {number}")
        gate.open()
        self.assertEqual(tuple(seen), self.CHANGES[:number + 1])
        lock = self.lock_in_place_of_the_agent(agent)
        agent.start()
        agent.post_target(self.target(0))
        os.unlink(lock)
        return wait_until(lambda: self.is_at(agent, 0), f"the service is back after {moment} {seen[-1]}")

    def check(self, moment):
        agent, gate = self.gated_agent()
        agent.post_target(self.target(0))
        before = wait_until(lambda: self.is_at(agent, 0), "the first release runs")
        for number, change in enumerate(self.CHANGES):
            after = self.crash(gate, agent, moment, number)
            if change == "stop":
                self.assertEqual(after["Id"], before["Id"])
            before = after

    def test_right_before_a_change(self):
        self.check("before")

    def test_right_after_a_change(self):
        self.check("after")


class DefaultStrategy(Crashes, DeviceTest):
    CHANGES = ("stop", "DELETE", "create", "start")

    def test_what_the_api_stopped_stays_stopped_when_an_update_is_called_back(self):
        agent, gate = self.gated_agent()
        agent.post_target(self.target(0))
        before = wait_until(lambda: self.is_at(agent, 0), "the first release runs")
        answer = agent.request("POST", "/v2/applications/1/stop-service", {"serviceName": "one"})
        self.assertEqual(answer.status, 200, answer.text)
        self.kill_at(gate, agent, "before", 1)
        agent.post_target(self.target(1))
        wait_until(lambda: agent.process.poll() is not None, "the agent is killed before the removal")
        gate.open()
        lock = self.lock_in_place_of_the_agent(agent)
        agent.start()
        agent.post_target(self.target(0))
        os.unlink(lock)
        wait_until(lambda: agent.status()["appState"] == "applied", "the target is reached")
        container = self.engine.service_containers(1)["one"]
        self.assertEqual((container["Id"], container["State"]["Status"]), (before["Id"], "exited"))

    def test_a_stop_that_ends_after_the_agent_is_there_again_is_undone(self):
        agent, gate = self.gated_agent()
        slow = "trap 'while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 0' TERM; while :; do sleep 0.1; done"
        first = app(service("one", command=["sh", "-c", slow], stopGracePeriod="60s"))
        agent.post_target(first)
        before = self.wait_for_services(agent, "one")["one"]

        def kill(method, path):
            if path.endswith("/stop"):
                # The engine has the request, and goes on with it; the agent does not wait.
                agent.kill()
            return True

        gate.sent = kill
        agent.post_target(self.target(1))
        wait_until(lambda: agent.process.poll() is not None, "the agent is killed during the stop")
        gate.open()
        lock = self.lock_in_place_of_the_agent(agent)
        agent.start()
        agent.post_target(first)
        os.unlink(lock)
        self.wait_for_services(agent, "one")
        self.run_in(before["Id"], "touch", "/tmp/end")

        def started_again():
            container = self.engine.service_containers(1).get("one")
            return container and container["State"]["Running"] and (
                container["State"]["StartedAt"] != before["State"]["StartedAt"]) and container

        self.assertEqual(wait_until(started_again, "it is started again")["Id"], before["Id"])

    def run_in(self, container, *command):
        created = self.engine.request("POST", f"/containers/{container}/exec", {"Cmd": list(command)}).json
        self.engine.request("POST", f"/exec/{created['Id']}/start", {"Detach": False, "Tty": False})


class WithRollback(Crashes, DeviceTest):
    LABELS = {"io.balena.update.rollback": "true"}
    CHANGES = ("stop", "rename", "update", "create", "start")
