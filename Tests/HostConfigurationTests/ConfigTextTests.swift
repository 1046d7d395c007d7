@testable import HostConfiguration
import Testing

/// A file as one finds it on a board: comments, sections, and what the agent manages.
private let pi = """
  # For more options and information see
  # http://rpf.io/configtxt

  dtparam=i2c=on
  dtparam=audio=on
  # Graphics
  dtoverlay=vc4-kms-v3d
  dtparam=cma-256
  gpu_mem=16
  disable_splash=1
  include extra.txt

  [pi4]
  arm_boost=1
  dtoverlay=disable-bt

  [gpio4=1]
  enable_uart=0

  [all]
  enable_uart=1

  """

struct ConfigTextTests {
  @Test func theManagedPartIsWhatHoldsUnconditionally() {
    #expect(
      ConfigText(parsing: pi).options == [
        "dtparam": .list(["i2c=on", "audio=on"]), "dtoverlay": .list(["vc4-kms-v3d,cma-256"]),
        "gpu_mem": .text("16"), "disable_splash": .text("1"), "enable_uart": .text("1"),
      ])
  }

  @Test func settingWhatIsThereChangesNoByte() {
    for text in [pi, pi.replacing("\n", with: "\r\n"), "", "\n", "gpu_mem=16", "[pi4]\na=b\n"] {
      let file = ConfigText(parsing: text)
      #expect(file.text == text)
      #expect(file.setting(file.options).text == text)
    }
  }

  @Test(
    arguments: [
      ("gpu_mem", "128", "gpu_mem=16\n", "gpu_mem=128\n"),
      ("enable_uart", "0", "enable_uart=1\n", "enable_uart=0\n"),
      ("disable_splash", nil, "disable_splash=1\n", ""),
      ("arm_freq", "900", "include extra.txt\n", "include extra.txt\narm_freq=900\n"),
    ] as [(String, String?, String, String)])
  func aChangeOfOneOptionChangesItsLine(key: String, value: String?, old: String, new: String) {
    var options = ConfigText(parsing: pi).options
    options[key] = value.map(BootValue.text)
    #expect(ConfigText(parsing: pi).setting(options).text == pi.replacing(old, with: new))
  }

  @Test func aChangedOverlayIsWrittenWhereTheOverlaysWere() {
    var options = ConfigText(parsing: pi).options
    options["dtoverlay"] = .list(["vc4-kms-v3d,cma-512", "w1-gpio"])
    let changed = ConfigText(parsing: pi).setting(options).text
    #expect(
      changed
        == pi.replacing(
          "dtparam=i2c=on\ndtparam=audio=on\n# Graphics\ndtoverlay=vc4-kms-v3d\ndtparam=cma-256\n",
          with:
            "dtparam=i2c=on\ndtparam=audio=on\ndtoverlay=vc4-kms-v3d\ndtparam=cma-512\ndtoverlay=w1-gpio\n# Graphics\n"
        ))
  }

  @Test func aFileIsWrittenInTheReferencesOrder() {
    let text = ConfigText(parsing: "").setting([
      "dtparam": .list(["i2c=on", "audio=on"]), "dtoverlay": .list(["ads1015,addr=0x48,cha_enable=true"]),
      "enable_uart": .text("1"), "initramfs": .text("i.gz 0x00800000"),
    ]).text
    #expect(
      text == """
        dtparam=i2c=on
        dtparam=audio=on
        enable_uart=1
        initramfs i.gz 0x00800000
        dtoverlay=ads1015
        dtparam=addr=0x48
        dtparam=cha_enable=true

        """)
  }

  @Test(arguments: [
    (
      "dtparam=i2c=on\ndtparam=audio=on\ndtoverlay=ads7846\ngpio=8=pd\ngpio=17=op,dh\ndtoverlay=lirc-rpi,gpio_out_pin=17,gpio_in_pin=13\ndtparam=gpio_out_pin=17\n",
      [
        "dtparam": BootValue.list(["i2c=on", "audio=on"]), "gpio": .list(["8=pd", "17=op,dh"]),
        "dtoverlay": .list(["ads7846", "lirc-rpi,gpio_out_pin=17,gpio_in_pin=13,gpio_out_pin=17"]),
      ]
    ),
    (
      "dtoverlay=a\ndtparam=x=1\ndtparam=spi=on\ndtoverlay=a\ndtparam=x=2\n",
      ["dtparam": .list(["spi=on"]), "dtoverlay": .list(["a,x=1", "a,x=2"])]
    ),
    (
      "dtoverlay=a\ndtoverlay=\ndtparam=i2c=on\ndtparam=lala=on\ndtparam=audio=on\n",
      ["dtparam": .list(["i2c=on", "audio=on", "lala=on"]), "dtoverlay": .list(["a"])]
    ),
    (
      "dtparam=audio=on,i2c_arm=on\ndtoverlay=ads1015\ndtparam=spi=on,chc_cfg=6\n",
      ["dtparam": .list(["audio=on", "i2c_arm=on", "spi=on"]), "dtoverlay": .list(["ads1015,chc_cfg=6"])]
    ),
  ])
  func deviceTreeParametersAreGrouped(text: String, options: BootOptions) {
    #expect(ConfigText(parsing: text).options == options)
  }

  @Test func emptyParametersAreNone() {
    #expect(
      ConfigText(parsing: "dtparam=audio=on,\ndtparam=,spi=on,,x\ndtoverlay=q,,z=1,\ndtparam=,\n").options
        == ["dtparam": .list(["audio=on", "spi=on", "x"]), "dtoverlay": .list(["q,z=1"])])
  }

  @Test func whatIsWrittenReadsBackSoThatNoTargetRebootsForEver() {
    var generator = SystemRandomNumberGenerator()
    let items = [
      "", "a", "a=1", "audio=off", "spi=on", "x,y", "x,audio=on,y=2", "i2c_arm=on,z", "vc4,audio=off", ",",
      "audio=on,", ",a", "a,,b", "vc4,,audio=off,",
    ]
    for _ in 0..<3000 {
      func list() -> BootValue {
        .list(
          (0..<Int.random(in: 0...4, using: &generator)).compactMap { _ in
            items.randomElement(using: &generator)
          })
      }
      var target: BootOptions = [:]
      if Bool.random() { target["dtparam"] = list() }
      if Bool.random() { target["dtoverlay"] = list() }
      if Bool.random() { target["gpio"] = list() }
      if Bool.random() { target["arm_freq"] = .text(items.randomElement(using: &generator) ?? "") }
      let normal = ConfigText.normalised(target)
      #expect(ConfigText.normalised(normal) == normal)
      let files = [
        pi, "", "dtoverlay=q,audio=on\n[pi3]\nx=1\n", "dtparam=,spi=on,\ndtoverlay=q,,z=1,\ndtparam=,\n",
      ]
      for text in files {
        let written = ConfigText(parsing: text).setting(normal)
        #expect(written.options == normal, "\(target) over \(text)")
        #expect(written.setting(normal).text == written.text)
        #expect(written.text.contains("[pi4]") == text.contains("[pi4]"))
      }
    }
  }
}

