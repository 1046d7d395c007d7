import CSystemd
import Glibc
import TestSupport
import Testing

@testable import EventLoop

@Suite struct FileFlushTests {
  private let scratch = Scratch()

  init() { LoopDriver.start() }

  private func file(_ name: String) -> Int32 {
    open(scratch.file(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)
  }

  @Test(arguments: [true, false])
  func filesAndDirectoriesReachTheDisk(inBackground: Bool) async throws {
    let flush = FileFlush(isInBackground: inBackground)
    for number in 0..<20 {
      let descriptor = file("\(number)")
      #expect(write(descriptor, "x", 1) == 1)
      try await flush.flush(descriptor)
      close(descriptor)
    }
    let directory = open(scratch.path, O_RDONLY | O_DIRECTORY)
    try await flush.flush(directory)
    close(directory)
  }

  @Test(arguments: [true, false])
  func whatCannotBeFlushedIsAnError(inBackground: Bool) async throws {
    let flush = FileFlush(isInBackground: inBackground)
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    for (descriptor, code) in [(ends[0], EINVAL), (Int32(-1), EBADF)] {
      let error = await #expect(throws: SystemError.self) { try await flush.flush(descriptor) }
      #expect(error?.code == code)
    }
    for end in ends { close(end) }
  }

  @Test func moreThanTheKernelTakesAreAllMade() async throws {
    let flush = FileFlush()
    let tasks = (0..<40).map { number in
      let descriptor = file("\(number)")
      _ = write(descriptor, "x", 1)
      return Task {
        try await flush.flush(descriptor)
        close(descriptor)
      }
    }
    for task in tasks { try await task.value }
  }
}

@Suite struct TurnQueueTests {
  @Test func whoComesFirstIsServedFirstAndACancelledTaskKeepsItsPlace() async {
    let turns = TurnQueue()
    var order: [Int] = []
    await turns.enter()
    let tasks = (0..<4).map { number in
      Task {
        await turns.enter()
        order.append(number)
        await Task.yield()
        turns.leave()
      }
    }
    await Task.yield()
    tasks[1].cancel()
    #expect(!turns.isIdle)
    turns.leave()
    for task in tasks { await task.value }
    #expect(order == [0, 1, 2, 3])
    #expect(turns.isIdle)
  }
}
