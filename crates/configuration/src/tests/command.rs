//! Services that run a program of the operator's own, and who may call whom.

use std::path::Path;

use expect_test::expect;
use types::{ByteSize, ServiceName};

use super::{check, read};
use crate::{CommandSettings, ConfigReload, Cpus, Probe, Program, Protocol, Resources, Settings};

fn command(settings: &Settings) -> &CommandSettings {
    match &settings.services[0].process().unwrap().program {
        Program::Command(command) => command,
        Program::Builtin(_) | Program::Elsewhere => panic!("no command"),
    }
}

fn reported(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn a_command_alone_works_where_the_file_is_with_an_empty_environment() {
    let settings = read("services: {infer: {command: [infer]}}").unwrap();
    let expected = CommandSettings {
        arguments: vec!["infer".to_owned()],
        environment: [].into(),
        directory: "/srv/mesh".into(),
        directory_text: ".".to_owned(),
        resources: Resources::default(),
    };
    assert_eq!(command(&settings), &expected);
    let service = &settings.services[0];
    assert_eq!((service.replicas(), service.protocol), (1, Protocol::Http1));
    let paths: Vec<_> = service.routes.iter().map(|route| route.path.as_str()).collect();
    assert_eq!(paths, ["/infer", "/infer/{*rest}"]);
}

#[test]
fn a_working_directory_is_kept_as_it_is_written() {
    for (written, directory) in
        [("models", "/srv/mesh/models"), ("./a/./b/", "/srv/mesh/a/b"), ("/opt/x", "/opt/x")]
    {
        let settings =
            read(&format!("services: {{a: {{command: [a], workingDirectory: {written}}}}}")).unwrap();
        let command = command(&settings);
        assert_eq!(
            (command.directory.as_path(), command.directory_text.as_str()),
            (Path::new(directory), written)
        );
    }
}

#[test]
fn a_command_takes_the_place_of_the_built_in_service_of_that_name() {
    let settings = read("services: {vrf: {command: [./vrf], config: {any: thing}}}").unwrap();
    assert_eq!(command(&settings).arguments, ["./vrf"]);
    assert_eq!(settings.services[0].routes[0].path, "/v1/random");
}

#[test]
fn a_command_speaks_what_endpoints_may_speak() {
    for (word, protocol) in [("http1", Protocol::Http1), ("http2", Protocol::Http2), ("grpc", Protocol::Grpc)]
    {
        let settings = read(&format!("services: {{a: {{command: [a], protocol: {word}}}}}")).unwrap();
        assert_eq!(settings.services[0].protocol, protocol);
        assert_eq!(settings.services[0].health_check.probe == Probe::Grpc, word == "grpc");
    }
}

#[test]
fn what_is_wrong_with_a_command_is_said_at_each() {
    check(
        "services:
  a: {command: []}
  b: {command: }
  c: {command: [\"\", x, \"a\\0b\"]}
  d: {command: [d], builtin: vrf}
  e: {command: [e], workingDirectory: \"\"}
  vrf: {env: {RUST_LOG: debug}, workingDirectory: here}
  f: {env: {RUST_LOG: debug}}
",
        expect![[r#"
            serviceos.yaml:2:16: services.a.command: expected a program and its arguments, 1 to 256, found 0
              2 |   a: {command: []}
                |                ^
            help: write `["./infer", "--listen", "$SERVICEOS_LISTEN"]`

            serviceos.yaml:3:14: services.b.command: expected a program and its arguments, 1 to 256, found 0
              3 |   b: {command: }
                |              ^
            help: write `["./infer", "--listen", "$SERVICEOS_LISTEN"]`

            serviceos.yaml:4:17: services.c.command[0]: expected text that is not empty and has no zero byte, found ``
              4 |   c: {command: ["", x, "a\0b"]}
                |                 ^^

            serviceos.yaml:4:24: services.c.command[2]: expected text that is not empty and has no zero byte, found `a�b`
              4 |   c: {command: ["", x, "a\0b"]}
                |                        ^^^^^^

            serviceos.yaml:5:30: services.d.builtin: a service runs a built-in one or a command, not both
              5 |   d: {command: [d], builtin: vrf}
                |                              ^^^
            help: keep one of the two

            serviceos.yaml:6:39: services.e.workingDirectory: expected a path, found ``
              6 |   e: {command: [e], workingDirectory: ""}
                |                                       ^^

            serviceos.yaml:7:14: services.vrf.env: only a service with `command` has this
              7 |   vrf: {env: {RUST_LOG: debug}, workingDirectory: here}
                |              ^
            help: leave `env` out

            serviceos.yaml:7:51: services.vrf.workingDirectory: only a service with `command` has this
              7 |   vrf: {env: {RUST_LOG: debug}, workingDirectory: here}
                |                                                   ^^^^
            help: leave `workingDirectory` out

            serviceos.yaml:8:3: services.f: nothing says what it runs
              8 |   f: {env: {RUST_LOG: debug}}
                |   ^
            help: the built-in services are vrf, datafeed and oracle; `builtin: vrf` chooses one under this name, `command` starts a program of your own, `attestation.releases` alone admits what `serviceos exec` starts elsewhere, and `endpoints` calls servers that run elsewhere

            serviceos.yaml:8:12: services.f.env: only a service with `command` has this
              8 |   f: {env: {RUST_LOG: debug}}
                |            ^
            help: leave `env` out"#]],
    );
    check(
        "services: {a: {command: ./infer --listen}}\n",
        expect![[r#"
        serviceos.yaml:1:25: expected a list
          1 | services: {a: {command: ./infer --listen}}
            |                         ^^^^^^^^^^^^^^^^
        help: write `[one, two]`, or one `- item` line each"#]],
    );
    check(
        "services: {a: {command: [infer, [x]]}}\n",
        expect![[r#"
        serviceos.yaml:1:33: expected a single value, found a list or a mapping
          1 | services: {a: {command: [infer, [x]]}}
            |                                 ^"#]],
    );
}

#[test]
fn a_command_has_at_most_256_arguments() {
    let file =
        |count: usize| format!("services:\n  a:\n    command:\n      [{}]\n", vec!["x"; count].join(", "));
    assert_eq!(command(&read(&file(256)).unwrap()).arguments.len(), 256);
    check(
        &file(257),
        expect![[r#"
        serviceos.yaml:4:7: services.a.command: expected a program and its arguments, 1 to 256, found 257
          4 |       [x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x,…
            |       ^
        help: write `["./infer", "--listen", "$SERVICEOS_LISTEN"]`"#]],
    );
}

#[test]
fn variables_that_choose_code_or_are_the_system_s_own_are_refused() {
    check(
        "services:
  a:
    command: [a]
    env:
      LD_PRELOAD: x.so
      GLIBC_TUNABLES: x
      SERVICEOS_LISTEN: x
      \"\": x
      A=B: x
      \"a b\": x
      OK: \"a\\0b\"
      1: x
      \"1\": y
      LD: fine
      discovery.type: fine
",
        expect![[r#"
            serviceos.yaml:5:7: services.a.env.LD_PRELOAD: this variable chooses code that no measurement would show
              5 |       LD_PRELOAD: x.so
                |       ^^^^^^^^^^
            help: leave it out, and install libraries where the loader looks for them

            serviceos.yaml:6:7: services.a.env.GLIBC_TUNABLES: this variable chooses code that no measurement would show
              6 |       GLIBC_TUNABLES: x
                |       ^^^^^^^^^^^^^^
            help: leave it out, and install libraries where the loader looks for them

            serviceos.yaml:7:7: services.a.env.SERVICEOS_LISTEN: serviceos itself sets what begins with SERVICEOS_
              7 |       SERVICEOS_LISTEN: x
                |       ^^^^^^^^^^^^^^^^
            help: choose another name; in a value, `$SERVICEOS_LISTEN` stands for the address

            serviceos.yaml:8:7: services.a.env: expected the name of a variable such as RUST_LOG, found ``
              8 |       "": x
                |       ^^
            help: a name is 1 to 256 visible ASCII characters without `=`

            serviceos.yaml:9:7: services.a.env: expected the name of a variable such as RUST_LOG, found `A=B`
              9 |       A=B: x
                |       ^^^
            help: a name is 1 to 256 visible ASCII characters without `=`

            serviceos.yaml:10:7: services.a.env: expected the name of a variable such as RUST_LOG, found `a b`
              10 |       "a b": x
                 |       ^^^^^
            help: a name is 1 to 256 visible ASCII characters without `=`

            serviceos.yaml:11:11: services.a.env.OK: expected text that has no zero byte, found `a�b`
              11 |       OK: "a\0b"
                 |           ^^^^^^

            serviceos.yaml:13:7: services.a.env: `1` is written twice
              13 |       "1": y
                 |       ^^^
            help: keep one of the two"#]],
    );
}

#[test]
fn an_environment_has_at_most_256_variables() {
    let file = |count: usize| {
        let variables: Vec<_> = (0..count).map(|at| format!("V{at}: x")).collect();
        format!("services:\n  a:\n    command: [a]\n    env:\n      {{{}}}\n", variables.join(", "))
    };
    assert_eq!(command(&read(&file(256)).unwrap()).environment.len(), 256);
    check(
        &file(257),
        expect![[r#"
        serviceos.yaml:5:7: services.a.env: expected at most 256 variables, found 257
          5 |       {V0: x, V1: x, V2: x, V3: x, V4: x, V5: x, V6: x, V7: x, V8: x, V9: x, V10: x, V11: x, V12: x, V13: x, V14: x, V15…
            |       ^"#]],
    );
}

#[test]
fn callers_are_services_of_the_file() {
    let settings = read("services: {vrf: {allow: [oracle, vrf]}, oracle: }").unwrap();
    let callers: Vec<_> =
        settings.services[0].process().unwrap().allow.iter().map(ServiceName::as_str).collect();
    assert_eq!(callers, ["oracle", "vrf"]);
    check(
        "services:
  vrf: {allow: [orcale, gateway, oracle, oracle]}
  oracle:
",
        expect![[r#"
            serviceos.yaml:2:17: services.vrf.allow: there is no service `orcale`
              2 |   vrf: {allow: [orcale, gateway, oracle, oracle]}
                |                 ^^^^^^
            help: did you mean `oracle`?

            serviceos.yaml:2:25: services.vrf.allow: there is no service `gateway`
              2 |   vrf: {allow: [orcale, gateway, oracle, oracle]}
                |                         ^^^^^^^
            help: name services of this file

            serviceos.yaml:2:42: services.vrf.allow: `oracle` is written twice
              2 |   vrf: {allow: [orcale, gateway, oracle, oracle]}
                |                                          ^^^^^^
            help: keep one of the two"#]],
    );
}

#[test]
fn a_name_that_stands_for_nothing_is_found_before_anything_starts() {
    check(
        "services:
  a:
    command: [$SERVICEOS_X, --port=$SERVICEOS_PROT, \"${SERVICEOS_}\", \"${SERVICEOS_X:-1} $HOME $$SERVICEOS_MESH\"]
    env: {A: $SERVICEOS_SECRET_DIR, B: $SERVICEOS_LISTEN$SERVICEOS_PORT}
",
        expect![[r#"
            serviceos.yaml:3:29: services.a.command[1]: `$SERVICEOS_PROT` stands for nothing
              3 |     command: [$SERVICEOS_X, --port=$SERVICEOS_PROT, "${SERVICEOS_}", "${SERVICEOS_X:-1} $HOME $$SERVICEOS_MESH"]
                |                             ^^^^^^^^^^^^^^^^^^^^^^
            help: did you mean `$SERVICEOS_PORT`?

            serviceos.yaml:3:53: services.a.command[2]: `$SERVICEOS_` stands for nothing
              3 |     command: [$SERVICEOS_X, --port=$SERVICEOS_PROT, "${SERVICEOS_}", "${SERVICEOS_X:-1} $HOME $$SERVICEOS_MESH"]
                |                                                     ^^^^^^^^^^^^^^^
            help: there is `SERVICEOS_LISTEN`, `SERVICEOS_PORT`, `SERVICEOS_SECRETS_DIR`, `SERVICEOS_CONFIG` or `SERVICEOS_MESH`, each with a `$` before it

            serviceos.yaml:4:14: services.a.env.A: `$SERVICEOS_SECRET_DIR` stands for nothing
              4 |     env: {A: $SERVICEOS_SECRET_DIR, B: $SERVICEOS_LISTEN$SERVICEOS_PORT}
                |              ^^^^^^^^^^^^^^^^^^^^^
            help: did you mean `$SERVICEOS_SECRETS_DIR`?"#]],
    );
}

#[test]
fn in_production_a_command_has_no_port() {
    let report = reported("mode: production\nservices: {a: {command: [a, $SERVICEOS_PORT]}}\n");
    assert!(
        report.contains("services.a.command[1]: there is no `$SERVICEOS_PORT` in production"),
        "{report}"
    );
}

#[test]
fn a_command_and_its_environment_are_at_most_128_kib() {
    // The program, the argument, and the variable with its `=`, each with what ends it.
    let file = |bytes: usize| {
        format!("services: {{a: {{command: [a, {}], env: {{B: c}}}}}}\n", "x".repeat(bytes - 2 - 1 - 4))
    };
    assert_eq!(command(&read(&file(128 << 10)).unwrap()).arguments.len(), 2);
    let report = reported(&file((128 << 10) + 1));
    assert!(report.contains("expected at most 131072 bytes together with `env`, found 131073"), "{report}");
}

#[test]
fn releases_alone_are_replicas_that_are_started_elsewhere() {
    let w = "w: \"0101010101010101010101010101010101010101010101010101010101010101\"";
    let releases = format!("attestation: {{releases: [{{version: 1.0.0, simulated: {{{w}}}}}]}}");
    let settings =
        read(&format!("services:\n  infer: {{protocol: http2, replicas: 2, {releases}}}\n")).unwrap();
    let process = settings.services[0].process().unwrap();
    assert_eq!((&process.program, process.replicas), (&Program::Elsewhere, 2));
    assert_eq!(settings.services[0].protocol, Protocol::Http2);
    let builtin = read(&format!("services:\n  vrf: {{{releases}}}\n")).unwrap();
    assert!(matches!(builtin.services[0].process().unwrap().program, Program::Builtin(_)));
    check(
        &format!(
            "services:\n  infer: {{restart: {{min: 1s}}, drain: {{grace: 1s}}, env: {{A: b}}, {releases}}}\n"
        ),
        expect![[r#"
            serviceos.yaml:2:20: services.infer.restart: its replicas are started and stopped elsewhere, by `serviceos exec`
              2 |   infer: {restart: {min: 1s}, drain: {grace: 1s}, env: {A: b}, attestation: {releases: [{version: 1.0.0, simulated: {w:…
                |                    ^
            help: leave `restart` out, or write `command` to have them started here

            serviceos.yaml:2:46: services.infer.drain.grace: its replicas are started and stopped elsewhere, by `serviceos exec`
              2 | …er: {restart: {min: 1s}, drain: {grace: 1s}, env: {A: b}, attestation: {releases: [{version: 1.0.0, simulated: {w: "0101…
                |                                          ^^
            help: leave `drain.grace` out, or write `command` to have them started here

            serviceos.yaml:2:56: services.infer.env: only a service with `command` has this
              2 | …rt: {min: 1s}, drain: {grace: 1s}, env: {A: b}, attestation: {releases: [{version: 1.0.0, simulated: {w: "01010101010101…
                |                                          ^
            help: leave `env` out"#]],
    );
}

#[test]
fn only_a_program_of_the_operators_own_is_told_of_its_config_by_a_signal() {
    let settings = read("services: {a: {command: [a], configReload: signal}, b: {command: [b]}}").unwrap();
    let reloads: Vec<_> =
        settings.services.iter().map(|service| service.process().unwrap().config_reload).collect();
    assert_eq!(reloads, [ConfigReload::Signal, ConfigReload::File]);
    check(
        "services:
  vrf: {configReload: file}
  a: {command: [a], configReload: sighup}
",
        expect![[r#"
            serviceos.yaml:2:23: services.vrf.configReload: a built-in service is told of its `config` by itself
              2 |   vrf: {configReload: file}
                |                       ^^^^
            help: leave `configReload` out

            serviceos.yaml:3:35: services.a.configReload: expected `file` or `signal`, found `sighup`
              3 |   a: {command: [a], configReload: sighup}
                |                                   ^^^^^^"#]],
    );
}

#[test]
fn a_config_is_at_most_what_fits_into_one_message() {
    let file = |bytes: usize| {
        // As JSON it stands in quotes, behind a key of one letter.
        let text = "x".repeat(bytes - r#"{"a":""}"#.len());
        format!("services: {{a: {{command: [a], config: {{a: {text}}}}}}}\n")
    };
    assert!(read(&file(960 << 10)).is_ok());
    let report = reported(&file((960 << 10) + 1));
    assert!(report.contains("expected at most 983040 bytes of JSON, found 983041"), "{report}");
}

#[test]
fn what_a_replica_may_use_is_said_in_sizes_processors_and_numbers() {
    let resources = |text: &str| {
        let settings = read(&format!("services: {{a: {{command: [a], resources: {text}}}}}")).unwrap();
        command(&settings).resources
    };
    let all = Resources { memory: Some(ByteSize(2 << 30)), cpus: Some(Cpus(1500)), open_files: Some(4096) };
    assert_eq!(resources("{memory: 2GiB, cpus: 1.5, openFiles: 4096}"), all);
    assert_eq!(resources("{memory: 2048MiB, cpus: 1.50, openFiles: 4096}"), all);
    assert_eq!(resources(""), Resources::default());
    assert_eq!(resources("{cpus: 2}").cpus, Some(Cpus(2000)));
    assert_eq!([Cpus(2000), Cpus(1500), Cpus(10)].map(|cpus| cpus.to_string()), ["2", "1.5", "0.01"]);
}

#[test]
fn what_is_wrong_with_resources_is_said_at_each() {
    check(
        "services:
  a: {command: [a], resources: {memory: 2GB, cpus: 500m, openFiles: many}}
  b: {command: [b], resources: {memory: 1MiB, cpus: 0, openFiles: 3}}
  c: {command: [c], resources: {memroy: 1GiB, cpus: \"2\"}}
  vrf: {resources: {cpus: 1}}
  d: {endpoints: [\"http://d\"], attestation: none, resources: {cpus: 1}}
",
        expect![[r#"
            serviceos.yaml:2:41: services.a.resources.memory: expected a size such as 512B, 64KiB or 1MiB, found `2GB`
              2 |   a: {command: [a], resources: {memory: 2GB, cpus: 500m, openFiles: many}}
                |                                         ^^^
            help: the units are B, KiB, MiB and GiB, right after a whole number

            serviceos.yaml:2:52: services.a.resources.cpus: expected a number of processors from 0.01 to 1024, such as 2 or 1.5, found `500m`
              2 |   a: {command: [a], resources: {memory: 2GB, cpus: 500m, openFiles: many}}
                |                                                    ^^^^
            help: write 0.5 for 500 thousandths of a processor

            serviceos.yaml:2:69: services.a.resources.openFiles: expected a whole number from 64 to 1048576, found `many`
              2 |   a: {command: [a], resources: {memory: 2GB, cpus: 500m, openFiles: many}}
                |                                                                     ^^^^

            serviceos.yaml:3:41: services.b.resources.memory: expected a size from 16MiB to 16384GiB, found `1MiB`
              3 |   b: {command: [b], resources: {memory: 1MiB, cpus: 0, openFiles: 3}}
                |                                         ^^^^

            serviceos.yaml:3:53: services.b.resources.cpus: expected a number of processors from 0.01 to 1024, such as 2 or 1.5, found `0`
              3 |   b: {command: [b], resources: {memory: 1MiB, cpus: 0, openFiles: 3}}
                |                                                     ^

            serviceos.yaml:3:67: services.b.resources.openFiles: expected a whole number from 64 to 1048576, found `3`
              3 |   b: {command: [b], resources: {memory: 1MiB, cpus: 0, openFiles: 3}}
                |                                                                   ^

            serviceos.yaml:4:33: unknown key `memroy`
              4 |   c: {command: [c], resources: {memroy: 1GiB, cpus: "2"}}
                |                                 ^^^^^^
            help: did you mean `memory`?

            serviceos.yaml:4:53: services.c.resources.cpus: expected a number of processors from 0.01 to 1024, such as 2 or 1.5, found `2`
              4 |   c: {command: [c], resources: {memroy: 1GiB, cpus: "2"}}
                |                                                     ^^^
            help: take the quotes off: 2

            serviceos.yaml:5:20: services.vrf.resources: only a service with `command` has this
              5 |   vrf: {resources: {cpus: 1}}
                |                    ^
            help: leave `resources` out

            serviceos.yaml:6:62: services.d.resources: endpoints are not started here
              6 |   d: {endpoints: ["http://d"], attestation: none, resources: {cpus: 1}}
                |                                                              ^
            help: leave `resources` out"#]],
    );
}
