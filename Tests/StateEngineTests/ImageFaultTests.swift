import Engine
import Testing

@testable import StateEngine

/// The texts are what Docker Engine 20.10 and docker-registry 2.8 say.
@Suite struct ImageFaultTests {
  private func kind(_ message: String, status: Int? = nil) -> ImageFault.Kind {
    let kind = status.map(EngineError.Kind.status) ?? .reported
    return ImageFault(EngineError(kind: kind, call: "POST /images/create", message: message)).kind
  }

  @Test func aRefusedConnectionMeansThatTheRegistryCannotBeReached() {
    let text =
      #"Get "http://127.0.0.1:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused"#
    #expect(kind(text, status: 500) == .registryUnreachable)
  }

  @Test(arguments: [
    #"Get "https://registry.test/v2/": dial tcp: lookup registry.test: no such host"#,
    #"Get "https://registry.test/v2/": net/http: TLS handshake timeout"#,
    "received unexpected HTTP status: 503 Service Unavailable",
    #"Get "https://registry.test/v2/": x509: certificate signed by unknown authority"#,
  ])
  func aRegistryThatDoesNotAnswerAsItShouldCannotBeReached(text: String) {
    #expect(kind(text, status: 500) == .registryUnreachable)
  }

  @Test(arguments: [
    #"Head "http://127.0.0.1:5001/v2/a/manifests/1": unauthorized: authentication required"#,
    "Head \"http://h/v2/a/manifests/1\": no basic auth credentials",
    "pull access denied for a, repository does not exist or may require 'docker login': denied: no access",
  ])
  func aRefusalIsToldFromAMissingImage(text: String) {
    #expect(kind(text, status: 500) == .accessDenied)
    #expect(kind(text, status: 404) == .accessDenied)
  }

  @Test func anUnknownManifestMeansThatTheImageIsNotThere() {
    #expect(
      kind("manifest for h/a:1 not found: manifest unknown: manifest unknown", status: 404) == .notFound)
    #expect(kind("an answer without explanation", status: 404) == .notFound)
  }

  @Test(arguments: [
    "unexpected EOF", "filesystem layer verification failed for digest sha256:00",
    "manifest verification failed for digest sha256:00",
  ])
  func aTruncatedOrAlteredPartIsDamage(text: String) { #expect(kind(text) == .damaged) }

  @Test func aFullDiskIsToldEvenInsideAnotherText() {
    let text =
      "failed to register layer: Error processing tar file(exit status 1): write /filling: no space left on device"
    #expect(kind(text) == .diskFull)
  }

  @Test func theEngineItselfIsToldFromTheRegistry() {
    func kind(_ kind: EngineError.Kind) -> ImageFault.Kind {
      ImageFault(EngineError(kind: kind, call: "c", message: "connection refused")).kind
    }
    #expect(kind(.unreachable) == .engineLost)
    #expect(kind(.interrupted) == .engineLost)
    #expect(kind(.timeout) == .engineSilent)
  }

  @Test func theTextSaysWhatItIsAndThenTheWordsOfTheEngine() {
    #expect(ImageFault(.diskFull, message: "m").text == "no space is left for it: m")
    #expect(ImageFault(.other, message: "m").text == "m")
  }
}
