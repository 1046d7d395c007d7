import Database
import HTTPClient
import Model
import Testing

@testable import Engine
@testable import StateEngine

@Suite struct ImageDeltaTests {
  private func answer(_ status: Int, _ body: String = "") throws(DeltaClient.Failure) -> DeltaClient.Answer {
    try DeltaClient.answer(status: status, body: Array(body.utf8), token: "t")
  }

  @Test func anAnswerNamesTheImageToPull() throws {
    #expect(
      try answer(200, #"{"success":true,"name":"r.test/v2/delta:1"}"#)
        == .image("r.test/v2/delta:1", token: "t"))
  }

  @Test(arguments: [#"{"name":""}"#, "{}", "<html>", "", #"{"name":5}"#])
  func anAnswerWithoutANameIsAFailure(body: String) {
    #expect(throws: DeltaClient.Failure.self) { try answer(200, body) }
  }

  @Test(arguments: [502, 504]) func aDeltaThatIsStillMadeIsPending(status: Int) throws {
    #expect(try answer(status) == .pending)
  }

  @Test(arguments: [400, 403, 404, 409, 422]) func aRefusalMeansThatThereIsNone(status: Int) throws {
    #expect(try answer(status) == .none("the delta service has none (\(status))"))
  }

  @Test(arguments: [401, 500, 503, 301, 204]) func everythingElseIsTriedAgainLater(status: Int) {
    #expect(throws: DeltaClient.Failure.self) { try answer(status) }
  }

  @Test func aServiceThatAsksForTimeGetsIt() throws {
    #expect(DeltaClient.delay(RetryAdvice(status: 500, retryAfter: nil, now: 0)) == nil)
    let asked = try #require(DeltaClient.delay(RetryAdvice(status: 504, retryAfter: "40", now: 0)))
    #expect(asked >= .seconds(40) && asked <= .seconds(48))
    let overloaded = try #require(DeltaClient.delay(RetryAdvice(status: 503, retryAfter: "1", now: 0)))
    #expect(overloaded >= .seconds(15) && overloaded <= .seconds(18))
  }

  @Test func theTokenIsForBothRepositoriesAtTheRegistryOfTheDestination() throws {
    let url = try DeltaClient.tokenURL(
      from: ImageReference(parsing: "r.test/v2/old@sha256:\(String(repeating: "a", count: 64))"),
      to: ImageReference(parsing: "r.test:5000/v2/new:1"), apiEndpoint: "https://api.test")
    #expect(
      url == "https://api.test/auth/v1/token?service=r.test%3A5000&scope=repository%3Av2%2Fnew%3Apull"
        + "&scope=repository%3Av2%2Fold%3Apull")
  }

  @Test func theSourceIsAnImageOfTheSameServiceOfTheSameApp() {
    func row(_ name: String, app: Int, service: String, id: String? = nil) -> StoredImage {
      StoredImage(
        name: name, appId: app, appUuid: nil, serviceId: 1, serviceName: service, imageId: 1, releaseId: 1,
        commit: "c", engineId: id)
    }
    let images = ["a:1", "b:1", "c:1"].map { EngineImage(id: "id-\($0)", repoTags: [$0]) }
    let rows = [
      row("a:1", app: 2, service: "web", id: "id-a:1"), row("b:1", app: 1, service: "db", id: "id-b:1"),
      row("c:1", app: 1, service: "web", id: "id-c:1"),
    ]
    let inventory = ImageInventory(rows: rows, engineImages: images)
    #expect(
      ImageRules.deltaSource(for: row("d:1", app: 1, service: "web"), in: inventory)?.name == "c:1")
    #expect(ImageRules.deltaSource(for: row("d:1", app: 3, service: "web"), in: inventory) == nil)
    #expect(ImageRules.deltaSource(for: row("c:1", app: 1, service: "web"), in: inventory) == nil)
  }
}
