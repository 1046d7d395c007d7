import CSystemd
public import EventLoop
import Glibc
public import Logging

/// A connection to the D-Bus system bus, on the loop (sd-bus(3)).
///
/// Model: the connection is made by the first call or subscription and kept. A call is an `async`
/// function with a deadline of its own; its answer, an error of the other side, the end of the
/// connection and the deadline race, and the first of them resumes the caller, once. Nothing waits for
/// the bus: connecting, the greeting and every call are queued by sd-bus and moved on by the loop.
///
/// When the connection ends, every pending call fails at once. With subscriptions the bus is connected
/// to again, with a growing delay, and the subscriptions are made again; without, the next call does it.
///
/// Invariants: `sd_bus_process` is never entered from one of its own callbacks; they only hand over
/// to tasks and handlers. Callbacks carry a number and not a pointer, so a late one finds nothing.
public final class SystemBus {
  /// Of the answer to a call, unless the caller says otherwise (host 6).
  public static let callTimeout = Duration.seconds(25)
  /// After the end of a connection that has subscriptions; doubles up to the longest.
  private static let shortestReconnectDelay = Duration.milliseconds(500)
  private static let longestReconnectDelay = Duration.seconds(60)
  /// Messages taken in one turn of the loop.
  private static let messagesPerTurn = 32

  public let address: String
  private let loop: EventLoop
  private let logger: Logger

  private var bus: OpaquePointer?
  private var watch: EventLoop.Watch?
  private var busTimer: LoopTimer?
  private var reconnectTimer: LoopTimer?
  private var reconnectDelay = SystemBus.shortestReconnectDelay
  private var pending: [UInt: PendingCall] = [:]
  private var subscriptions: [UInt: Subscription] = [:]
  private var hasReportedProblem = false
  /// A connection with subscriptions has ended, and they have not been told.
  private var hasMissedSignals = false
  private var isProcessing = false
  private var isClosed = false

  /// Calls that were made since the start; the steady state adds none.
  public private(set) var callCount: UInt64 = 0

  private static var nextNumber: UInt = 1
  /// Connections by the number of their calls and subscriptions.
  private static var owners: [UInt: SystemBus] = [:]

  /// - Parameter address: D-Bus address, such as `unix:path=/run/dbus/system_bus_socket`.
  public init(address: String, loop: EventLoop = .shared, logger: Logger) {
    self.address = address
    self.loop = loop
    self.logger = logger
  }

  public var isConnected: Bool { bus != nil }

  /// Ends the connection; calls under way fail. For the end of the process, and of a test.
  public func close() {
    isClosed = true
    reconnectTimer?.cancel()
    for subscription in Array(subscriptions.values) { subscription.cancel() }
    disconnect("the connection was closed")
  }

  private static func number(for owner: SystemBus) -> UInt {
    let number = nextNumber
    nextNumber &+= 1
    owners[number] = owner
    return number
  }

  // MARK: Calls

  private final class PendingCall {
    let what: String
    var continuation: CheckedContinuation<Outcome, Never>?
    var timer: LoopTimer?
    init(_ what: String) { self.what = what }
  }

  private enum Outcome {
    case values([BusValue])
    case failure(BusError)
  }

  /// Calls a method.
  ///
  /// - Parameters:
  ///   - destination: name of the service; one that can be started by the bus is.
  ///   - timeout: of connecting, sending and the answer together.
  /// - Returns: the values of the answer.
  @discardableResult
  public func call(
    _ destination: String, _ path: String, _ interface: String, _ member: String,
    _ arguments: [BusValue] = [], timeout: Duration = SystemBus.callTimeout
  ) async throws(BusError) -> [BusValue] {
    let what = "\(interface).\(member) of \(destination)"
    let bus = try connected(what)
    var created: OpaquePointer?
    var status = sd_bus_message_new_method_call(bus, &created, destination, path, interface, member)
    guard status >= 0, let message = created else { throw BusError(.invalid, what, status: status) }
    defer { sd_bus_message_unref(message) }
    for argument in arguments where status >= 0 { status = argument.append(to: message) }
    guard status >= 0 else { throw BusError(.invalid, "Arguments of \(what)", status: status) }

    let number = Self.number(for: self)
    let call = PendingCall(what)
    // The deadline is ours, so that it also holds while the bus does not greet; that of sd-bus,
    // which is later, only lets it forget the call.
    let limit = UInt64(clamping: (timeout + .seconds(5)).microseconds)
    status = sd_bus_call_async(
      bus, nil, message, SystemBus.replied, UnsafeMutableRawPointer(bitPattern: number), limit)
    guard status >= 0 else {
      Self.owners[number] = nil
      let error = BusError(.disconnected, what, status: status)
      if status == -ENOTCONN || status == -ECONNRESET || status == -EPIPE { disconnect(error.message) }
      throw error
    }
    callCount += 1
    pending[number] = call
    call.timer = loop.schedule(after: timeout, tolerance: .milliseconds(50)) { [weak self] in
      self?.finish(
        number, .failure(BusError(.timeout, "\(what) did not answer within \(timeout.components.seconds) s")))
    }
    updateWatch()
    let outcome = await withCheckedContinuation { call.continuation = $0 }
    switch outcome {
    case .values(let values): return values
    case .failure(let error): throw error
    }
  }

