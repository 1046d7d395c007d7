import CCurl
import EventLoop
import Glibc

// What libcurl calls while it runs. Nothing here calls libcurl: the code only moves bytes, notes
// state, and resumes the waiting task, which runs later.

extension Transfer {
  func connected() {
    phase = .waitingForAnswer
    lastProgress = .read()
    EventLoop.shared.enqueue { [weak self] in
      guard let self, result == nil else { return }
      if case .stream(let body) = request.body { body.onConnection() }
      guard result == nil, request.timeouts.firstByte != nil else { return }
      timer?.cancel()
      scheduleDeadline()
    }
  }

  func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    lastProgress = EventLoop.shared.now
    switch sink {
    case .whole(let limit):
      guard whole.count + bytes.count <= limit else {
        failureInCallback = (.answerTooLarge, "the answer is longer than \(limit) bytes")
        return 0
      }
      whole.append(contentsOf: bytes)
    case .queue:
      guard queuedBytes < Self.queueLimit else {
        isReceivePaused = true
        return Int(CURL_WRITEFUNC_PAUSE)
      }
      queue.append(Array(bytes))
      queuedBytes += bytes.count
      wakeIfReached()
    }
    return bytes.count
  }

  /// One line of a head, or of trailers, which are dropped.
  func receiveHeader(_ bytes: UnsafeRawBufferPointer) -> Int {
    guard !hasHead else { return bytes.count }
    lastProgress = EventLoop.shared.now
    headBytes += bytes.count
    guard headBytes <= Self.headLimit else {
      failureInCallback = (.answerTooLarge, "the answer's head is longer than \(Self.headLimit) bytes")
      return 0
    }
    let line = String(decoding: bytes, as: UTF8.self)
    if line.hasPrefix("HTTP/") {
      fields = HeaderFields()
      status = line.split(separator: " ").dropFirst().first.flatMap { Int($0.prefix(3)) } ?? 0
    } else if let colon = line.utf8.firstIndex(of: UInt8(ascii: ":")) {
      let value = line[line.index(after: colon)...]
      fields.append(String(line[..<colon]), String(Self.trimmed(value)))
    } else if Self.trimmed(line[...]).isEmpty {
      finishHead()
    }
    return bytes.count
  }

  private func finishHead() {
    guard status >= 200 else { return }
    let isFollowed =
      request.redirectLimit > redirects && (300...399).contains(status) && fields["Location"] != nil
    if isFollowed {
      redirects += 1
      return
    }
    hasHead = true
    phase = .readingBody
    EventLoop.shared.enqueue { [weak self] in self?.headArrived() }
    wakeIfReached()
  }

  private func headArrived() {
    guard result == nil else { return }
    // A refusal makes libcurl drop the rest of the body, but a paused one keeps the transfer from
    // ending. Where the body is still wanted, the callback pauses again.
    bodyHasMore()
    guard result == nil, request.timeouts.idle != nil else { return }
    timer?.cancel()
    scheduleDeadline()
  }

  private static func trimmed(_ text: Substring) -> Substring {
    let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" || $0.isNewline }
    let start = text.drop(while: isBlank)
    guard let last = start.lastIndex(where: { !isBlank($0) }) else { return "" }
    return start[...last]
  }

  func provide(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
    switch request.body {
    case .none: return 0
    case .bytes(let bytes):
      let count = min(buffer.count, bytes.count - bodyOffset)
      bytes.withUnsafeBytes {
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[bodyOffset..<bodyOffset + count]))
      }
      bodyOffset += count
      lastProgress = EventLoop.shared.now
      return count
    case .stream(let body):
      switch body.take(into: buffer) {
      case .bytes(let count):
        lastProgress = EventLoop.shared.now
        return count
      case .end: return 0
      case .nothingYet:
        isSendPaused = true
        return Int(CURL_READFUNC_PAUSE)
      case .failed:
        failureInCallback = (.bodyFailed, "the request's body was given up by its writer")
        return Int(CURL_READFUNC_ABORT)
      }
    }
  }

  /// libcurl starts a body again when a kept connection turned out to be dead.
  func seek(to offset: Int) -> Int32 {
    if case .bytes(let bytes) = request.body, (0...bytes.count).contains(offset) {
      bodyOffset = offset
      return CURL_SEEKFUNC_OK
    }
    if case .stream(let body) = request.body, offset == 0, !body.hasBeenRead { return CURL_SEEKFUNC_OK }
    return CURL_SEEKFUNC_FAIL
  }
}

// MARK: - C functions

nonisolated func writeCallback(
  _ data: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context else { return 0 }
  let transfer = Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
  // Lent for this call, on the loop's thread.
  nonisolated(unsafe) let bytes = UnsafeRawBufferPointer(start: data, count: size * count)
  return MainActor.assumeIsolated { transfer.receive(bytes) }
}

nonisolated func headerCallback(
  _ data: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context else { return 0 }
  let transfer = Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
  // Lent for this call, on the loop's thread.
  nonisolated(unsafe) let bytes = UnsafeRawBufferPointer(start: data, count: size * count)
  return MainActor.assumeIsolated { transfer.receiveHeader(bytes) }
}

nonisolated func readCallback(
  _ data: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context else { return Int(CURL_READFUNC_ABORT) }
  let transfer = Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
  // Lent for this call, on the loop's thread.
  nonisolated(unsafe) let buffer = UnsafeMutableRawBufferPointer(start: data, count: size * count)
  return MainActor.assumeIsolated { transfer.provide(buffer) }
}

nonisolated func seekCallback(
  _ context: UnsafeMutableRawPointer?, _ offset: curl_off_t, _ origin: Int32
) -> Int32 {
  guard let context, origin == SEEK_SET else { return CURL_SEEKFUNC_FAIL }
  let transfer = Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
  return MainActor.assumeIsolated { transfer.seek(to: Int(offset)) }
}

nonisolated func connectedCallback(
  _ context: UnsafeMutableRawPointer?, _ address: UnsafeMutablePointer<CChar>?,
  _ localAddress: UnsafeMutablePointer<CChar>?, _ port: Int32, _ localPort: Int32
) -> Int32 {
  guard let context else { return Int32(CURL_PREREQFUNC_ABORT) }
  let transfer = Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
  MainActor.assumeIsolated { transfer.connected() }
  return Int32(CURL_PREREQFUNC_OK)
}
