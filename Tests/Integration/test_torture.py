"""Random walks of targets on the real engine, with agents killed, the engine restarted, users' locks coming and
going, containers and images taken away, apps and services restarted by the API, updates that may be taken back.
Every walk ends at its last target.

TORTURE_WALKS sets the number of walks, TORTURE_SEED the first one's seed; a walk is repeated by its seed.
"""

import collections
import http.client
import os
import random
import signal
import threading
import time

from harness import COMMAND, IMAGE, OTHER_IMAGE, ROOT, DeviceTest, required, run, wait_until

WALKS = int(os.environ.get("TORTURE_WALKS", "3"))
SEED = int(os.environ.get("TORTURE_SEED", "1"))
APPS = (11, 12)
SERVICES = ("a", "b", "c", "d")
STRATEGIES = (None, "download-then-kill", "kill-then-download", "delete-then-download", "hand-over")
LOCK_NAMES = ("updates.lock", "resin-updates.lock")
AGENT_UID = 65534
CONVERGENCE_SECONDS = 150


class Walk:
    def __init__(self, test, seed):
        self.test = test
        self.engine = test.engine
        self.chance = random.Random(seed)
        self.agent = test.agent()
        self.number = 0
        self.target = {}
        self.marked = set()
        # By path of the lock: app and the containers that it protects.
        self.locks = {}
        self.is_forced = False
        self.events = collections.Counter()
        self.asking = []

    # Targets

    def service(self, app_id, name, others, networks):
        chance = self.chance
        labels = {}
        strategy = chance.choice(STRATEGIES)
        if strategy:
            labels["io.balena.update.strategy"] = strategy
            labels["io.balena.update.handover-timeout"] = str(chance.randint(100, 1500))
        kind = chance.choices(("daemon", "done", "crash", "stopped"), (80, 8, 5, 7))[0]
        service = {
            "serviceName": name, "imageId": app_id * 10 + SERVICES.index(name), "labels": labels,
            "image": chance.choice((IMAGE, OTHER_IMAGE, self.test.pulled)),
            "environment": {"ROUND": str(chance.randint(0, 2)), "KIND": kind},
            "command": {"done": ["true"], "crash": ["false"]}.get(kind, COMMAND),
            "restart": {"done": "no"}.get(kind, "always"), "running": kind != "stopped",
            "depends_on": [other for other in others if chance.random() < 0.25],
        }
        # An update that fails is taken back, and the walk would rightly not end at its target.
        if kind == "daemon" and chance.random() < 0.2:
            labels["io.balena.update.rollback"] = "true"
        if kind == "daemon" and chance.random() < 0.3:
            service["healthcheck"] = {"test": ["CMD", "true"], "interval": "300ms", "retries": 1000}
        if chance.random() < 0.5:
            service["volumes"] = ["store:/store"]
        wanted = [network for network in networks if chance.random() < 0.6]
        if wanted:
            service["networks"] = wanted
        return service

    def app(self, app_id):
        names = [name for name in SERVICES if self.chance.random() < 0.7]
        networks = {name: {"labels": {"version": str(self.chance.randint(0, 1))}}
                    for name in ("front", "back") if self.chance.random() < 0.5}
        services = []
        for name in names:
            done = [service["serviceName"] for service in services]
            services.append(self.service(app_id, name, done, sorted(networks)))
        release = self.chance.randint(1, 4)
        return {
            # Container names have no app in them: the ids must not be those of the other app.
            "name": f"app{app_id}", "commit": f"commit{release}", "releaseId": app_id * 10 + release,
            "services": {str(index): service for index, service in enumerate(services, 1)},
            "volumes": {"store": {}}, "networks": networks,
        }

    def next_target(self):
        self.target = {str(app_id): self.app(app_id) for app_id in APPS if self.chance.random() < 0.85}
        # It rules until the next target, also over locks that come meanwhile.
        force = self.is_forced = self.chance.random() < 0.15
        if force:
            # From now on these locks may go at any time.
            self.locks = {path: (app_id, set()) for path, (app_id, _) in self.locks.items()}
        answer = self.agent.post_target(self.target, force=force)
        self.test.assertEqual(answer.status, 200, answer.text)

    # Chaos

    def disturb(self, is_last):
        event = self.chance.choices(
            (self.nothing, self.kill_agent, self.restart_engine, self.lock, self.unlock, self.remove_container,
             self.remove_image, self.restart_app, self.restart_service), (8, 6, 1, 6, 4, 2, 1, 1, 2))[0]
        # An update whose new container ends in its trial is taken back, rightly, and no other target follows.
        if is_last and event in (self.restart_engine, self.remove_container):
            event = self.nothing
        self.events[event.__name__] += 1
        event()

    def nothing(self):
        pass

    def kill_agent(self):
        self.agent.kill()
        time.sleep(self.chance.choice((0, 0, 0.3)))
        self.agent.start()

    def restart_engine(self):
        # Containers stop with the engine: no lock can hold that up. An engine that ends while it makes or removes a
        # network may not start with its own database any more (Docker Engine 20.10): it is let finish those, also
        # one that a killed agent has asked for.
        wait_until(lambda: not self.networks_under_way(), "no network is made or removed")
        process = self.agent.process
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.5)
            self.engine.control("restart")
        finally:
            process.send_signal(signal.SIGCONT)
        self.locks = {path: (app_id, set()) for path, (app_id, _) in self.locks.items()}

    def networks_under_way(self):
        try:
            explanation = self.agent.get("/v2/explain").json
        except (OSError, http.client.HTTPException):
            return True
        steps = [step for app in [explanation["device"], *explanation["apps"]] for step in app["steps"]]
        return any("Network" in step["step"] for step in steps)

    def running(self, app_id):
        return [row for row in self.engine.containers(f"io.balena.app-id={app_id}") if row["State"] == "running"]

    def lock(self):
        app_id = self.chance.choice(APPS)
        rows = self.running(app_id)
        if not rows:
            return
        name = self.chance.choice(sorted(row["Labels"]["io.balena.service-name"] for row in rows))
        directory = self.agent.path(f"host/tmp/balena-supervisor/services/{app_id}/{name}")
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, self.chance.choice(LOCK_NAMES))
        if any(os.path.lexists(os.path.join(directory, other)) for other in LOCK_NAMES):
            return
        try:
            kind = self.chance.choice(("file", "directory", "link"))
            if kind == "file":
                os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o644))
            elif kind == "directory":
                os.mkdir(path)
            else:
                os.symlink("/nowhere", path)
        except FileExistsError:
            return
        # The agent takes `updates.lock` first: whoever has the other name alone may come too late.
        if self.is_forced or self.has_agent_lock(app_id):
            return self.locks.update({path: (app_id, set())})
        protected = {row["Id"] for row in self.running(app_id) if self.is_daemon(row)}
        self.locks[path] = (app_id, protected)

    def is_daemon(self, row):
        inspected = self.engine.request("GET", f"/containers/{row['Id']}/json")
        return inspected.status == 200 and "KIND=daemon" in inspected.json["Config"]["Env"]

    def has_agent_lock(self, app_id):
        return bool(self.lock_files(app_id, lambda status: status.st_uid == AGENT_UID))

    def lock_files(self, app_id, condition=lambda _: True):
        base = self.agent.path(f"host/tmp/balena-supervisor/services/{app_id}")
        found = []
        for directory, _, _ in os.walk(base):
            for name in LOCK_NAMES:
                path = os.path.join(directory, name)
                try:
                    if condition(os.lstat(path)):
                        found.append(path)
                except FileNotFoundError:
                    pass
        return found

    def unlock(self):
        for path, (app_id, protected) in self.locks.items():
            if os.path.lexists(path):
                running = {row["Id"] for row in self.running(app_id)}
                self.test.assertLessEqual(protected, running, f"{path} did not protect the app")
            try:
                os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
            except FileNotFoundError:
                pass
        self.locks = {}

    def remove_container(self):
        rows = self.engine.containers()
        if rows:
            victim = self.chance.choice(sorted(row["Id"] for row in rows))
            for _, protected in self.locks.values():
                protected.discard(victim)
            self.engine.remove(victim)

    def remove_image(self):
        self.engine.request("DELETE", f"/images/{self.test.pulled}")

    def restart_app(self):
        self.ask(f"/v2/applications/{self.chance.choice(APPS)}/restart")

    def restart_service(self):
        self.ask(f"/v2/applications/{self.chance.choice(APPS)}/restart-service",
                 {"serviceName": self.chance.choice(SERVICES)})

    def ask(self, path, body=None):
        """An action whose answer nobody waits for; it may be refused, or die with the agent."""
        def post():
            try:
                self.agent.request("POST", path, body or {})
            except (OSError, http.client.HTTPException):
                pass

        asking = threading.Thread(target=post)
        asking.start()
        self.asking.append(asking)

    # Checks

    def check_running(self):
        """Outside a hand-over no service runs twice."""
        rows = [row for row in self.engine.containers() if row["State"] == "running"]
        counts = collections.Counter(
            (row["Labels"]["io.balena.app-id"], row["Labels"]["io.balena.service-name"])
            for row in rows if not row["Names"][0].startswith("/old_"))
        self.test.assertLessEqual(max(counts.values(), default=0), 1, counts)

    def mark_volumes(self):
        for app_id in APPS:
            path = f"{self.engine.directory}/data/volumes/{app_id}_store/_data"
            if os.path.isdir(path) and app_id not in self.marked:
                open(f"{path}/mark", "w", encoding="utf-8").close()
                self.marked.add(app_id)

    def difference(self):
        """What is not as the target says; None when all is."""
        try:
            state = self.agent.status()["appState"]
        except (OSError, http.client.HTTPException):
            return "the agent does not answer"
        rows = collections.defaultdict(list)
        for row in self.engine.containers():
            rows[row["Labels"]["io.balena.app-id"], row["Labels"]["io.balena.service-name"]].append(row)
        networks = {network["Name"] for network in self.engine.get("/networks")}
        for app_id, app in self.target.items():
            for service in app["services"].values():
                found = rows.pop((app_id, service["serviceName"]), [])
                if len(found) != 1:
                    return f"{len(found)} containers of {service['serviceName']} of app {app_id}"
                problem = self.container_problem(found[0], app, service)
                if problem:
                    return f"{service['serviceName']} of app {app_id}: {problem}"
            missing = {f"{app_id}_{name}" for name in ("default", *app["networks"])} - networks
            if missing:
                return f"missing networks {missing}"
        if rows:
            return f"containers that nobody wants: {sorted(rows)}"
        locks = [path for app_id in APPS for path in self.lock_files(app_id)]
        if locks:
            return f"locks are left: {locks}"
        return None if state == "applied" else f"the agent says {state}"

    def container_problem(self, row, app, service):
        inspected = self.engine.request("GET", f"/containers/{row['Id']}/json")
        if inspected.status != 200:
            return "gone"
        container = inspected.json
        wanted = service["environment"]
        if any(f"{name}={value}" not in container["Config"]["Env"] for name, value in wanted.items()):
            return "another environment"
        if container["Image"] != self.engine.get(f"/images/{service['image']}/json").get("Id", container["Image"]):
            return "another image"
        if not container["Name"].endswith(f"_{app['releaseId']}_{app['commit']}"):
            return f"named {container['Name']}"
        status = container["State"]["Status"]
        expected = {"daemon": ("running",), "stopped": ("created", "exited"), "done": ("exited", "running"),
                    "crash": ("restarting", "running", "exited")}
        return None if status in expected[wanted["KIND"]] else f"is {status}"

    # The walk

    def go(self, steps):
        for step in range(1, steps + 1):
            self.next_target()
            for _ in range(self.chance.randint(1, 5)):
                time.sleep(self.chance.choice((0, 0.05, 0.2, 0.6, 1.2)))
                self.disturb(is_last=step == steps)
                self.check_running()
                self.mark_volumes()
        self.unlock()
        if self.agent.process.poll() is not None:
            self.agent.start()
        for asking in self.asking:
            asking.join()
        last = [None]

        def arrived():
            last[0] = self.difference()
            return last[0] is None

        try:
            wait_until(arrived, "the last target", seconds=CONVERGENCE_SECONDS)
        except AssertionError:
            self.test.fail(f"not at its target after {CONVERGENCE_SECONDS} s: {last[0]} ({dict(self.events)})")
        for app_id in self.marked:
            path = f"{self.engine.directory}/data/volumes/{app_id}_store/_data/mark"
            self.test.assertTrue(os.path.exists(path), f"the volume of app {app_id} lost its content")


class Torture(DeviceTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        port = required("SUPERVISOR_TEST_REGISTRY").rpartition(":")[2]
        cls.pulled = run(
            [f"{ROOT}/scripts/registry", "push", port, cls.engine.address, IMAGE, "tests/torture:1"]).strip()


def add_walk(seed):
    def test(self):
        Walk(self, seed).go(random.Random(seed).randint(3, 6))

    test.__doc__ = None
    setattr(Torture, f"test_walk_{seed}_ends_at_its_last_target", test)


for number in range(WALKS):
    add_walk(SEED + number)
