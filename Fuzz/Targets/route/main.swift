import CFuzzer
import FuzzSubjects

var count = CommandLine.argc
var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
let status = LLVMFuzzerRunDriver(&count, &arguments) { bytes, count in
  Subject.route.read(Array(UnsafeBufferPointer(start: bytes, count: count)))
  return 0
}
