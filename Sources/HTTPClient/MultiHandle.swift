import CCurl
import EventLoop

/// libcurl's multi interface, driven by `curl_multi_socket_action(3)` on the loop.
///
/// Invariants: libcurl is entered only from the loop, never from one of its own callbacks; a
/// transfer is held by `transfers` from `add` until `remove`, so that the unretained pointer
/// its callbacks get is valid.
final class MultiHandle {
  /// Idle connections kept for reuse: the engine's few and one or two of the cloud.
  private static let maximumConnections = 8
  /// Easy handles kept for reuse, about 6 KB each.
  private static let maximumIdleHandles = 2

  private let handle: UnsafeMutableRawPointer
  private let share: UnsafeMutableRawPointer
  private var watches: [Int32: EventLoop.Watch] = [:]
  private var timer: LoopTimer?
  private var transfers: [UnsafeMutableRawPointer: Transfer] = [:]
  private var idleHandles: [EasyHandle] = []

  private static let isInitialised = ccurl_global_init() == CURLE_OK

  init?() {
    guard Self.isInitialised, let handle = curl_multi_init() else { return nil }
    guard let share = curl_share_init() else {
      curl_multi_cleanup(handle)
      return nil
    }
    self.handle = handle
    self.share = share
    ccurl_share_tls_sessions(share)
    let context = Unmanaged.passUnretained(self).toOpaque()
    ccurl_multi_set_socket_function(handle, socketCallback, context)
    ccurl_multi_set_timer_function(handle, timerCallback, context)
    ccurl_multi_set_long(handle, CURLMOPT_MAXCONNECTS, Self.maximumConnections)
  }

  isolated deinit {
    timer?.cancel()
    for watch in watches.values { watch.cancel() }
    watches = [:]
    for easy in transfers.keys { curl_multi_remove_handle(handle, easy) }
    idleHandles = []
    curl_multi_cleanup(handle)
    curl_share_cleanup(share)
  }

  // MARK: Transfers

  /// An easy handle with nothing set but what all of them have.
  func takeHandle() -> EasyHandle? {
    guard let easy = idleHandles.popLast() ?? EasyHandle() else { return nil }
    ccurl_set_pointer(easy.pointer, CURLOPT_SHARE, share)
    return easy
  }

  func giveBack(_ easy: EasyHandle) {
    guard idleHandles.count < Self.maximumIdleHandles else { return }
    easy.reset()
    idleHandles.append(easy)
  }

  func add(_ transfer: Transfer, _ easy: EasyHandle) -> CURLMcode {
    transfers[easy.pointer] = transfer
    let code = curl_multi_add_handle(handle, easy.pointer)
    if code != CURLM_OK { transfers[easy.pointer] = nil }
    return code
  }

  func remove(_ easy: EasyHandle) {
    curl_multi_remove_handle(handle, easy.pointer)
    transfers[easy.pointer] = nil
  }

  // MARK: The loop

  private func perform(_ descriptor: Int32, _ events: Int32) {
    var running: Int32 = 0
    let code = curl_multi_socket_action(handle, descriptor, events, &running)
    finishTransfers()
    // A multi handle that fails as a whole leaves its transfers without an end of their own.
    guard code == CURLM_OK else {
      let reason = String(cString: curl_multi_strerror(code))
      for transfer in Array(transfers.values) { transfer.fail(kind: .other, reason: reason) }
      return
    }
  }

  var hasTimer: Bool { timer?.isScheduled ?? false }

  private func finishTransfers() {
    var left: Int32 = 0
    while let message = curl_multi_info_read(handle, &left) {
      guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle else { continue }
      let result = ccurl_message_result(message)
      transfers[easy]?.libcurlEnded(result)
    }
  }

  fileprivate func setInterest(
    _ descriptor: Int32, _ what: Int32, of easy: UnsafeMutableRawPointer?
  ) -> Int32 {
    if let transfer = easy.flatMap({ transfers[$0] }) {
      if what != CURL_POLL_REMOVE {
        transfer.socket = descriptor
      } else if transfer.socket == descriptor {
        transfer.socket = nil
      }
    }
    guard what != CURL_POLL_REMOVE else {
      watches.removeValue(forKey: descriptor)?.cancel()
      return 0
    }
    var interest: EventLoop.Interest = []
    if what & CURL_POLL_IN != 0 { interest.insert(.read) }
    if what & CURL_POLL_OUT != 0 { interest.insert(.write) }
    if let watch = watches[descriptor] {
      watch.interest = interest
      return 0
    }
    do {
      watches[descriptor] = try EventLoop.shared.watch(descriptor, interest) { [unowned self] ready in
        var events: Int32 = 0
        if ready.contains(.read) { events |= CURL_CSELECT_IN }
        if ready.contains(.write) { events |= CURL_CSELECT_OUT }
        if ready.contains(.error) { events |= CURL_CSELECT_ERR }
        perform(descriptor, events)
      }
      return 0
    } catch {
      return -1
    }
  }

  fileprivate func setTimer(_ milliseconds: Int) {
    guard milliseconds >= 0 else {
      timer?.cancel()
      return
    }
    if let timer {
      timer.restart(after: .milliseconds(milliseconds))
    } else {
      timer = EventLoop.shared.schedule(after: .milliseconds(milliseconds)) { [unowned self] in
        perform(CURL_SOCKET_BAD, 0)
      }
    }
  }
}

/// One `CURL *`: made once, reset between transfers.
final class EasyHandle {
  let pointer: UnsafeMutableRawPointer
  private let errorText: UnsafeMutablePointer<CChar>

  init?() {
    guard let pointer = curl_easy_init() else { return nil }
    self.pointer = pointer
    errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
    errorText[0] = 0
    ccurl_set_pointer(pointer, CURLOPT_ERRORBUFFER, errorText)
  }

  isolated deinit {
    curl_easy_cleanup(pointer)
    errorText.deallocate()
  }

  /// Drops every option; connections and TLS sessions stay.
  func reset() {
    curl_easy_reset(pointer)
    errorText[0] = 0
    ccurl_set_pointer(pointer, CURLOPT_ERRORBUFFER, errorText)
  }

  /// What libcurl wrote about the last failure; nil when it wrote nothing.
  var errorMessage: String? {
    let text = String(cString: errorText)
    return text.isEmpty ? nil : text
  }
}

// libcurl calls these on the thread that entered it, which is the loop's.

private nonisolated func socketCallback(
  _ easy: UnsafeMutableRawPointer?, _ descriptor: Int32, _ what: Int32, _ context: UnsafeMutableRawPointer?,
  _ socketContext: UnsafeMutableRawPointer?
) -> Int32 {
  guard let context else { return -1 }
  let multi = Unmanaged<MultiHandle>.fromOpaque(context).takeUnretainedValue()
  // A name of its handle, lent for this call, on the loop's thread.
  nonisolated(unsafe) let handle = easy
  return MainActor.assumeIsolated { multi.setInterest(descriptor, what, of: handle) }
}

private nonisolated func timerCallback(
  _ handle: UnsafeMutableRawPointer?, _ milliseconds: Int, _ context: UnsafeMutableRawPointer?
) -> Int32 {
  guard let context else { return -1 }
  let multi = Unmanaged<MultiHandle>.fromOpaque(context).takeUnretainedValue()
  MainActor.assumeIsolated { multi.setTimer(milliseconds) }
  return 0
}
