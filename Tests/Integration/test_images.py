"""Images: from registries that demand something, that fail, and that were deleted."""

import os
import subprocess

from harness import app, service, wait_until
from images import KEY, NAMES, USER, ImageTest
from stand_ins import Accounts, Proxy, Registry, TokenServer


class Access(ImageTest):
    def test_a_registry_that_demands_a_password_gets_the_name_and_the_key_of_the_device(self):
        accounts = Accounts(self.directory)
        accounts.put(USER, KEY)
        registry = self.stand_in(Registry(self.directory, accounts.authentication))
        agent = self.device()
        self.post(agent, app(service("one", image=f"{registry.address}/images/a:1")))
        self.wait_for_services(agent, "one")
        self.assertNotIn(KEY, agent.log)

    def test_a_password_that_is_refused_costs_one_image_and_says_so_until_it_is_accepted(self):
        accounts = Accounts(self.directory)
        registry = self.stand_in(Registry(self.directory, accounts.authentication))
        agent = self.device()
        name = f"{registry.address}/images/a:1"
        self.post(agent, app(service("one", image=name)) | app(service("two"), app_id=2))
        self.wait_for_line(agent, f"Failed to download image '{name}'", "the registry refuses access")
        self.wait_for_container("two", app_id=2)
        self.assertEqual(agent.status()["appState"], "applying")
        accounts.put(USER, KEY)
        self.wait_for_container("one")

    def test_a_registry_that_demands_a_token_is_pulled_from(self):
        tokens = self.stand_in(TokenServer(self.directory, USER, KEY))
        registry = self.stand_in(Registry(self.directory, tokens.authentication))
        agent = self.device()
        self.post(agent, app(service("one", image=f"{registry.address}/images/a:1")))
        self.wait_for_services(agent, "one")
        scopes = [scope for request in tokens.asked("/token") for scope in request.query.get("scope", [])]
        self.assertIn("repository:images/a:pull", scopes)

    def test_a_token_that_is_refused_is_said_and_asked_for_again(self):
        tokens = self.stand_in(TokenServer(self.directory, USER, KEY))
        tokens.is_refusing = True
        registry = self.stand_in(Registry(self.directory, tokens.authentication))
        agent = self.device()
        self.post(agent, app(service("one", image=f"{registry.address}/images/a:1")))
        self.wait_for_line(agent, "Failed to download image", "the registry refuses access")
        tokens.is_refusing = False
        self.wait_for_services(agent, "one")


