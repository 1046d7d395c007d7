"""Update locks: those of users hold an update up, those of the agent are recognised and let go."""

import os
import stat

from harness import IMAGE, OTHER_IMAGE, DeviceTest, app, required, service, wait_until

NAMES = ("updates.lock", "resin-updates.lock")
AGENT_UID = 65534


def make_file(path):
    with open(path, "w", encoding="utf-8"):
        pass
    os.chown(path, 1234, 1234)


class Locks(DeviceTest):
    def directory(self, agent, name, app_id=1):
        path = agent.path(f"host/tmp/balena-supervisor/services/{app_id}/{name}")
        os.makedirs(path, exist_ok=True)
        return path

    def locks(self, agent, app_id=1):
        """Lock files of an app, with their owners."""
        found = {}
        base = agent.path(f"host/tmp/balena-supervisor/services/{app_id}")
        for directory, _, files in os.walk(base):
            for name in files:
                path = os.path.join(directory, name)
                found[os.path.relpath(path, base)] = os.lstat(path).st_uid
        return found

    def target(self, number, image=IMAGE, **more):
        return app(service("one", image=image), service("two", number=2), commit=f"c0ffee0{number}",
                   release_id=number, **more)

    def running(self):
        return {name: row["Id"] for name, row in self.engine.service_containers(1).items()
                if row["State"]["Running"]}

    def begin(self, **options):
        agent = self.agent(**options)
        agent.post_target(self.target(1))
        self.before = {name: row["Id"] for name, row in self.wait_for_services(agent, "one", "two").items()}
        return agent

    def updated(self, agent):
        after = self.wait_for_services(agent, "one", "two")
        self.assertTrue(all(row["Name"].endswith("_2_c0ffee02") for row in after.values()))
        wait_until(lambda: self.locks(agent) == {}, "the agent lets its locks go")
        return after

    def lock_told(self, agent):
        return agent.get("/v2/explain").json["apps"][0].get("lock")

    def held_up_by(self, name, kind, make):
        agent = self.begin()
        path = os.path.join(self.directory(agent, "two"), name)
        make(path)
        agent.post_target(self.target(2, OTHER_IMAGE))
        lock = wait_until(lambda: self.lock_told(agent), "the lock is told of")
        self.assertEqual((lock["path"], lock["kind"], lock["service"], lock["appId"]), (path, kind, "two", 1))
        self.assertEqual(lock["ownerUid"], os.lstat(path).st_uid)
        wait_until(lambda: "Updates are locked, retrying in" in agent.log, "the log says so")
        self.assertIn("Reason: Lockfile exists for { appId: 1, service: two }", agent.log)
        self.assertIn(path, agent.log)
        # The lock of one service protects the whole app, and the agent keeps no part of the locks.
        self.assertEqual(self.running(), self.before)
        wait_until(lambda: AGENT_UID not in self.locks(agent).values(), "the agent keeps no lock")
        os.rmdir(path) if kind == "directory" else os.unlink(path)
        self.updated(agent)
        self.assertIsNone(self.lock_told(agent))

    def test_a_file_holds_an_update_up(self):
        self.held_up_by("updates.lock", "file", make_file)

    def test_a_file_of_the_old_name_does(self):
        self.held_up_by("resin-updates.lock", "file", make_file)

    def test_a_directory_does(self):
        self.held_up_by("updates.lock", "directory", os.mkdir)

    def test_a_link_to_nowhere_does(self):
        self.held_up_by("resin-updates.lock", "symlink", lambda path: os.symlink("/nowhere", path))

    def test_an_update_goes_on_when_the_lock_goes_and_not_when_its_delay_is_over(self):
        agent = self.begin()
        path = os.path.join(self.directory(agent, "two"), NAMES[1])
        make_file(path)
        agent.post_target(self.target(2))
        # The delays double.
        said = "Updates are locked, retrying in 32"
        wait_until(lambda: said in agent.log, "the delay has grown", seconds=90)
        os.unlink(path)
        wait_until(lambda: self.lock_told(agent) is None and agent.status()["appState"] == "applied", "the update",
                   seconds=28)
        self.updated(agent)

    def test_another_app_is_updated_all_the_same(self):
        agent = self.begin()
        make_file(os.path.join(self.directory(agent, "one"), "updates.lock"))
        agent.post_target(self.target(2, OTHER_IMAGE) | app(service("other"), app_id=2))
        wait_until(lambda: self.lock_told(agent), "the lock is told of")
        wait_until(lambda: "other" in self.engine.service_containers(2), "the other app is installed")
        agent.post_target(
            self.target(2, OTHER_IMAGE) | app(service("other", image=OTHER_IMAGE), app_id=2, commit="b2", release_id=2))
        wait_until(lambda: [row["Name"].endswith("_2_b2") for row in self.engine.service_containers(2).values()]
                   == [True], "the other app is updated")
        self.assertEqual(self.running(), self.before)

    def test_force_takes_the_users_lock_away(self):
        agent = self.begin()
        make_file(os.path.join(self.directory(agent, "one"), "updates.lock"))
        os.mkdir(os.path.join(self.directory(agent, "two"), "resin-updates.lock"))
        agent.post_target(self.target(2, OTHER_IMAGE))
        wait_until(lambda: self.lock_told(agent), "the lock is told of")
        agent.post_target(self.target(2, OTHER_IMAGE), force=True)
        self.updated(agent)

    def test_the_next_target_is_not_forced_because_the_one_before_was(self):
        agent = self.begin()
        agent.post_target(self.target(2, "127.0.0.1:9/nobody/there:1"), force=True)
        wait_until(lambda: "Failed to download image '127.0.0.1:9/nobody/there:1'" in agent.log, "the image is not there")
        path = os.path.join(self.directory(agent, "one"), "updates.lock")
        make_file(path)
        agent.post_target(self.target(3, OTHER_IMAGE))
        self.assertEqual(wait_until(lambda: self.lock_told(agent), "the lock is told of")["path"], path)
        self.assertTrue(os.path.exists(path))
        self.assertEqual(self.running(), self.before)

    def test_the_override_of_the_configuration_does(self):
        agent = self.begin()
        make_file(os.path.join(self.directory(agent, "one"), "updates.lock"))
        agent.post_target(self.target(2, OTHER_IMAGE))
        wait_until(lambda: self.lock_told(agent), "the lock is told of")
        agent.request("POST", "/v2/local/target-state", {"local": {
            "apps": self.target(2, OTHER_IMAGE), "config": {"SUPERVISOR_OVERRIDE_LOCK": "true"}}})
        self.updated(agent)

    def test_a_lock_that_holds_up_a_restart_through_the_api_is_named_in_the_answer(self):
        agent = self.begin()
        path = os.path.join(self.directory(agent, "one"), "updates.lock")
        make_file(path)
        call = "/v2/applications/1/restart-service"
        answer = agent.request("POST", call, {"serviceName": "two"})
        self.assertEqual(answer.status, 423)
        self.assertIn("Lockfile exists for { appId: 1, service: one }", answer.text)
        self.assertIn(path, agent.log)
        self.assertEqual(self.running(), self.before)
        answer = agent.request("POST", call, {"serviceName": "two", "force": True})
        self.assertEqual(answer.status, 200, answer.text)
        after = self.wait_for_services(agent, "one", "two")
        self.assertEqual(after["one"]["Id"], self.before["one"])
        self.assertNotEqual(after["two"]["Id"], self.before["two"])

    def held(self, agent):
        """Brings the agent to where it holds the locks and waits for an image that there is not."""
        missing = f"{required('SUPERVISOR_TEST_REGISTRY')}/tests/no-such-image:1"
        target = self.target(2)
        target["1"]["services"]["1"] |= {
            "image": missing, "labels": {"io.balena.update.strategy": "kill-then-download"}}
        agent.post_target(target)
        wait_until(lambda: self.running() == {"two": self.before["two"]}, "the service is killed")
        return {f"{service}/{name}": AGENT_UID for service in ("one", "two") for name in NAMES}

    def test_a_call_of_the_api_takes_the_locks_that_a_stalled_update_holds(self):
        agent = self.begin()
        nobody = "127.0.0.1:9/nobody/there:1"
        agent.post_target(app(
            service("one", image=nobody, labels={"io.balena.update.strategy": "kill-then-download"}),
            service("two", number=2), commit="c0ffee02", release_id=2))
        wait_until(lambda: f"Failed to download image '{nobody}'" in agent.log, "the new image does not come")
        # A service that is down keeps its app's locks.
        self.assertEqual(list(self.running()), ["two"])
        self.assertIn(AGENT_UID, self.locks(agent).values())
        reply = agent.request("POST", "/v2/applications/1/restart-service", {"serviceName": "two"})
        self.assertEqual((reply.status, reply.text), (200, "OK"))
        self.assertNotEqual(self.running()["two"], self.before["two"])
        # Other names for what is on the device: the update goes on.
        agent.post_target(self.target(2, OTHER_IMAGE))
        self.updated(agent)

    def test_the_agents_own_locks_keep_users_from_theirs(self):
        agent = self.begin()
        expected = self.held(agent)
        self.assertEqual(self.locks(agent), expected)
        directory = self.directory(agent, "two")
        self.assertEqual(stat.S_IMODE(os.stat(directory).st_mode), 0o1777)
        for name in NAMES:
            with self.assertRaises(FileExistsError):
                os.close(os.open(os.path.join(directory, name), os.O_CREAT | os.O_EXCL))
        agent.post_target(self.target(2, OTHER_IMAGE))
        self.updated(agent)

    def test_locks_of_a_killed_agent_are_taken_over(self):
        agent = self.begin()
        expected = self.held(agent)
        agent.kill()
        self.assertEqual(self.locks(agent), expected)
        # One that a user took away in between is made again.
        os.unlink(os.path.join(self.directory(agent, "two"), "updates.lock"))
        agent.start()
        agent.post_target(self.target(2, OTHER_IMAGE))
        self.updated(agent)

    def test_locks_that_a_killed_agent_left_are_let_go_when_nothing_is_to_be_done(self):
        agent = self.begin()
        self.held(agent)
        # One that is only stopped would count as stopped by its user.
        wait_until(lambda: "one" not in self.engine.service_containers(1), "the container is gone")
        agent.kill()
        agent.start()
        agent.post_target(self.target(1))
        self.wait_for_services(agent, "one", "two")
        wait_until(lambda: self.locks(agent) == {}, "the agent lets its locks go")
        agent.kill()
        path = os.path.join(self.directory(agent, "one"), "updates.lock")
        make_file(path)
        os.chown(path, AGENT_UID, AGENT_UID)
        agent.start()
        wait_until(lambda: self.locks(agent) == {}, "a left lock is let go")
