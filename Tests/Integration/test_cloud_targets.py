"""Targets that a cloud sends: what holds for those of local mode holds for them."""

import os

from cloud import CloudTest, service
from harness import OTHER_IMAGE, wait_until

UNMET = {"type": "sw.container", "requires": [{"type": "arch.sw", "slug": "rpi"}]}
NOBODY = "127.0.0.1:9/nobody/there:1"


class Contracts(CloudTest):
    def test_a_release_that_needs_another_architecture_is_reported_as_rejected_and_the_old_one_goes_on(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        before = self.wait_for_containers(agent, "main")["main"]["Id"]
        self.wait_for_report(device, release, "main")
        bad = self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE, contract=UNMET)})
        wait_until(lambda: "Some releases were rejected due to having unmet requirements" in agent.log, "the reason is said")

        def rejected():
            releases = device.state["apps"][self.fleet.uuid]["releases"]
            return releases.get(bad.commit, {}).get("update_status") == "rejected"

        wait_until(rejected, "the release is reported as rejected")
        self.assertEqual(self.wait_for_containers(agent, "main")["main"]["Id"], before)
        good = self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        self.wait_for_report(device, good, "main")

    def test_an_optional_service_whose_contract_is_not_met_is_left_out(self):
        release = self.cloud.add_release(self.fleet, {
            "main": service(),
            "extra": service(contract=UNMET, labels={"io.balena.features.optional": "1"})})
        agent, device = self.provisioned_agent()
        self.wait_for_containers(agent, "main")
        self.wait_for_report(device, release, "main")


class Force(CloudTest):
    def test_a_release_that_is_fetched_without_force_is_not_forced_because_the_one_before_was(self):
        self.cloud.poll_floor = 600_000
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent(appUpdatePollInterval=600_000)
        before = self.wait_for_containers(agent, "main")["main"]["Id"]
        self.wait_for_report(device, release, "main")
        update = f"/v1/update?apikey={device.state['api_secret']}"
        self.cloud.add_release(self.fleet, {"main": service(NOBODY)})
        self.assertEqual(agent.request("POST", update, {"force": True}).status, 204)
        wait_until(lambda: f"Failed to download image '{NOBODY}'" in agent.log, "the forced release cannot finish")
        directory = agent.path(f"host/tmp/balena-supervisor/services/{self.fleet.id}/main")
        os.makedirs(directory, exist_ok=True)
        lock = os.path.join(directory, "updates.lock")
        with open(lock, "w", encoding="utf-8"):
            pass
        self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        self.assertEqual(agent.request("POST", update, {"force": False}).status, 204)
        wait_until(lambda: "Updates are locked" in agent.log, "the lock holds the update up")
        self.assertTrue(os.path.exists(lock))
        self.assertEqual(self.engine.service_containers(self.fleet.id)["main"]["Id"], before)