struct ExtlinuxTests {
  private static let file = """
    # NVIDIA's loader
    DEFAULT primary
    TIMEOUT 10
    MENU TITLE Boot Options

    LABEL primary
          MENU LABEL primary Image
          LINUX /Image
          APPEND ${cbootargs} root=UUID=1-2 ro rootwait isolcpus=3

    LABEL other
          APPEND isolcpus=7

    """

  @Test func theDefaultEntryIsRead() throws {
    #expect(try Extlinux(parsing: Self.file).options() == ["isolcpus": .text("3")])
  }

  @Test func aChangeLeavesAllOtherBytes() throws {
    let file = Extlinux(parsing: Self.file)
    #expect(try file.setting(try file.options()).text == Self.file)
    let changed = try file.setting(["isolcpus": .text("2"), "fdt": .text("/boot/my.dtb")])
    #expect(
      changed.text
        == Self.file.replacing("rootwait isolcpus=3\n", with: "rootwait isolcpus=2\n      FDT /boot/my.dtb\n")
    )
    #expect(try changed.options() == ["isolcpus": .text("2"), "fdt": .text("/boot/my.dtb")])
    #expect(try changed.setting(["isolcpus": .text("3")]).text == Self.file)
    #expect(try file.setting([:]).text == Self.file.replacing("rootwait isolcpus=3", with: "rootwait"))
  }

  @Test(arguments: [
    ("LABEL a\nAPPEND x\n", "Could not find default entry for extlinux.conf file"),
    ("DEFAULT b\nLABEL a\nAPPEND x\n", "Cannot find label entry (label: b) for extlinux.conf file"),
    ("DEFAULT a\nLABEL a\nLINUX x\n", "Could not find APPEND directive in default extlinux.conf boot entry"),
  ])
  func aFileThatCannotBootIsAnError(text: String, message: String) {
    #expect(throws: BootError(message)) { try Extlinux(parsing: text).options() }
  }

  @Test(
    arguments: [
      ("jetson-tx2", "2.46.0", true), ("jetson-tx2", "2.47.0", false), ("jetson-tx2", "2.47.0-rc1", true),
      ("jetson-tx2", "2.46.1+rev2", true), ("jetson-tx2", nil, false), ("raspberrypi4-64", "2.40.0", false),
      ("jetson-tx2", "nonsense", false),
    ] as [(String, String?, Bool)])
  func onlyOlderJetsonsUseIt(type: String, release: String?, isMatch: Bool) {
    #expect(ExtlinuxBackEnd.matches(type, release: release) == isMatch)
  }
}

