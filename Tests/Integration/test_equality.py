"""A container that was made from a target equals it, whatever the composition: nothing is made twice."""

import json
import os
import random
import urllib.parse

from compositions import NETWORKS, VOLUMES, composition, labels
from harness import COMMAND, IMAGE, DeviceTest, service, wait_until

ROUNDS = int(os.environ.get("EQUALITY_ROUNDS", "20"))
SERVICES = 12
STARTED = 3
SEED = int(os.environ.get("EQUALITY_SEED", "2010"))
APP = 7
# Images whose own values mix with those of the composition.
VARIANTS = {
    IMAGE: None,
    "odd-image:1": [
        'CMD ["c", "d"]', 'ENTRYPOINT ["/entry"]', "ENV BALENA=image", "ENV E=a=b", "USER app",
        "WORKDIR /w/./x/", 'VOLUME ["/data", "/cache"]', "EXPOSE 99/udp",
        "LABEL io.resin.image=1", "LABEL io.balena.image=2", "LABEL io.resin.features.dbus=1",
        'HEALTHCHECK --interval=5s --retries=7 CMD ["true"]',
    ],
    "odd-image:2": ["LABEL io.balena.features.supervisor-api=1", "HEALTHCHECK NONE", "CMD run this"],
}


class Equality(DeviceTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, changes in VARIANTS.items():
            if changes and not cls.engine.has_image(name):
                made = cls.engine.request("POST", "/containers/create", {"Image": IMAGE, "Cmd": ["x"], "StopSignal": "SIGQUIT"}).json["Id"]
                repository, tag = name.split(":")
                query = urllib.parse.urlencode(
                    {"container": made, "repo": repository, "tag": tag, "changes": changes}, doseq=True)
                answer = cls.engine.request("POST", f"/commit?{query}", {})
                assert answer.status == 201, answer.text
                cls.engine.remove(made)

    def release(self, generator, round_number):
        services = {}
        for index in range(SERVICES):
            started = index < STARTED
            chosen = composition(generator, index, started)
            if started:
                chosen["command"] = COMMAND
            more = {"command": None, "restart": None, **chosen}
            more = {key: value for key, value in more.items() if value is not None or key in chosen}
            image = IMAGE if started else generator.choice(sorted(VARIANTS))
            made = service(f"s{index}", image, index + 1, labels=labels(generator))
            for key in ("command", "restart"):
                if key not in more:
                    made.pop(key)
            feature_free = not started
            if not feature_free:
                made["labels"] = {}
            # The service's own labels and environment stand beside those of its composition.
            own = {key: more.pop(key) for key in ("labels", "environment") if key in more}
            made.update(more)
            made["running"] = started
            for key, value in own.items():
                if isinstance(value, dict):
                    made[key] = {**made[key], **{k: str(v) for k, v in value.items()}}
            services[str(index + 1)] = made
        return services

    def target(self, services, commit, release_id):
        return {str(APP): {
            "name": "odd", "commit": commit, "releaseId": release_id, "services": services,
            "volumes": VOLUMES, "networks": NETWORKS,
        }}

    def settle(self, agent, commit, services):
        """Waits until the release is the current one; returns the containers' ids by service."""

        begin = len(agent.log)

        def settled():
            agent.assert_alive()
            failed = [line for line in agent.log[begin:].splitlines() if "Failed to" in line]
            self.assertEqual(failed, [], json.dumps(services))
            state = agent.get(f"/v2/applications/{APP}/state").json
            if state.get("commit") != commit or agent.status()["appState"] != "applied":
                return None
            return self.engine.containers(f"io.balena.app-id={APP}")

        rows = wait_until(settled, f"release {commit} is settled", seconds=60)
        self.assertEqual(len(rows), SERVICES)
        return {row["Labels"]["io.balena.service-name"]: row["Id"] for row in rows}

    def assert_same(self, before, after, services, agent, what):
        changed = sorted(name for name in before if before[name] != after.get(name))
        if changed:
            made = {s["serviceName"]: s for s in services.values()}
            reasons = [line for line in agent.log.splitlines() if any(f"service {name})" in line for name in changed)]
            self.fail(f"{what} (seed {SEED}): made again: "
                      + "\n".join(json.dumps(made[name]) for name in changed) + "\n" + "\n".join(reasons[-20:]))

    def test_what_was_made_from_a_target_is_not_made_again(self):
        generator = random.Random(SEED)
        agent = self.agent()
        for number in range(ROUNDS):
            services = self.release(generator, number)
            commit = f"c{number:02}a"
            posted = agent.post_target(self.target(services, commit, number * 2 + 1))
            self.assertEqual(posted.status, 200, posted.text)
            before = self.settle(agent, commit, services)
            renamed = f"c{number:02}b"
            posted = agent.post_target(self.target(services, renamed, number * 2 + 2))
            self.assertEqual(posted.status, 200, posted.text)
            after = self.settle(agent, renamed, services)
            self.assert_same(before, after, services, agent, f"round {number}, a new release of the same services")
            if number % 5 == 4:
                agent.kill()
                if number % 10 == 9:
                    self.engine.control("kill")
                    self.engine.control("start")
                agent.start()
                self.settle_again(agent)
                after = self.settle(agent, renamed, services)
                self.assert_same(before, after, services, agent, f"round {number}, a restart")

    def settle_again(self, agent):
        wait_until(lambda: agent.log.count("The target state is reached") > 0
                   and agent.status()["appState"] == "applied", "it has settled after the restart")
