import CSystemd
import EventLoop
import Glibc

// Runs under the real executor and prints what it saw; EventLoopTests reads it.

/// The line of /proc/self/status that counts the threads.
func threads() -> String {
  let file = open("/proc/self/status", O_RDONLY)
  defer { close(file) }
  var bytes = [UInt8](repeating: 0, count: 8192)
  let count = read(file, &bytes, bytes.count)
  let lines = String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self).split(separator: "\n")
  return lines.first { $0.hasPrefix("Threads") }.map(String.init) ?? "?"
}

/// Hands a job to the loop from a thread that is not its own.
nonisolated func foreignThread(_: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  usleep(5000)
  Task { @MainActor in print("from a foreign thread") }
  return nil
}

EventLoop.main {
  let loop = EventLoop.shared
  do {
    let started = MonotonicTime.read()
    try await Task.sleep(for: .milliseconds(20))
    print("slept", MonotonicTime.read() - started >= .milliseconds(20))
    try await Task.sleep(until: .now - .seconds(1), clock: .continuous)
    try await Task.sleep(for: .milliseconds(1), clock: .suspending)
    print("clocks")

    async let first = {
      try? await Task.sleep(for: .milliseconds(5)); return 1
    }()
    async let second = Task.detached {
      await Task.yield(); return 2
    }.value
    print("async let", await first + second)

    let sum = await withTaskGroup(of: Int.self) { group in
      for number in 0..<100 {
        group.addTask {
          await Task.yield(); return number
        }
      }
      var sum = 0
      for await number in group { sum += number }
      return sum
    }
    print("group", sum)

    let sleeper = Task { try await Task.sleep(for: .seconds(3600)) }
    try await loop.sleep(for: .milliseconds(1))
    sleeper.cancel()
    do { try await sleeper.value } catch { print("cancelled", type(of: error)) }

    var signals: [Int32] = []
    let source = try SignalSource([SIGUSR1, SIGTERM]) { signals.append($0) }
    kill(getpid(), SIGUSR1)
    kill(getpid(), SIGTERM)
    try await loop.sleep(for: .milliseconds(5))
    source.cancel()
    print("signals", signals.sorted() == [SIGUSR1, SIGTERM].sorted())

    var thread = pthread_t()
    var wasWoken = false
    let waker = Task { try? await loop.sleep(for: .seconds(3600)) }
    pthread_create(&thread, nil, foreignThread, nil)
    pthread_join(thread, nil)
    await Task.yield()
    try await loop.sleep(for: .milliseconds(5))
    wasWoken = true
    waker.cancel()
    print("woken", wasWoken)

    let wakeUps = loop.wakeUps
    try await loop.sleep(for: .milliseconds(100))
    print("wake-ups while asleep", loop.wakeUps - wakeUps)
    print(threads())
    return 7
  } catch {
    print("failed: \(error)")
    return 1
  }
}
