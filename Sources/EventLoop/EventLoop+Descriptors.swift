import CSystemd
import Glibc

extension EventLoop {
  /// What a watch wants to hear of.
  public nonisolated struct Interest: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let read = Interest(rawValue: 1)
    public static let write = Interest(rawValue: 2)

    /// EPOLLRDHUP goes with read interest only: it is level-triggered too, and a reader is
    /// the one who can make it go away.
    var kernelEvents: UInt32 {
      (contains(.read) ? EPOLLIN.rawValue | EPOLLRDHUP.rawValue : 0)
        | (contains(.write) ? EPOLLOUT.rawValue : 0)
    }
  }

  /// What a descriptor is ready for. An error or a hang-up makes it ready for whatever was
  /// asked, so that the next call on it reports what happened.
  public nonisolated struct Readiness: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let read = Readiness(rawValue: 1)
    public static let write = Readiness(rawValue: 2)
    public static let hangUp = Readiness(rawValue: 4)
    public static let error = Readiness(rawValue: 8)

    init(kernelEvents events: UInt32, interest: Interest) {
      var ready: Readiness = []
      if events & EPOLLIN.rawValue != 0 { ready.insert(.read) }
      if events & EPOLLOUT.rawValue != 0 { ready.insert(.write) }
      if events & (EPOLLHUP.rawValue | EPOLLRDHUP.rawValue) != 0 { ready.insert(.hangUp) }
      if events & EPOLLERR.rawValue != 0 { ready.insert(.error) }
      if events & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0 {
        ready.formUnion(Readiness(rawValue: interest.rawValue))
      } else if events & EPOLLRDHUP.rawValue != 0 {
        ready.insert(.read)
      }
      self = ready
    }
  }

  struct Slot {
    var registration: UInt32 = 0
    var watch: Watch?
  }

  /// A descriptor under the loop's eyes. The descriptor stays its owner's, who cancels the
  /// watch before closing it.
  public final class Watch {
    public let descriptor: Int32
    let registration: UInt32
    let handler: (Readiness) -> Void
    fileprivate(set) var kernelInterest: Interest
    private var isNoted = false
    private weak var loop: EventLoop?

    /// With an empty interest the kernel forgets the descriptor, hang-ups included.
    public var interest: Interest {
      didSet {
        guard interest != kernelInterest, !isNoted, let loop else { return }
        isNoted = true
        loop.changedWatches.append(self)
      }
    }

    fileprivate init(
      loop: EventLoop, descriptor: Int32, registration: UInt32, interest: Interest,
      handler: @escaping (Readiness) -> Void
    ) {
      self.loop = loop
      self.descriptor = descriptor
      self.registration = registration
      self.handler = handler
      self.interest = interest
      self.kernelInterest = interest
    }

    public var isActive: Bool { loop != nil }

    /// No handler call comes after this, not even for an event already fetched.
    public func cancel() {
      guard let loop else { return }
      self.loop = nil
      // The owner may have closed the descriptor, and another watch may have its number by now.
      guard loop.slots[Int(descriptor)].registration == registration else { return }
      loop.slots[Int(descriptor)].watch = nil
      if !kernelInterest.isEmpty {
        _ = csystemd_epoll_control(loop.descriptor, EPOLL_CTL_DEL, descriptor, 0, 0)
      }
      kernelInterest = []
    }

    fileprivate func flush() {
      isNoted = false
      guard let loop, interest != kernelInterest else { return }
      let operation =
        kernelInterest.isEmpty ? EPOLL_CTL_ADD : interest.isEmpty ? EPOLL_CTL_DEL : EPOLL_CTL_MOD
      let status = csystemd_epoll_control(
        loop.descriptor, operation, descriptor, interest.kernelEvents, cookie)
      kernelInterest = interest
      // The owner closed the descriptor without cancelling; there is nothing to watch any more.
      if status < 0 { kernelInterest = [] }
    }

    fileprivate var cookie: UInt64 { UInt64(registration) << 32 | UInt64(UInt32(bitPattern: descriptor)) }
  }

  /// Watches a descriptor. Level-triggered: the handler is called once in every turn in which
  /// the descriptor is ready.
  ///
  /// - Throws: what `epoll_ctl(2)` says, `EPERM` for a regular file, for instance.
  public func watch(
    _ descriptor: Int32, _ interest: Interest, handler: @escaping (Readiness) -> Void
  ) throws(SystemError) -> Watch {
    guard descriptor >= 0 else { throw SystemError(code: EBADF, call: "epoll_ctl") }
    let registration = nextRegistration
    nextRegistration &+= 1
    let watch = Watch(
      loop: self, descriptor: descriptor, registration: registration, interest: interest, handler: handler)
    if !interest.isEmpty {
      guard
        csystemd_epoll_control(
          self.descriptor, EPOLL_CTL_ADD, descriptor, interest.kernelEvents, watch.cookie) == 0
      else { throw .last("epoll_ctl") }
    }
    while slots.count <= Int(descriptor) { slots.append(Slot()) }
    slots[Int(descriptor)] = Slot(registration: registration, watch: watch)
    return watch
  }

  func flushInterests() {
    guard !changedWatches.isEmpty else { return }
    for watch in changedWatches { watch.flush() }
    changedWatches.removeAll(keepingCapacity: changedWatches.capacity <= 256)
  }

  func dispatch(_ event: UnsafePointer<epoll_event>) {
    let cookie = csystemd_epoll_cookie(event)
    let descriptor = Int(UInt32(truncatingIfNeeded: cookie))
    guard descriptor < slots.count, slots[descriptor].registration == UInt32(cookie >> 32),
      let watch = slots[descriptor].watch
    else { return }
    let readiness = Readiness(kernelEvents: event.pointee.events, interest: watch.interest)
    watch.handler(readiness)
  }
}
