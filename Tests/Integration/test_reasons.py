"""Every step has its reason, and the last of them can be asked for."""

from harness import OTHER_IMAGE, DeviceTest, app, service, wait_until

CAPACITY = 256


class Reasons(DeviceTest):
    def decisions(self, agent):
        """Oldest first."""
        return list(reversed(agent.get("/v2/explain").json["decisions"]))

    def reasons(self, agent, step, name):
        return [row["reason"] for row in self.decisions(agent) if (row["step"], row["service"]) == (step, name)]

    def test_a_container_that_is_replaced_tells_field_and_both_values(self):
        agent = self.agent()
        agent.post_target(app(service("one", stopGracePeriod="8s", environment={"KEY": "secret"})))
        self.wait_for_services(agent, "one")
        self.assertEqual(self.reasons(agent, "start", "one"), ["the service has no container"])
        agent.post_target(app(service("one", stopGracePeriod="9s", environment={"KEY": "other secret"})))
        reason = wait_until(lambda: self.reasons(agent, "kill", "one"), "the container is replaced")[0]
        self.assertEqual(
            sorted(reason.split("; ")), ["environment.KEY: hidden -> hidden", "stopGracePeriod: 8 -> 9"])
        self.assertIn(reason, agent.log)
        self.wait_for_services(agent, "one")

    def test_every_step_has_an_app_a_time_and_a_reason(self):
        agent = self.agent()
        agent.post_target(app(service("one"), volumes={"store": {}}, networks={"front": {}}))
        self.wait_for_services(agent, "one")
        agent.post_target(app(service("one", image=OTHER_IMAGE), service("two", number=2), commit="b2", release_id=2))
        self.wait_for_services(agent, "one", "two")
        agent.post_target({})
        wait_until(lambda: not self.engine.service_containers(1), "the app is removed")
        wait_until(lambda: agent.status()["appState"] == "applied", "the target is applied")
        found = self.decisions(agent)
        self.assertEqual([row["sequence"] for row in found], list(range(len(found))))
        for row in found:
            self.assertTrue(row["reason"] and row["at"], row)
        steps = {row["step"] for row in found}
        self.assertLessEqual(
            {"createNetwork", "createVolume", "takeLock", "kill", "start", "updateCommit", "releaseLock",
             "removeNetwork"}, steps)
        for row in found:
            if row["step"] not in ("ensureSupervisorNetwork", "ensureExtraFirmwareVolume", "cleanup"):
                self.assertEqual(row["appId"], 1, row)

    def test_the_last_256_are_kept(self):
        agent = self.agent()
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")
        number = 0
        while self.decisions(agent)[-1]["sequence"] < CAPACITY + 10:
            # Volumes that a release does not have any more stay: each release adds its own.
            number += 1
            volumes = {f"v{number}-{index}": {} for index in range(90)}
            agent.post_target(app(service("one"), volumes=volumes, commit=f"b{number}", release_id=number))
            wait_until(lambda: self.decisions(agent)[-1]["step"] == "releaseLock", "the release is applied")
            self.wait_for_services(agent, "one")
        found = self.decisions(agent)
        self.assertEqual(len(found), CAPACITY)
        last = found[-1]["sequence"]
        self.assertEqual([row["sequence"] for row in found], list(range(last - CAPACITY + 1, last + 1)))

    def test_what_an_app_waits_for_is_told(self):
        agent = self.agent()
        agent.post_target(app(
            service("one", command=["false"], restart="no"),
            service("two", number=2, depends_on={"one": {"condition": "service_completed_successfully"}})))

        def waits():
            apps = agent.get("/v2/explain").json["apps"]
            return [row["for"] for one in apps for row in one["waiting"] if row["service"] == "two"]

        wait_until(lambda: [reason for reason in waits() if "one" in reason], "the reason is told")
        wait_until(lambda: "Waiting: two for " in agent.log, "the log says so")
