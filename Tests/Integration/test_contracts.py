"""Contracts of services: a release that asks for what this device has not leaves the running one alone."""

import json
import platform
import re

from harness import DeviceTest, app, service, wait_until

KERNEL = re.match(r"\d+\.\d+\.\d+", platform.release())
UNMET = {"type": "sw.container", "requires": [{"type": "arch.sw", "slug": "rpi"}]}
OPTIONAL = {"io.balena.features.optional": "1"}


def requires(*requirements):
    return {"type": "sw.container", "slug": "contract", "requires": list(requirements)}


class Contracts(DeviceTest):
    def device(self):
        """An agent on a board of a known type with a known operating system."""
        agent = self.agent(start=False)
        with open(agent.path("boot/device-type.json"), "w", encoding="utf-8") as file:
            json.dump({"slug": "raspberrypi4-64", "arch": "aarch64", "name": "Raspberry Pi 4"}, file)
        with open(agent.path("host/etc/os-release"), "w", encoding="utf-8") as file:
            file.write('ID="balena-os"\nVERSION="6.1.2+rev1"\nPRETTY_NAME="balenaOS 6.1.2+rev1"\n')
        return agent.start()

    def state(self, agent, name="app1"):
        """Without status until the agent has looked at its target."""
        return agent.get("/v2/applications/state").json.get(name, {"updateStatus": None})

    def assert_untouched(self, before, app_id=1):
        after = self.engine.service_containers(app_id)
        self.assertEqual(sorted(after), sorted(before))
        for name, container in before.items():
            self.assertEqual(after[name]["Id"], container["Id"])
            self.assertEqual(after[name]["Name"], container["Name"])
            self.assertEqual(after[name]["State"], container["State"])

    def test_a_release_runs_when_the_device_has_what_its_services_ask_for(self):
        agent = self.device()
        met = {
            "type": requires({"type": "hw.device-type", "slug": "raspberrypi4-64"}),
            "architecture": requires({"type": "arch.sw", "slug": "aarch64"}),
            "system": requires({"type": "sw.os", "slug": "balena-os", "version": ">=6.1.0 <7"}),
            "agent": requires({"type": "sw.supervisor", "version": "^19.0.0 || ~20.1"}),
            "either": requires({"or": [{"type": "arch.sw", "slug": "amd64"}, {"type": "arch.sw", "slug": "aarch64"}]}),
            "nothing": {},
        }
        if KERNEL:
            met["kernel"] = requires({"type": "sw.kernel", "slug": "linux", "version": KERNEL.group()})
        services = [service(name, number=number, contract=contract)
                    for number, (name, contract) in enumerate(met.items(), 1)]
        self.assertEqual(agent.post_target(app(*services)).status, 200)
        self.wait_for_services(agent, *met)

    def test_a_release_whose_contract_is_not_met_leaves_the_running_one_alone_and_says_why(self):
        agent = self.device()
        agent.post_target(app(service("one"), service("two", number=2), commit="aaaa"))
        before = self.wait_for_services(agent, "one", "two")

        unmet = requires({"type": "sw.os", "version": ">=7"}, {"type": "sw.supervisor"})
        answer = agent.post_target(app(
            service("one", contract=unmet, environment={"NEW": "1"}),
            service("three", number=3, contract=UNMET, labels=OPTIONAL), commit="bbbb", release_id=2))
        # A rejected release is not an error of the call.
        self.assertEqual((answer.status, answer.json), (200, {"status": "success", "message": "OK"}))
        # One event is one line of the log.
        self.assertIn(
            "[error]   Some releases were rejected due to having unmet requirements: "
            "  app1: Services with unmet requirements: one, three\n", agent.log)
        wait_until(lambda: self.state(agent)["updateStatus"] == "rejected", "the app is shown as rejected")
        wait_until(lambda: agent.status()["appState"] == "applied", "nothing is left to do")
        self.assertEqual(self.state(agent)["commit"], "bbbb")
        self.assertEqual(self.state(agent)["services"], {})
        self.assertEqual(agent.status()["release"], "aaaa")
        told = next(entry for entry in agent.get("/v2/explain").json["apps"] if entry["appId"] == 1)
        self.assertTrue(told["rejected"])
        self.assertEqual(
            [entry["for"] for entry in told["waiting"]], ["a release whose requirements this device meets"])
        self.assert_untouched(before)

        # It is still so for the next process, and ends with a release that the device can run.
        agent.kill()
        agent.start()
        wait_until(lambda: self.state(agent)["updateStatus"] == "rejected", "it is rejected after a restart")
        wait_until(lambda: agent.status()["appState"] == "applied", "nothing is left to do after a restart")
        self.assert_untouched(before)
        agent.post_target(app(service("one", environment={"NEW": "1"}), commit="cccc", release_id=3))
        after = self.wait_for_services(agent, "one")
        self.assertEqual(after["one"]["Name"], "/one_1_3_cccc")
        self.assertEqual(self.state(agent)["updateStatus"], "done")

    def test_another_app_of_the_same_target_is_updated(self):
        agent = self.device()
        agent.post_target(app(service("one")) | app(service("two", number=2), app_id=2))
        before = self.wait_for_services(agent, "one")
        agent.post_target(
            app(service("one", contract=UNMET), commit="bbbb", release_id=2)
            | app(service("two", number=2, environment={"NEW": "1"}), app_id=2, commit="bbbb", release_id=2))

        def updated():
            containers = self.engine.service_containers(2)
            return "two" in containers and "NEW=1" in containers["two"]["Config"]["Env"]

        wait_until(updated, "the other app has its new variable")
        wait_until(lambda: self.state(agent, "app2")["updateStatus"] == "done", "the other app is done")
        self.assertEqual(self.state(agent)["updateStatus"], "rejected")
        self.assert_untouched(before)

    def test_optional_services_whose_contract_is_not_met_are_left_out(self):
        agent = self.device()
        agent.post_target(app(service("one"), service("two", number=2), service("three", number=3)))
        before = self.wait_for_services(agent, "one", "two", "three")
        agent.post_target(app(
            service("one"),
            service("two", number=2, labels=OPTIONAL, contract=UNMET),
            service("three", number=3, labels={"io.balena.features.optional": "true"},
                    contract=requires({"type": "sw.l4t"})),
            service("four", number=4, labels=OPTIONAL, contract=requires({"type": "sw.os"})),
            commit="bbbb", release_id=2))
        after = self.wait_for_services(agent, "one", "four")
        self.assertEqual(after["one"]["Id"], before["one"]["Id"])
        self.assertIn("Not running containers because of contract violations: two. three\n", agent.log)
        self.assertEqual(sorted(self.state(agent)["services"]), ["four", "one"])
        self.assertEqual(self.state(agent)["updateStatus"], "done")

    def test_a_contract_that_is_none_refuses_the_whole_target(self):
        agent = self.device()
        agent.post_target(app(service("one"), commit="aaaa"))
        before = self.wait_for_services(agent, "one")
        target = agent.get("/v2/local/target-state").json
        for contract, reason in [
            (requires({"type": "hw.led"}), "hw.led is not a valid contract requirement type"),
            (requires({"type": "sw.application", "slug": "balena-supervisor"}),
             "sw.application is not a valid contract requirement type"),
            (requires({"not": []}), "Expecting string at requires.0.type but instead got: undefined"),
            (requires({"type": "sw.os", "version": 6}),
             "Expecting string at requires.0.version but instead got: 6"),
            ([], "Expecting object at contract but instead got: []"),
        ]:
            with self.subTest(contract=contract):
                answer = agent.post_target(
                    app(service("new", number=9), app_id=2)
                    | app(service("one", contract=contract, labels=OPTIONAL), commit="bbbb", release_id=2))
                text = f"The contract for service one failed validation, with error: {reason}"
                self.assertEqual((answer.status, answer.json), (400, {"status": "failed", "message": text}))
                self.assertIn(f"Could not store target state for device: {text}\n", agent.log)
                self.assertIn(f"Could not move to new release: {text}\n", agent.log)
                self.assertEqual(agent.get("/v2/local/target-state").json, target)
        self.assert_untouched(before)
        self.assertEqual(self.engine.service_containers(2), {})

    def test_what_is_not_known_of_a_device_meets_nothing(self):
        agent = self.agent()
        agent.post_target(app(service("one", contract=requires(
            {"type": "hw.device-type", "slug": "unknown"}, {"type": "arch.sw", "slug": "unknown"}))))
        self.wait_for_services(agent, "one")
        # The os-release of the harness has neither ID nor VERSION.
        agent.post_target(app(service("one", contract=requires({"type": "sw.os"})), commit="bbbb", release_id=2))
        wait_until(lambda: self.state(agent)["updateStatus"] == "rejected", "the app is shown as rejected")