class Pulls(ImageTest):
    def setUp(self):
        super().setUp()
        self.proxy = self.stand_in(Proxy(self.shared))

    def named(self, image):
        return f"{self.proxy.address}/images/{image}:1"

    def pulls(self, agent, image):
        """How often the agent has begun to pull the image."""
        return agent.log.count(f"Downloading image '{self.named(image)}'")

    def test_three_images_are_pulled_at_a_time_and_the_others_after_them(self):
        self.proxy.held.update(NAMES)
        agent = self.agent()
        target = app(*(service(name, image=self.named(name), number=number) for number, name in enumerate(NAMES, 1)))
        agent.post_target(target)
        wait_until(lambda: len(self.proxy.pulled()) == 3, "three pulls have begun")
        # One more round of the planner, which has every reason to begin another.
        agent.post_target(target | app(service("other"), app_id=2))
        self.wait_for_container("other", app_id=2)
        first = self.proxy.pulled()
        self.assertEqual((len(first), agent.log.count("Downloading image")), (3, 3))
        one = sorted(first)[0]
        self.proxy.held.discard(one)
        wait_until(lambda: len(self.proxy.pulled()) == 4, "the fourth pull follows the first one's end")
        wait_until(lambda: self.engine.has_image(self.named(one)), "the first pull's image is there")
        self.assertEqual(agent.log.count("Downloading image"), 4)
        self.proxy.held.clear()
        self.wait_for_container(NAMES[-1])
        wait_until(lambda: len(self.engine.service_containers(1)) == 5, "all services run")

    def test_an_image_that_fails_waits_alone_with_its_reason_and_the_time_of_the_next_try(self):
        self.proxy.refused["a"] = 404
        agent = self.agent()
        agent.post_target(
            app(service("one", image=self.named("a"))) | app(service("two", image=self.named("b")), app_id=2))
        self.wait_for_container("two", app_id=2)

        def waiting():
            found = [row for row in self.waits(agent) if row.get("retryAt") and row.get("reason")]
            return found and found[0]

        wait = wait_until(waiting, "the wait is explained")
        self.assertEqual((wait["image"], wait["service"]), (self.named("a"), "one"))
        self.assertIn("the registry does not have the image", wait["reason"])
        wait_until(lambda: self.pulls(agent, "a") >= 3, "it is tried again")
        # Every failed try is said, with the reason.
        lines = self.wait_for_line(agent, f"Failed to download image '{self.named('a')}'")
        self.assertGreaterEqual(len(lines), 2)
        self.assertTrue(all("the registry does not have the image" in line for line in lines), lines)
        del self.proxy.refused["a"]
        self.wait_for_container("one")
        self.assertEqual(self.waits(agent), [])

    def test_a_layer_that_arrives_damaged_is_not_used_and_fetched_again(self):
        self.proxy.spoiled.add("a")
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        self.wait_for_line(agent, "Failed to download image", "damaged or incomplete")
        self.assertIsNone(self.image_id(self.named("a")))
        self.proxy.spoiled.clear()
        self.wait_for_services(agent, "one")

    def test_a_layer_that_is_cut_short_is_not_used_and_fetched_again(self):
        self.proxy.cut.add("a")
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        self.wait_for_line(agent, "Failed to download image", self.named("a"), "damaged or incomplete")
        self.assertIsNone(self.image_id(self.named("a")))
        self.assertEqual(agent.status()["appState"], "applying")
        self.proxy.cut.clear()
        self.wait_for_services(agent, "one")

    def test_an_engine_whose_disk_is_full_costs_one_image_until_there_is_room(self):
        # A layer that no other image has. What the engine downloads comes here first; the layer is larger.
        self.push("large")
        place = f"{self.engine.directory}/data/tmp"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
        mounted = [place]
        self.addCleanup(lambda: [subprocess.run(["umount", "-l", path], check=True) for path in mounted])
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("large"))) | app(service("two"), app_id=2))
        self.wait_for_line(agent, f"Failed to download image '{self.named('large')}'", "no space is left for it")
        self.wait_for_container("two", app_id=2)
        wait = wait_until(
            lambda: [row for row in self.waits(agent) if row.get("retryAt")], "the wait is explained")[0]
        self.assertIn("no space is left for it", wait["reason"])
        subprocess.run(["umount", "-l", mounted.pop()], check=True)
        self.wait_for_container("one")

    def test_a_registry_that_is_down_is_tried_until_it_is_up(self):
        port = self.proxy.port
        self.proxy.stop()
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        self.wait_for_line(agent, "Failed to download image", "the registry cannot be reached")
        self.stand_in(Proxy(self.shared, port=port))
        self.wait_for_services(agent, "one")
        # The first one is stopped twice otherwise.
        self.proxy.stop = lambda: None

    def test_a_pull_that_a_newer_target_does_not_want_is_given_up(self):
        self.proxy.held.add("a")
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        wait_until(lambda: "a" in self.proxy.pulled(), "the pull has begun")
        agent.post_target(app(service("one", image=self.named("b"), number=2), commit="bbbb", release_id=2))
        self.wait_for_services(agent, "one")
        self.wait_for_line(agent, self.named("a"), "was given up for a newer target")
        # What still arrives of it makes no image.
        self.proxy.held.clear()
        agent.post_target(app(service("one", image=self.named("c"), number=3), commit="cccc", release_id=3))
        wait_until(lambda: self.engine.has_image(self.named("c")), "the next image is there")
        self.assertNotIn("Failed to download image", agent.log)
        self.assertIsNone(self.image_id(self.named("a")))

    def test_a_pull_that_a_newer_target_still_wants_goes_on(self):
        self.proxy.held.add("a")
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        wait_until(lambda: "a" in self.proxy.pulled(), "the pull has begun")
        agent.post_target(app(service("one", image=self.named("a"), environment={"NEW": "1"})))
        self.proxy.held.clear()
        one = self.wait_for_services(agent, "one")["one"]
        self.assertIn("NEW=1", one["Config"]["Env"])
        self.assertEqual(self.pulls(agent, "a"), 1)

    def test_nothing_is_pulled_while_too_little_space_is_free(self):
        agent = self.agent()
        root = agent.path("host") + self.engine.get("/info")["DockerRootDir"]
        os.makedirs(root)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", root], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", root], check=True)
        agent.post_target(app(service("one", image=self.named("a"))) | app(service("two"), app_id=2))
        line = self.wait_for_line(agent, "Failed to download image", "no space is left for it")[0]
        self.assertIn("MiB are free", line)
        self.wait_for_container("two", app_id=2)
        self.assertEqual(self.proxy.pulled(), set())
        subprocess.run(["mount", "-o", "remount,size=64m", root], check=True)
        self.wait_for_container("one")

    def test_an_image_that_was_deleted_comes_back_with_its_container(self):
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        before = self.wait_for_services(agent, "one")["one"]

        def taken_away():
            # The agent may be quicker in bringing the container back than the image is deleted.
            for container in self.engine.containers():
                self.engine.remove(container["Id"])
            self.engine.request("DELETE", f"/images/{self.named('a')}?force=1")
            return self.pulls(agent, "a") > 1

        wait_until(taken_away, "the image is pulled again")
        after = self.wait_for_container("one", other_than=before["Id"])
        self.assertEqual(after["Image"], before["Image"])

    def test_an_image_that_was_deleted_below_a_stopped_service_comes_back(self):
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"), command=["true"], restart="no")))
        wait_until(
            lambda: [c["State"]["Status"] for c in self.engine.service_containers(1).values()] == ["exited"],
            "the service has run to its end")
        wait_until(lambda: agent.status()["appState"] == "applied", "the target is reached")
        self.engine.request("DELETE", f"/images/{self.named('a')}?force=1")
        wait_until(lambda: self.image_id(self.named("a")), "the image is back")
        self.assertEqual(self.pulls(agent, "a"), 2)

    def test_a_tag_that_was_deleted_costs_no_download(self):
        agent = self.agent()
        agent.post_target(app(service("one", image=self.named("a"))))
        before = self.wait_for_services(agent, "one")["one"]
        self.engine.request("DELETE", f"/images/{self.named('a')}?force=1")
        agent.post_target(app(service("one", image=self.named("a"), environment={"NEW": "1"})))
        after = self.wait_for_container("one", other_than=before["Id"])
        self.assertEqual(after["Image"], before["Image"])
        self.assertEqual(self.pulls(agent, "a"), 1)