  /// Reads a property (`org.freedesktop.DBus.Properties.Get`).
  public func property(
    _ destination: String, _ path: String, _ interface: String, _ name: String,
    timeout: Duration = SystemBus.callTimeout
  ) async throws(BusError) -> BusValue {
    let values = try await call(
      destination, path, "org.freedesktop.DBus.Properties", "Get", [.string(interface), .string(name)],
      timeout: timeout)
    guard let value = values.first else { throw BusError(.invalid, "\(name) of \(path) has no value") }
    if case .variant(let inner) = value { return inner }
    return value
  }

  private func finish(_ number: UInt, _ outcome: Outcome) {
    Self.owners[number] = nil
    guard let call = pending.removeValue(forKey: number) else { return }
    call.timer?.cancel()
    call.continuation.take()?.resume(returning: outcome)
  }

  private static let replied: sd_bus_message_handler_t = { message, number, _ in
    // The message is used within the call only, on the loop's thread.
    nonisolated(unsafe) let message = message
    let number = UInt(bitPattern: number)
    return MainActor.assumeIsolated {
      guard let message, let owner = owners[number], let call = owner.pending[number] else { return 0 }
      if sd_bus_message_is_method_error(message, nil) > 0, let error = sd_bus_message_get_error(message) {
        let name = error.pointee.name.map { String(cString: $0) } ?? ""
        let text = error.pointee.message.map { String(cString: $0) } ?? name
        owner.finish(number, .failure(BusError(kind(ofError: name), "\(call.what): \(text)")))
      } else if let values = BusValue.read(message) {
        owner.finish(number, .values(values))
      } else {
        owner.finish(number, .failure(BusError(.invalid, "\(call.what): the answer cannot be read")))
      }
      return 0
    }
  }

  /// sd-bus makes an error message of its own when the connection ends under a call.
  private static func kind(ofError name: String) -> BusError.Kind {
    switch name {
    case "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected",
      "System.Error.ECONNRESET", "System.Error.ENOTCONN", "System.Error.EPIPE":
      .disconnected
    case "org.freedesktop.DBus.Error.Timeout", "System.Error.ETIMEDOUT": .timeout
    default: .remote(name: name)
    }
  }

  // MARK: Signals

  /// A signal that is listened to; `cancel` it when it is not needed any more.
  public final class Subscription {
    fileprivate let number: UInt
    fileprivate let rule: String
    fileprivate let handler: ([BusValue]) -> Void
    fileprivate let reconnected: () -> Void
    fileprivate var slot: OpaquePointer?
    private weak var owner: SystemBus?

    fileprivate init(
      _ owner: SystemBus, _ number: UInt, _ rule: String, _ handler: @escaping ([BusValue]) -> Void,
      _ reconnected: @escaping () -> Void
    ) {
      self.owner = owner
      self.number = number
      self.rule = rule
      self.handler = handler
      self.reconnected = reconnected
    }

    /// No handler is called after this; idempotent.
    public func cancel() {
      guard let owner else { return }
      self.owner = nil
      owner.subscriptions[number] = nil
      SystemBus.owners[number] = nil
      if let slot { sd_bus_slot_unref(slot) }
      slot = nil
      owner.updateWatch()
    }
  }

  /// Listens to a signal, over reconnections.
  ///
  /// - Parameters:
  ///   - rule: match rule of the D-Bus specification, such as `type='signal',member='JobRemoved',…`.
  ///   - isInsistent: a bus that is not there now is tried again; otherwise the next call connects.
  ///   - reconnected: signals may have been missed.
  public func subscribe(
    _ rule: String, isInsistent: Bool = true, reconnected: @escaping () -> Void = {},
    handler: @escaping ([BusValue]) -> Void
  ) -> Subscription {
    let number = Self.number(for: self)
    let subscription = Subscription(self, number, rule, handler, reconnected)
    subscriptions[number] = subscription
    if bus != nil {
      add(subscription)
    } else if reconnectTimer?.isScheduled != true {
      do throws(BusError) { _ = try connected("listening") } catch {
        if isInsistent { reconnectLater() }
      }
    }
    return subscription
  }

  private func add(_ subscription: Subscription) {
    guard let bus else { return }
    let status = sd_bus_add_match_async(
      bus, &subscription.slot, subscription.rule, SystemBus.signalled, nil,
      UnsafeMutableRawPointer(bitPattern: subscription.number))
    if status < 0 {
      logger.error("Cannot listen to \(subscription.rule): \(String(cString: strerror(-status)))")
    }
    updateWatch()
  }

  private static let signalled: sd_bus_message_handler_t = { message, number, _ in
    // The message is used within the call only, on the loop's thread.
    nonisolated(unsafe) let message = message
    let number = UInt(bitPattern: number)
    return MainActor.assumeIsolated {
      guard let message, let subscription = owners[number]?.subscriptions[number] else { return 0 }
      if let values = BusValue.read(message) { subscription.handler(values) }
      return 0
    }
  }

