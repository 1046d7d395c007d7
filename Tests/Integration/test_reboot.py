"""A reboot that an app asks for, on a device that cannot reboot."""

import os
import re

from harness import DeviceTest, app, service, wait_until


class Reboot(DeviceTest):
    def test_a_reboot_that_fails_is_tried_again_later_and_later_and_only_its_service_waits(self):
        agent = self.agent()
        agent.post_target(app(
            service("one"), service("two", number=2, labels={"io.balena.update.requires-reboot": "1"})))
        delays = wait_until(
            lambda: (found := re.findall(r'Unable to reboot.*"reboot".*next try in (.*)', agent.log)) and len(found) > 2
            and found, "the third try")
        self.assertEqual(delays[:3], ["1 second", "2 seconds", "4 seconds"])
        self.assertTrue(os.path.exists(agent.path("host/tmp/balena-supervisor/reboot-after-apply")))
        self.assertIn("Reboot has been scheduled to apply changes: ", agent.log)
        wait_until(
            lambda: {name: row["State"]["Status"] for name, row in self.engine.service_containers(1).items()}
            == {"one": "running", "two": "created"}, "only its service waits")
        self.assertEqual(agent.status()["appState"], "applying")

    def test_a_reboot_waits_for_users_locks_and_for_an_update_of_the_host(self):
        agent = self.agent()
        marker = agent.path("state/rollback-health-breadcrumb")
        with open(marker, "w", encoding="utf-8"):
            pass
        agent.post_target(app(service("one", labels={"io.balena.update.requires-reboot": "1"})))
        wait_until(lambda: "Reason: Waiting for Host OS update to finish" in agent.log, "the reason is told")
        self.assertNotIn("Unable to reboot", agent.log)
        directory = agent.path("host/tmp/balena-supervisor/services/1/one")
        os.makedirs(directory, exist_ok=True)
        lock = os.path.join(directory, "updates.lock")
        with open(lock, "w", encoding="utf-8"):
            pass
        os.unlink(marker)
        wait_until(lambda: "Reason: Lockfile exists for { appId: 1, service: one }" in agent.log, "the lock is told of")
        self.assertNotIn("Unable to reboot", agent.log)
        os.unlink(lock)
        wait_until(lambda: "Unable to reboot" in agent.log, "the reboot is tried")