struct ExtraUEnvTests {
  @Test func theExampleOfTheSpecificationIsWritten() {
    let file = ExtraUEnv(parsing: "extra_os_cmdline=rootwait isolcpus=3,4\nfoo=bar")
    #expect(file.options == ["isolcpus": .text("3,4")])
    #expect(
      file.setting(["fdt": .text("x.dtb"), "isolcpus": .text("2")]).text
        == "extra_os_cmdline=isolcpus=2\nfoo=bar\ncustom_fdt_file=x.dtb\n")
    #expect(file.setting([:]).text == "foo=bar\n")
  }

  @Test func commentsSurviveAndAreNotRead() {
    let text = "first=1\n# custom_fdt_file=no.dtb\n\ncustom_fdt_file=a.dtb\n#end\n"
    let file = ExtraUEnv(parsing: text)
    #expect(file.options == ["fdt": .text("a.dtb")])
    #expect(file.setting(file.options).text == text)
    #expect(
      file.setting(["fdt": .text("b.dtb")]).text
        == text.replacing("custom_fdt_file=a.dtb", with: "custom_fdt_file=b.dtb"))
    #expect(file.setting([:]).text == text.replacing("\ncustom_fdt_file=a.dtb\n", with: "\n"))
  }

  @Test(arguments: [
    ("jetson-nano", true), ("jetson-agx-orin", false), ("jetson-agx-orin-devkit", true),
    ("jetson-nano-2gb-devkit-emmc", false), ("tx2-tx2-device", false), ("imx6ul-var-dart", false),
    ("imx8m-var-som", false), ("iot-gate-imx8plus", true), ("iot-gate-imx8plus-d1d8-sb", false),
    ("jetson-orin-agx-nx-xavier-nx-devkit", false), ("imx8mm-var-som", true),
  ])
  func typesAreMatchedByTheirNames(type: String, isMatch: Bool) {
    #expect(ExtraUEnvBackEnd.matches(type) == isMatch)
  }
}

struct Base64Tests {
  @Test(arguments: [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")])
  func theVectorsOfTheStandardHold(plain: String, encoded: String) {
    #expect(Base64.encode(Array(plain.utf8)) == encoded)
    #expect(Base64.decode(encoded) == Array(plain.utf8))
  }

  @Test func anythingElseIsRefused() {
    #expect(Base64.decode("Zm9v!") == nil)
    #expect(Base64.decode("Zg==Zg==") == nil)
  }
}
