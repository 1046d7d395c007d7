import JSON
import Testing

@testable import Model

@Suite struct `Preload file` {
  @Test(arguments: Fixture.goldenCases("preload.json"))
  func `a file is read, or refused with every reason`(golden: GoldenCase) throws {
    var document = try #require(golden.json["file"])
    let former = golden.json["former"]?.arrayValue?.compactMap(\.intValue) ?? []
    #expect(Preload.formerAppIds(in: document) == former)
    do throws(TargetStateError) {
      if !former.isEmpty {
        var uuids: [Int: String] = [:]
        for (id, uuid) in golden.json["uuids"]?.objectValue ?? [:] {
          uuids[Int(id) ?? 0] = uuid.stringValue
        }
        document = try Preload.converted(former: document, uuids: uuids)
      }
      let preload = try Preload(parsing: document, source: "https://api.example")
      #expect(golden.json["error"] == nil)
      #expect(JSON(preload.target.config) == golden.json["config"])
      let apps = JSONObject(preload.target.apps.map { ($0.uuid, $0.exported) })
      #expect(JSON.object(apps) == golden.json["apps"])
      #expect(preload.pin == golden.json["pin"])
      #expect(preload.isEmpty == (golden.json["empty"] != nil))
      #expect(preload.target.apps.allSatisfy { $0.source == "https://api.example" })
    } catch {
      #expect(error.message == golden.json["error"]?.stringValue)
    }
  }

  @Test func `the file of cases is there`() {
    #expect(Fixture.goldenCases("preload.json").count >= 20)
  }
}
