import CSystemd
import EventLoop
import Glibc
import TestSupport
import Testing

/// Both ends of a connected pair of stream sockets, non-blocking.
private func socketPair() -> (Int32, Int32) {
  var ends: [Int32] = [-1, -1]
  socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0, &ends)
  return (ends[0], ends[1])
}

extension EventLoopTests {
  @Suite struct DescriptorTests {
    let loop = EventLoop.shared

    private func turns(_ count: Int = 3) { for _ in 0..<count { loop.turn(mayWait: false) } }

    @Test func aReadableDescriptorCallsItsHandlerInEveryTurnUntilItIsRead() throws {
      let (here, there) = socketPair()
      var calls = 0
      let watch = try loop.watch(here, .read) { readiness in
        #expect(readiness == .read)
        calls += 1
      }
      turns()
      #expect(calls == 0)
      _ = write(there, "x", 1)
      turns(3)
      #expect(calls == 3)
      watch.cancel()
      turns()
      #expect(calls == 3)
      close(here)
      close(there)
    }

    @Test func aLateEventOfAClosedDescriptorDoesNotReachTheNewOwnerOfItsNumber() throws {
      // Both are ready in the same turn; the first handler closes the second and reuses its number.
      let (first, firstPeer) = socketPair()
      let (second, secondPeer) = socketPair()
      var oldCalls = 0
      var newCalls = 0
      var watches: [EventLoop.Watch] = []
      let replace: (Int32) -> Void = { victim in
        guard watches.count == 2 else { return }
        watches[victim == second ? 1 : 0].cancel()
        close(victim)
        let (fresh, _) = socketPair()
        #expect(fresh == victim)
        if let watch = try? self.loop.watch(fresh, .read, handler: { _ in newCalls += 1 }) {
          watches.append(watch)
        }
      }
      watches.append(
        try loop.watch(first, .read) { _ in
          oldCalls += 1; replace(second)
        })
      watches.append(
        try loop.watch(second, .read) { _ in
          oldCalls += 1; replace(first)
        })
      _ = write(firstPeer, "x", 1)
      _ = write(secondPeer, "x", 1)
      loop.turn(mayWait: false)
      #expect(oldCalls == 1)
      #expect(newCalls == 0)
      for watch in watches { watch.cancel() }
      for descriptor in [first, second, firstPeer, secondPeer] { close(descriptor) }
    }

    @Test func anInterestThatIsSetAndDroppedWithinATurnIsNeverSeen() throws {
      let (here, there) = socketPair()
      var writable = 0
      let watch = try loop.watch(here, .read) { if $0.contains(.write) { writable += 1 } }
      watch.interest = [.read, .write]
      watch.interest = .read
      turns()
      #expect(writable == 0)
      watch.interest = [.read, .write]
      turns(2)
      #expect(writable == 2)
      watch.cancel()
      close(here)
      close(there)
    }

    @Test func withoutInterestAHangUpDoesNotSpinTheLoop() throws {
      let (here, there) = socketPair()
      var calls = 0
      let watch = try loop.watch(here, .read) { _ in calls += 1 }
      watch.interest = []
      turns(1)
      close(there)
      turns(5)
      #expect(calls == 0)
      watch.interest = .read
      turns(2)
      #expect(calls > 0)
      watch.cancel()
      close(here)
    }

    @Test func aHangUpMakesAReaderReady() throws {
      let (here, there) = socketPair()
      var seen: EventLoop.Readiness = []
      let watch = try loop.watch(here, .read) { seen.formUnion($0) }
      close(there)
      turns()
      #expect(seen.isSuperset(of: [.read, .hangUp]))
      watch.cancel()
      close(here)
    }

    @Test func aRegularFileIsRefusedWithTheKernelsReason() throws {
      let file = open("/etc/hostname", O_RDONLY)
      defer { close(file) }
      #expect(throws: SystemError(code: EPERM, call: "epoll_ctl")) {
        _ = try loop.watch(file, .read) { _ in }
      }
    }

    @Test func theLoopsOwnDescriptorIsPollable() throws {
      let (here, there) = socketPair()
      let watch = try loop.watch(here, .read) { _ in
        var byte = 0; _ = read(here, &byte, 1)
      }
      turns()
      var request = pollfd(fd: loop.descriptor, events: Int16(POLLIN), revents: 0)
      #expect(poll(&request, 1, 0) == 0)
      _ = write(there, "x", 1)
      #expect(poll(&request, 1, 0) == 1)
      turns()
      watch.cancel()
      close(here)
      close(there)
    }

    @Test func beforeSleepHooksRunOnceATurnUntilCancelled() {
      var runs = 0
      let hook = loop.beforeSleep { runs += 1 }
      turns(2)
      hook.cancel()
      turns(2)
      #expect(runs == 2)
    }
  }
}
