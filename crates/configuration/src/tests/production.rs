//! What production wants to have written, and what it refuses.

use expect_test::expect;
use types::Mode;

use super::{check, read};
use crate::{Overrides, PlatformAllow, any_config, load};

const WHOLE: &str = "mode: production
trustDomain: mesh.example.org
services:
  vrf:
    attestation:
      releases:
        - {version: 1.0.0, sgx: {mrenclave: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
      platform: {allow: any}
  infer:
    command: [./infer]
    attestation:
      releases:
        - {version: 1.0.0, sgx: {mrsigner: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, prodId: 3, minSvn: 1}}
      platform: {allow: [00112233445566778899aabbccddeeff]}
  legacy: {endpoints: [\"http://10.0.0.5\"], attestation: none}
";

#[test]
fn a_file_that_says_all_of_it_is_valid() {
    let settings = read(WHOLE).unwrap();
    assert_eq!((settings.mode, settings.trust_domain.as_str()), (Mode::Production, "mesh.example.org"));
    let process = settings.services[0].process().unwrap();
    assert_eq!(process.attestation.platform.allow, PlatformAllow::Any);
}

#[test]
fn a_file_that_says_nothing_is_told_all_of_it() {
    check(
        "mode: production\nservices:\n  vrf:\n  infer: {command: [./infer], attestation: {identityTtl: 1h}}\n  legacy: {endpoints: [\"http://a\"]}\n",
        expect![[r#"
            serviceos.yaml:1:7: trustDomain: production needs a trust domain of its own
              1 | mode: production
                |       ^^^^^^^^^^
            help: write `trustDomain: mesh.example.org`, a name of your own that stays: every identity carries it

            serviceos.yaml:3:3: services.vrf: production starts nothing without a policy
              3 |   vrf:
                |   ^^^
            help: write `attestation: {releases: [{version: 1.0.0, sgx: {mrenclave: …}}], platform: {allow: any}}`

            serviceos.yaml:4:44: services.infer.attestation.releases: production measures nothing by itself
              4 |   infer: {command: [./infer], attestation: {identityTtl: 1h}}
                |                                            ^
            help: write `releases: [{version: 1.0.0, sgx: {mrenclave: …}}]`

            serviceos.yaml:4:44: services.infer.attestation.platform.allow: in production the file says which machines may run it
              4 |   infer: {command: [./infer], attestation: {identityTtl: 1h}}
                |                                            ^
            help: write `platform: {allow: any}`, or a list of hardware ids

            serviceos.yaml:5:3: services.legacy: nobody attests endpoints, and the file must say so
              5 |   legacy: {endpoints: ["http://a"]}
                |   ^^^^^^
            help: write `attestation: none` beside them"#]],
    );
}

#[test]
fn the_option_alone_makes_it_production() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serviceos.yaml");
    std::fs::write(&path, "services: {vrf: }\n").unwrap();
    let overrides = Overrides { mode: Some("production".to_owned()), ..Overrides::default() };
    let report = load(&path, &overrides, any_config).unwrap_err().to_string();
    expect![[r#"
        --mode: trustDomain: production needs a trust domain of its own
        help: write `trustDomain: mesh.example.org`, a name of your own that stays: every identity carries it

        FOLDER/serviceos.yaml:1:12: services.vrf: production starts nothing without a policy
          1 | services: {vrf: }
            |            ^^^
        help: write `attestation: {releases: [{version: 1.0.0, sgx: {mrenclave: …}}], platform: {allow: any}}`"#]].assert_eq(&report.replace(&folder.path().display().to_string(), "FOLDER"));
}

#[test]
fn nothing_of_development_is_taken() {
    let text = WHOLE
        .replace("mesh.example.org", "mesh.dev.invalid")
        .replace("{version: 1.0.0, sgx: {mrenclave:", "{version: 1.0.0, simulated: {w:")
        .replace("command: [./infer]", "builtin: datafeed\n    config: {allowLoopback: [\"127.0.0.1:1\"]}")
        + "  oracle: {config: {allowLoopback: []}, attestation: none}\n";
    check(
        &text,
        expect![[r#"
        serviceos.yaml:2:14: trustDomain: what ends in .dev.invalid is a trust domain of development, found `mesh.dev.invalid`
          2 | trustDomain: mesh.dev.invalid
            |              ^^^^^^^^^^^^^^^^
        help: write `trustDomain: mesh.example.org`, a name of your own that stays: every identity carries it

        serviceos.yaml:7:39: services.vrf.attestation.releases[0].simulated: simulated evidence proves nothing, and production takes none
          7 |         - {version: 1.0.0, simulated: {w: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
            |                                       ^
        help: leave it out

        serviceos.yaml:11:13: services.infer.config.allowLoopback: ports of this machine are opened in development only, and production refuses it
          11 |     config: {allowLoopback: ["127.0.0.1:1"]}
             |             ^
        help: leave it out

        serviceos.yaml:17:20: services.oracle.config.allowLoopback: ports of this machine are opened in development only, and production refuses it
          17 |   oracle: {config: {allowLoopback: []}, attestation: none}
             |                    ^
        help: leave it out

        serviceos.yaml:17:54: services.oracle.attestation: in production a plain server may run a service that nobody attests, but this version cannot start one there
          17 |   oracle: {config: {allowLoopback: []}, attestation: none}
             |                                                      ^^^^
        help: write the releases, or run the service elsewhere and name it by `endpoints`"#]],
    );
}

#[test]
fn a_command_has_a_config_of_its_own() {
    let text = WHOLE.replace("command: [./infer]", "command: [./infer]\n    config: {allowLoopback: true}");
    assert!(read(&text).is_ok());
}

#[test]
fn a_mode_that_is_none_is_the_only_thing_wrong() {
    let report = read("mode: prod\ntrustDomain: example.org\nservices: {vrf: }").unwrap_err();
    assert_eq!(report.count(), 1, "{report}");
}
