"""A cloud whose name is not found, found late, or found at the wrong place."""

import os
import time

from cloud import CloudTest, service
from harness import OTHER_IMAGE, wait_until

NAME = "cloud.test"


class Names(CloudTest):
    def setUp(self):
        super().setUp()
        from names import NameServer

        self.names = NameServer({NAME: ["127.0.0.1"]})
        self.addCleanup(self.names.stop)
        self.stand_in.use_certificate(*self.stand_in.authority.leaf("named", subject=NAME, names=f"DNS:{NAME}"))
        self.port = self.stand_in.ports[0]

    def start(self, wait=True, **more):
        """An agent whose own resolver asks the test's name server."""
        agent = self.managed_agent(start=False, apiEndpoint=f"https://{NAME}:{self.port}", **more)
        path = self.names.write_configuration(os.path.join(self.cloud_directory, "resolv.conf"))
        agent.start(wait=wait, prefix=(
            "unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', path))
        return agent

    def silence(self, agent, seconds):
        """How much of the time goes by in requests that take longer than a busy machine explains."""
        silence, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            begin = time.monotonic()
            self.assertEqual(agent.get("/ping").text, "OK")
            spent = time.monotonic() - begin
            silence += spent if spent > 0.5 else 0
            time.sleep(0.02)
        return silence

    def running(self, **more):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.start(**more)
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        return agent, device

    def outage(self, agent, text):
        """Ends connections until a poll fails: what is known of a name is kept for a minute."""
        failures = agent.log.count("Target state poll failed")

        def has_failed():
            self.stand_in.close_idle()
            log = agent.log
            return log.count("Target state poll failed") > failures and text in log.rpartition("Target state poll failed")[2]

        wait_until(has_failed, f"a poll fails: {text}", seconds=150)

    def heals(self, device):
        self.names.behaviour, self.names.delay = "", 0
        new = self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        self.wait_for_report(device, new, "main")

    def test_a_name_server_that_does_not_answer_holds_up_nobody_else(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        self.names.behaviour = "silent"
        agent = self.start()
        # Longer than the first probe of the cloud is waited for, and than the resolver itself waits.
        self.assertLess(self.silence(agent, 25), 12)
        self.assertEqual(agent.get("/v1/healthy").status, 200)
        self.assertIn(NAME, agent.log)
        self.names.behaviour = ""
        self.wait_for_report(self.device(agent), release, "main")

    def test_a_name_that_does_not_exist_yet_is_found_once_it_does(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        self.names.behaviour = "unknown"
        agent = self.start()
        wait_until(lambda: agent.log.count("Device bootstrap failed") > 2, "it is tried again")
        self.assertIn(f"Could not resolve host: {NAME}", agent.log)
        wait_until(lambda: "Waiting for connectivity..." in agent.log, "the device says that it is offline")
        self.assertEqual(agent.get("/v1/healthy").status, 200)
        self.assertEqual(self.stand_in.requests, [])
        self.names.behaviour = ""
        self.wait_for_report(self.device(agent), release, "main")
        wait_until(lambda: agent.log.count("Internet Connectivity: OK") == 1, "and that it is online")

    def test_a_name_that_is_gone_for_a_while_or_answered_late_changes_nothing_for_the_services(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.start()
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        container = self.wait_for_containers(agent, "main")["main"]["Id"]
        self.names.behaviour = "failure"
        self.outage(agent, f"Could not resolve host: {NAME}")
        self.assertEqual(self.wait_for_containers(agent, "main")["main"]["Id"], container)
        self.assertEqual(agent.get("/v1/healthy").status, 200)
        self.names.behaviour, self.names.delay = "", 3
        self.heals(device)

    def test_an_address_that_refuses_and_one_that_swallows_connections_are_passed_over(self):
        from names import BlackHole

        hole = BlackHole("::1", self.port)
        self.addCleanup(hole.stop)
        self.names.records[NAME] = ["::1", "127.0.0.9", "127.0.0.1"]
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.start()
        self.wait_for_report(self.device(agent), release, "main")
        self.assertNotIn("Device bootstrap failed", agent.log)

    def test_a_cloud_that_moves_to_another_address_is_found_there(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.start()
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        self.stand_in.stop()
        self.stand_in.host = "127.0.0.2"
        self.stand_in.start()
        self.names.records[NAME] = ["127.0.0.2"]
        self.heals(device)