  // MARK: Connection

  private func connected(_ what: String) throws(BusError) -> OpaquePointer {
    if let bus { return bus }
    guard !isClosed else { throw BusError(.disconnected, "\(what): the connection was closed") }
    var created: OpaquePointer?
    var status = sd_bus_new(&created)
    guard status >= 0, let bus = created else { throw BusError(.disconnected, what, status: status) }
    status = sd_bus_set_address(bus, address)
    if status >= 0 { status = sd_bus_set_bus_client(bus, 1) }
    if status >= 0 { status = sd_bus_start(bus) }
    let descriptor = status >= 0 ? sd_bus_get_fd(bus) : status
    guard descriptor >= 0 else {
      sd_bus_close(bus)
      sd_bus_unref(bus)
      throw BusError(.disconnected, "\(what): no connection to the system bus \(address)", status: descriptor)
    }
    do throws(SystemError) {
      watch = try loop.watch(descriptor, .read) { [weak self] _ in self?.process() }
    } catch {
      sd_bus_close(bus)
      sd_bus_unref(bus)
      throw BusError(.disconnected, "\(what): \(error)")
    }
    self.bus = bus
    for subscription in subscriptions.values { add(subscription) }
    updateWatch()
    if hasMissedSignals {
      hasMissedSignals = false
      // Whoever is told may use the connection.
      Task { for subscription in Array(subscriptions.values) { subscription.reconnected() } }
    }
    return bus
  }

  private func process() {
    guard let bus, !isProcessing else { return }
    isProcessing = true
    var status: Int32 = 0
    for _ in 0..<Self.messagesPerTurn {
      status = sd_bus_process(bus, nil)
      if status <= 0 { break }
    }
    isProcessing = false
    if status < 0 || sd_bus_is_open(bus) <= 0 {
      disconnect(status < 0 ? String(cString: strerror(-status)) : "the bus closed the connection")
    } else {
      if sd_bus_is_ready(bus) > 0 { noteReady() }
      updateWatch()
    }
  }

  private func noteReady() {
    reconnectDelay = Self.shortestReconnectDelay
    guard hasReportedProblem else { return }
    hasReportedProblem = false
    logger.notice("The system bus answers again")
  }

  /// What sd-bus waits for, told to the loop; after every use of the connection.
  private func updateWatch() {
    guard let bus, let watch, !isProcessing else { return }
    let events = sd_bus_get_events(bus)
    var interest: EventLoop.Interest = []
    if events < 0 || events & Int32(POLLIN) != 0 { interest.insert(.read) }
    if events > 0, events & Int32(POLLOUT) != 0 { interest.insert(.write) }
    // Without interest the end of the connection would not be seen.
    watch.interest = interest.isEmpty ? .read : interest

    var moment = UInt64.max
    guard sd_bus_get_timeout(bus, &moment) > 0, moment != .max else {
      busTimer?.cancel()
      return
    }
    let now = UInt64(clamping: MonotonicTime.read().nanoseconds / 1000)
    let delay = Duration.microseconds(Int64(clamping: moment > now ? moment - now : 0))
    if let busTimer { return busTimer.restart(after: delay) }
    busTimer = loop.schedule(after: delay) { [weak self] in self?.process() }
  }

  private func disconnect(_ reason: String) {
    guard let bus else { return }
    self.bus = nil
    watch?.cancel()
    watch = nil
    busTimer?.cancel()
    for subscription in subscriptions.values {
      if let slot = subscription.slot { sd_bus_slot_unref(slot) }
      subscription.slot = nil
    }
    sd_bus_close(bus)
    sd_bus_unref(bus)
    if !isClosed, !hasReportedProblem {
      hasReportedProblem = true
      logger.warning("The connection to the system bus \(address) ended: \(reason)")
    }
    for number in Array(pending.keys) {
      let what = pending[number]?.what ?? ""
      finish(number, .failure(BusError(.disconnected, "\(what): the system bus went away (\(reason))")))
    }
    if !subscriptions.isEmpty {
      hasMissedSignals = true
      reconnectLater()
    }
  }

  private func reconnectLater() {
    guard !isClosed, reconnectTimer?.isScheduled != true else { return }
    let delay = reconnectDelay
    reconnectDelay = min(reconnectDelay * 2, Self.longestReconnectDelay)
    reconnectTimer = loop.schedule(after: delay, tolerance: delay / 4) { [weak self] in self?.reconnect() }
  }

  private func reconnect() {
    guard bus == nil, !isClosed, !subscriptions.isEmpty else { return }
    do throws(BusError) {
      _ = try connected("listening")
    } catch {
      if !hasReportedProblem {
        hasReportedProblem = true
        logger.warning("\(error)")
      }
      reconnectLater()
    }
  }
}

nonisolated extension Duration {
  /// Rounded towards zero.
  fileprivate var microseconds: Int64 {
    components.seconds * 1_000_000 + components.attoseconds / 1_000_000_000_000
  }
}
