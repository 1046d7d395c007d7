import CSystemd
import EventLoop
import Glibc
import TestSupport
import Testing

extension EventLoopTests {
  @Suite struct ProcessTests {
    @Test func aChildsOutputAndStatusAreReturned() async throws {
      LoopDriver.start()
      let outcome = try await ChildProcess.run(
        "/bin/sh", ["-c", "echo out; echo err >&2; exit 3"], timeout: .seconds(20))
      #expect(outcome.end == .exited(status: 3))
      #expect(String(decoding: outcome.output, as: UTF8.self) == "out\n")
      #expect(String(decoding: outcome.errorOutput, as: UTF8.self) == "err\n")
      #expect(!outcome.isTruncated && !outcome.hasTimedOut && !outcome.isSuccess)
    }

    @Test func outputBeyondTheLimitIsDroppedAndSaidSo() async throws {
      LoopDriver.start()
      let outcome = try await ChildProcess.run(
        "/bin/sh", ["-c", "head -c 300000 /dev/zero"], outputLimitBytes: 1000, timeout: .seconds(20))
      #expect(outcome.output.count == 1000)
      #expect(outcome.isTruncated && outcome.isSuccess)
    }

    @Test func aChildThatTakesTooLongIsKilled() async throws {
      LoopDriver.start()
      let outcome = try await ChildProcess.run("/bin/sleep", ["600"], timeout: .milliseconds(50))
      #expect(outcome.end == .signalled(SIGKILL))
      #expect(outcome.hasTimedOut)
    }

    @Test func aCancelledTaskKillsItsChild() async throws {
      LoopDriver.start()
      let task = Task { try await ChildProcess.run("/bin/sleep", ["600"], timeout: .seconds(600)) }
      try await EventLoop.shared.sleep(for: .milliseconds(50))
      task.cancel()
      #expect(try await task.value.end == .signalled(SIGKILL))
    }

    @Test func aMissingProgramIsAnError() async throws {
      LoopDriver.start()
      await #expect(throws: SystemError(code: ENOENT, call: "posix_spawn")) {
        _ = try await ChildProcess.run("/no/such/program", timeout: .seconds(1))
      }
    }

    @Test func aGrandchildThatKeepsThePipeDoesNotHoldUsUp() async throws {
      LoopDriver.start()
      let outcome = try await ChildProcess.run(
        "/bin/sh", ["-c", "sleep 5 & echo done"], timeout: .seconds(60))
      #expect(String(decoding: outcome.output, as: UTF8.self) == "done\n")
    }

    @Test func aChildGetsTheEnvironmentItIsGivenAndNoBlockedSignals() async throws {
      LoopDriver.start()
      var blocked = sigset_t()
      sigemptyset(&blocked)
      sigaddset(&blocked, SIGUSR2)
      pthread_sigmask(SIG_BLOCK, &blocked, nil)
      defer { pthread_sigmask(SIG_UNBLOCK, &blocked, nil) }
      let outcome = try await ChildProcess.run(
        "/bin/sh", ["-c", "echo $A; grep SigBlk /proc/self/status"], environment: ["A": "b"],
        timeout: .seconds(20))
      let lines = String(decoding: outcome.output, as: UTF8.self).split(separator: "\n")
      #expect(lines.first == "b")
      #expect(lines.last == "SigBlk:\t0000000000000000")
    }
  }
}
