import CSystemd
import EventLoop
import Glibc

extension Connection {
  /// Bodies above this are sent from where they are instead of being copied.
  private static let copiedBytes = 16 * 1024

  /// Makes the scratch buffer this connection's, with room for `amount` bytes.
  private func claimScratch(_ amount: Int) {
    let scratch = server.scratch
    if scratch.owner !== self {
      scratch.owner?.flushScratch()
      scratch.owner = self
    }
    if scratch.room < amount { flushScratchBytes() }
  }

  /// Puts an answer in line.
  func send(head: [UInt8], body: [UInt8]) {
    guard phase != .closed else { return }
    let scratch = server.scratch
    let isCopied = body.count <= Self.copiedBytes
    claimScratch(head.count + OutputScratch.connectionBytes + (isCopied ? body.count : 0))
    guard head.count + OutputScratch.connectionBytes + Self.copiedBytes <= OutputScratch.capacity else {
      // A head that large can only be a handler's mistake.
      return close()
    }
    scratch.put(head)
    scratch.putConnectionFields(keepsAlive: keepsAlive)
    if isCopied {
      scratch.put(body)
    } else {
      sendLarge(body)
    }
  }

  func sendContinue() {
    let text: StaticString = "HTTP/1.1 100 Continue\r\n\r\n"
    claimScratch(text.utf8CodeUnitCount)
    server.scratch.put(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  /// What is in the scratch buffer and the body, in one call.
  private func sendLarge(_ body: [UInt8]) {
    let scratch = server.scratch
    defer { scratch.reset() }
    guard output.isEmpty else {
      output.append(UnsafeBufferPointer(start: UnsafePointer(scratch.memory), count: scratch.count))
      output.append(body)
      return
    }
    let sent = body.withUnsafeBufferPointer { bytes in
      withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2) { pieces in
        pieces[0] = iovec(iov_base: scratch.memory, iov_len: scratch.count)
        pieces[1] = iovec(
          iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        return Socket.send(descriptor, pieces.baseAddress, 2)
      }
    }
    guard sent >= 0 || errno == EAGAIN else { return failedToSend() }
    let done = max(sent, 0)
    if done < scratch.count {
      output.append(
        UnsafeBufferPointer(start: UnsafePointer(scratch.memory + done), count: scratch.count - done))
      output.append(body)
    } else {
      output.append(body, from: done - scratch.count)
    }
  }

  /// Sends what this connection has in the scratch buffer and gives the buffer free.
  func flushScratch() {
    guard server.scratch.owner === self else { return }
    flushScratchBytes()
    server.scratch.owner = nil
    closeWhenFlushed()
  }

  @inline(__always)
  private func flushScratchBytes() {
    let scratch = server.scratch
    let count = scratch.count
    guard count > 0 else { return }
    defer { scratch.reset() }
    var sent = 0
    if output.isEmpty {
      sent = Socket.send(descriptor, scratch.memory, count)
      if sent == count { return }
      guard sent >= 0 || errno == EAGAIN else { return failedToSend() }
      sent = max(sent, 0)
    }
    output.append(UnsafeBufferPointer(start: UnsafePointer(scratch.memory + sent), count: count - sent))
  }

  /// The client has gone. It is closed outside of whatever is being done for it right now.
  private func failedToSend() {
    keepsAlive = false
    close()
  }

  /// The socket takes data again.
  func flushQueue() {
    let status = output.write(to: descriptor)
    guard status == 0 || status == EAGAIN else { return close() }
    if phase == .streaming {
      streamAdvanced()
    } else if output.isEmpty {
      closeWhenFlushed()
      resumeLater()
    }
    guard phase != .closed, phase != .lingering else { return }
    finishBatch()
  }
}
