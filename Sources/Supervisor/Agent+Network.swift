import Cloud
import DeviceAPI
import EventLoop
import Glibc
import HostConfiguration
import Logging

// What the agent notices of the network by itself (host 9).

extension Agent {
  /// Addresses, the VPN's marker, and whether the cloud is within reach.
  func watchNetwork(for cloud: CloudLink) {
    cloud.connectivity.onChange = { [unowned self] isConnected in host.leds.setOffline(!isConnected) }
    handledFactsRevision = deviceFactsRevision
    do throws(FileError) {
      networkMonitor = try NetworkMonitor { [unowned self] in networkChanged() }
    } catch {
      logger.warning("Changed addresses are seen when they are asked for: \(error)")
    }
    settings.onChange(of: [.apiEndpoint]) { [unowned self] _ in watchVPN() }
    watchVPN()
  }

  /// Who asks for the addresses before this is called has read them anew, and reported nothing.
  private func networkChanged() {
    networkFacts.forget()
    let revision = deviceFactsRevision
    guard revision != handledFactsRevision else { return }
    handledFactsRevision = revision
    logger.info("Addresses: \(networkFacts.facts.addresses.joined(separator: " "))")
    cloud?.stateChanged()
    cloud?.connectivity.check()
  }

  /// The VPN's unit keeps a marker in a directory that is the agent's to make (host 9.1). A device without
  /// a cloud has no VPN.
  private func watchVPN() {
    guard vpnWatcher == nil, !(settings.string(.apiEndpoint) ?? "").isEmpty else { return }
    let marker = "\(paths.vpnStatus)/active"
    do {
      try DurableFile.makeDirectories(for: marker)
      vpnWatcher = try FileWatcher(marker, for: .presence) { [unowned self] in vpnChanged() }
    } catch {
      logger.warning("The VPN's state is read when it is asked for: \(error)")
    }
    cloud?.connectivity.isPaused = host.isVPNConnected
  }

  private func vpnChanged() {
    guard let connectivity = cloud?.connectivity, connectivity.isPaused != host.isVPNConnected else { return }
    logger.info(host.isVPNConnected ? "VPN connection is active." : "VPN connection is not active.")
    connectivity.isPaused = host.isVPNConnected
  }
}
