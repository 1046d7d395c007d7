import CSystemd
import EventLoop
import Glibc

/// The kernel's `leds` through libudev(3): what there is, and what comes and goes.
///
/// It listens only while somebody plays on a light, so that at other times no device that is plugged
/// in anywhere wakes the process. It hears the kernel itself and needs no udev daemon, which a
/// container does not have.
final class LEDMonitor {
  private var udev: OpaquePointer?
  private var monitor: OpaquePointer?
  private var watch: EventLoop.Watch?
  private let onChange: () -> Void

  init(onChange: @escaping () -> Void) { self.onChange = onChange }

  /// Names and directories of all lights.
  static func enumerate() -> [(name: String, directory: String)] {
    guard let udev = udev_new() else { return [] }
    defer { udev_unref(udev) }
    guard let enumeration = udev_enumerate_new(udev) else { return [] }
    defer { udev_enumerate_unref(enumeration) }
    guard udev_enumerate_add_match_subsystem(enumeration, "leds") >= 0,
      udev_enumerate_scan_devices(enumeration) >= 0
    else { return [] }
    var found: [(name: String, directory: String)] = []
    var entry = udev_enumerate_get_list_entry(enumeration)
    while let current = entry {
      if let path = udev_list_entry_get_name(current).map({ String(cString: $0) }) {
        found.append((DurableFile.name(of: path), path))
      }
      entry = udev_list_entry_get_next(current)
    }
    return found
  }

  /// Idempotent; where the kernel cannot be heard, lights that come later are not noticed.
  func start() {
    guard watch == nil, let udev = udev_new() else { return }
    guard let monitor = udev_monitor_new_from_netlink(udev, "kernel") else {
      udev_unref(udev)
      return
    }
    udev_monitor_filter_add_match_subsystem_devtype(monitor, "leds", nil)
    guard udev_monitor_enable_receiving(monitor) >= 0,
      let watch = try? EventLoop.shared.watch(
        udev_monitor_get_fd(monitor), .read, handler: { [weak self] _ in self?.take() })
    else {
      udev_monitor_unref(monitor)
      udev_unref(udev)
      return
    }
    self.udev = udev
    self.monitor = monitor
    self.watch = watch
  }

  func stop() {
    watch?.cancel()
    watch = nil
    if let monitor { udev_monitor_unref(monitor) }
    if let udev { udev_unref(udev) }
    monitor = nil
    udev = nil
  }

  private func take() {
    guard let monitor else { return }
    var isAffected = false
    while let device = udev_monitor_receive_device(monitor) {
      isAffected = true
      udev_device_unref(device)
    }
    if isAffected { onChange() }
  }
}
