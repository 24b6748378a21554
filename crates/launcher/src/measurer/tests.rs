//! With real files and real child processes.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use expect_test::expect;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use super::*;
use crate::{EnvironmentError, confine};

/// Set in a process that runs one test alone, so that it may replace or confine itself.
const ALONE: &str = "LAUNCHER_TEST_ALONE";

/// A folder with programs, and a measurer of them.
struct Workshop {
    folder: TempDir,
    measurer: Measurer,
}

impl Workshop {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), measurer: Measurer::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
        std::fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
    }

    /// Puts another file in the place of one, as a build or an installation does.
    fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write("successor", content);
        std::fs::rename(self.path("successor"), self.path(name)).unwrap();
    }

    fn program(&self, arguments: &[&str]) -> Program {
        program_in(self.folder.path(), arguments)
    }

    fn measure(&mut self, arguments: &[&str]) -> Measured {
        let program = self.program(arguments);
        self.measurer.measure(&program).unwrap()
    }

    fn digest(&mut self, arguments: &[&str]) -> [u8; 32] {
        self.measure(arguments).workload_digest()
    }

    /// Why the program is not measured, one line.
    fn refusal(&mut self, arguments: &[&str]) -> String {
        self.refusal_of(&self.program(arguments))
    }

    fn refusal_of(&mut self, program: &Program) -> String {
        let error = self.measurer.measure(program).unwrap_err().to_string();
        format!("{}\n", error.replace(self.folder.path().to_str().unwrap(), "FOLDER"))
    }
}

fn program_in(folder: &Path, arguments: &[&str]) -> Program {
    Program {
        service: "infer".into(),
        launcher: [1; 32],
        arguments: strings(arguments),
        environment: BTreeMap::new(),
        directory: Directory { path: folder.to_owned(), hashed: "infer".into() },
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn run(measured: &Measured, arguments: &[&str]) -> Output {
    measured.command(&strings(arguments), &BTreeMap::new()).unwrap().output().unwrap()
}

fn said(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs one test of this binary in a process of its own.
fn alone(test: &str, folder: &Path) -> Output {
    alone_command(test, folder).output().unwrap()
}

fn alone_command(test: &str, folder: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", &format!("measurer::tests::{test}"), "--nocapture"]).env(ALONE, folder);
    command
}

#[cfg(target_arch = "x86_64")]
fn exit_code(status: u8) -> (u64, Vec<u8>) {
    // mov edi, status; mov eax, 60 (exit); syscall
    (62, vec![0xbf, status, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05])
}

#[cfg(target_arch = "aarch64")]
fn exit_code(status: u8) -> (u64, Vec<u8>) {
    // mov x0, status; mov x8, 93 (exit); svc 0
    let instructions = [0xd280_0000_u32 | u32::from(status) << 5, 0xd280_0ba8, 0xd400_0001];
    (183, instructions.into_iter().flat_map(u32::to_le_bytes).collect())
}

/// A statically linked program that ends at once with that status: an ELF header, one program header, three instructions.
fn ends_with(status: u8) -> Vec<u8> {
    let (machine, code) = exit_code(status);
    let mut file = vec![0; 120];
    let mut put = |offset: usize, bytes: usize, value: u64| {
        file[offset..offset + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    };
    const ADDRESS: u64 = 0x40_0000;
    let length = 120 + code.len() as u64;
    for (offset, bytes, value) in [
        // ELF, 64 bits, little endian, version 1; an executable; its entry and its program header
        (0, 8, 0x0001_0102_464c_457f),
        (16, 2, 2),
        (18, 2, machine),
        (20, 4, 1),
        (24, 8, ADDRESS + 120),
        (32, 8, 64),
        (52, 2, 64),
        (54, 2, 56),
        (56, 2, 1),
        // loaded whole, to be read and executed
        (64, 4, 1),
        (68, 4, 5),
        (80, 8, ADDRESS),
        (88, 8, ADDRESS),
        (96, 8, length),
        (104, 8, length),
        (112, 8, 0x1000),
    ] {
        put(offset, bytes, value);
    }
    file.extend(code);
    file
}

#[test]
fn the_same_program_in_another_place_is_the_same_workload() {
    let (mut one, mut two) = (Workshop::new(), Workshop::new());
    for workshop in [&one, &two] {
        workshop.write("infer", std::fs::read("/bin/cat").unwrap());
        workshop.write("model", "weights");
    }
    let digest = one.digest(&["./infer", "model"]);
    assert_eq!(two.digest(&["./infer", "model"]), digest);
    assert_ne!(two.digest(&["./infer", "./model"]), digest);
    assert_ne!(two.digest(&["./infer"]), digest);
    let mut elsewhere = two.program(&["./infer", "model"]);
    elsewhere.directory.hashed = "other".into();
    assert_ne!(two.measurer.measure(&elsewhere).unwrap().workload_digest(), digest);
    let absolute = two.path("infer");
    assert_ne!(two.digest(&[absolute.to_str().unwrap(), "model"]), digest);
}

#[test]
fn everything_that_decides_what_a_program_does_changes_its_workload() {
    let mut workshop = Workshop::new();
    workshop.write("infer", "#!./interpreter\n1");
    workshop.write("interpreter", ends_with(7));
    workshop.write("model", "one");
    let arguments = ["./infer", "model", "--port=$SERVICEOS_PORT"];
    let mut seen = vec![workshop.digest(&arguments)];
    workshop.write("infer", "#!./interpreter\n2");
    seen.push(workshop.digest(&arguments));
    workshop.replace("interpreter", ends_with(8));
    seen.push(workshop.digest(&arguments));
    workshop.write("model", "other");
    seen.push(workshop.digest(&arguments));
    std::fs::remove_file(workshop.path("model")).unwrap();
    seen.push(workshop.digest(&arguments));
    seen.push(workshop.digest(&["./infer", "model", "--sort=$SERVICEOS_PORT"]));
    let changes: [fn(&mut Program); 5] = [
        |program| program.environment.insert("A".into(), "1".into()).map_or((), drop),
        |program| program.environment.insert("A".into(), "2".into()).map_or((), drop),
        |program| program.directory.hashed = "infer2".into(),
        |program| program.launcher[0] ^= 1,
        |program| program.service = "infer2".into(),
    ];
    for change in changes {
        let mut program = workshop.program(&arguments);
        change(&mut program);
        seen.push(workshop.measurer.measure(&program).unwrap().workload_digest());
    }
    let number = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), number);
}

#[test]
fn a_workload_names_what_is_loaded_and_read_besides_the_executable() {
    let mut workshop = Workshop::new();
    let cat = std::fs::read("/bin/cat").unwrap();
    workshop.write("infer", &cat);
    workshop.write("model", "weights");
    std::fs::create_dir(workshop.path("folder")).unwrap();
    let model = workshop.path("model");
    let arguments = ["./infer", "model", "model", "folder", "missing", "", model.to_str().unwrap()];
    let measured = workshop.measure(&arguments);
    let Workload { executable, mut files, .. } = measured.workload().clone();
    assert_eq!(executable, mesh_protocol::sha256(&cat));
    assert_eq!(files.remove("infer/model"), Some(mesh_protocol::sha256(b"weights")));
    assert_eq!(files.remove(model.to_str().unwrap()), Some(mesh_protocol::sha256(b"weights")));
    // The loader and the C library at least.
    assert!(files.len() >= 2, "{files:?}");
    assert!(files.keys().any(|path| path.contains("libc")), "{files:?}");
    for (path, digest) in files {
        assert_eq!(mesh_protocol::sha256(&std::fs::read(path).unwrap()), digest);
    }
}

#[test]
fn libraries_are_chosen_without_the_environment_of_the_process_that_measures() {
    let libraries = |folder: &Path| {
        let measured = Measurer::new().measure(&program_in(folder, &["/bin/cat"])).unwrap();
        measured.workload().files.keys().map(PathBuf::from).collect::<Vec<_>>()
    };
    if let Some(folder) = std::env::var_os(ALONE) {
        let found = libraries(Path::new(&folder));
        assert!(found.iter().all(|path| !path.starts_with(&folder)), "{found:?}");
        return;
    }
    let workshop = Workshop::new();
    for library in libraries(workshop.folder.path()) {
        std::fs::copy(&library, workshop.path(library.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    let test = "libraries_are_chosen_without_the_environment_of_the_process_that_measures";
    let mut command = alone_command(test, workshop.folder.path());
    let output = command.env("LD_LIBRARY_PATH", workshop.folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_program_that_is_replaced_after_it_was_measured_does_not_run() {
    let mut workshop = Workshop::new();
    workshop.write("infer", ends_with(7));
    let measured = workshop.measure(&["./infer"]);
    workshop.replace("infer", ends_with(8));
    assert_eq!(run(&measured, &[]).status.code(), Some(7));

    let replaced = workshop.measure(&["./infer"]);
    assert_ne!(replaced.workload_digest(), measured.workload_digest());
    // Written in place, and one byte is all that differs.
    workshop.write("infer", ends_with(9));
    assert_eq!(run(&replaced, &[]).status.code(), Some(8));
    let written = workshop.measure(&["./infer"]);
    assert_ne!(written.workload_digest(), replaced.workload_digest());
    assert_eq!(run(&written, &[]).status.code(), Some(9));

    std::fs::remove_file(workshop.path("infer")).unwrap();
    assert_eq!(run(&measured, &[]).status.code(), Some(7));
    assert_eq!(run(&measured, &[]).status.code(), Some(7));
}

#[test]
fn a_script_that_is_replaced_after_it_was_measured_does_not_run() {
    let mut workshop = Workshop::new();
    workshop.write("infer", "#!/bin/sh\necho measured");
    let measured = workshop.measure(&["./infer"]);
    workshop.replace("infer", "#!/bin/sh\necho replaced");
    assert_eq!(said(run(&measured, &[])), "measured\n");
    workshop.write("infer", "#!/bin/sh\necho written");
    assert_eq!(said(run(&measured, &[])), "measured\n");
    assert_eq!(said(run(&workshop.measure(&["./infer"]), &[])), "written\n");
}

#[test]
fn an_interpreter_that_is_replaced_after_it_was_measured_does_not_run() {
    let mut workshop = Workshop::new();
    workshop.write("interpreter", ends_with(7));
    workshop.write("infer", "#!./interpreter");
    let measured = workshop.measure(&["./infer"]);
    workshop.replace("interpreter", ends_with(8));
    assert_eq!(run(&measured, &[]).status.code(), Some(7));
}

#[test]
fn a_dynamic_program_runs_as_a_child_with_its_arguments_environment_and_directory() {
    let mut workshop = Workshop::new();
    workshop.write("infer", std::fs::read("/bin/sh").unwrap());
    let measured = workshop.measure(&["./infer"]);
    let environment = BTreeMap::from([("SERVICEOS_PORT".to_owned(), "8080".to_owned())]);
    let script =
        "echo $0 $1 $SERVICEOS_PORT; [ \"$(pwd -P)\" = \"$2\" ] && echo here; echo ${CARGO_PKG_NAME-none}";
    let folder = workshop.folder.path().canonicalize().unwrap();
    let arguments = strings(&["-c", script, "zero", "one", folder.to_str().unwrap()]);
    let output = measured.command(&arguments, &environment).unwrap().output().unwrap();
    assert_eq!(said(output), "zero one 8080\nhere\nnone\n");
    // Without a name of its own, the shell says what it was called.
    assert_eq!(said(run(&measured, &["-c", "echo $0"])), "./infer\n");
}

#[test]
fn a_child_inherits_the_copy_of_a_script_and_no_other() {
    let test = "a_child_inherits_the_copy_of_a_script_and_no_other";
    // Alone, since scripts of other tests would be inherited too.
    let Some(folder) = std::env::var_os(ALONE) else {
        let workshop = Workshop::new();
        workshop.write("infer", "#!/bin/sh\nfor file in /proc/$$/fd/*; do /bin/readlink $file; done; true");
        let output = alone(test, workshop.folder.path());
        assert!(output.status.success(), "{output:?}");
        return;
    };
    let mut measurer = Measurer::new();
    let mut memory_files = |arguments: &[&str], more: &[&str]| {
        let measured = measurer.measure(&program_in(Path::new(&folder), arguments)).unwrap();
        let links = said(run(&measured, more));
        assert!(links.contains("pipe:"), "{links}");
        links.matches("memfd:").count()
    };
    let script = Path::new(&folder).join("infer");
    assert_eq!(memory_files(&["/bin/sh"], &[script.to_str().unwrap()]), 0);
    // The script, and the shell's own descriptor of it.
    assert_eq!(memory_files(&["./infer"], &[]), 2);
    assert_eq!(memory_files(&["/bin/sh"], &[script.to_str().unwrap()]), 0);
}

#[test]
fn a_script_runs_with_its_interpreter_and_sees_its_arguments() {
    let mut workshop = Workshop::new();
    workshop.write("infer", "#!/bin/sh -e\nfalse || echo \"$#: $1, $2\"\nfalse\necho not reached");
    let measured = workshop.measure(&["./infer"]);
    let output = run(&measured, &["one two", "$HOME"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "2: one two, $HOME\n");
    assert!(measured.workload().files.contains_key("/bin/sh"));
}

#[test]
fn the_interpreter_of_a_script_may_be_a_script() {
    let mut workshop = Workshop::new();
    workshop.write("outer", "#!./inner -x\n");
    workshop.write("inner", "#!/bin/sh\necho \"$1 $3\"; cat \"$2\"\n");
    let measured = workshop.measure(&["./outer"]);
    let output = said(
        measured
            .command(&strings(&["one"]), &BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]))
            .unwrap()
            .output()
            .unwrap(),
    );
    assert_eq!(output, "-x one\n#!./inner -x\n");
    assert!(measured.workload().files.contains_key("infer/inner"));

    for number in 0..5 {
        workshop.write(&format!("s{number}"), format!("#!./s{}\n", number + 1));
    }
    workshop.write("s5", ends_with(7));
    assert_eq!(run(&workshop.measure(&["./s1"]), &[]).status.code(), Some(7));
    expect![[r#"
        FOLDER/s4 cannot be executed: too many interpreters are scripts themselves: name one that is a program
    "#]]
    .assert_eq(&workshop.refusal(&["./s0"]));
}

#[test]
fn the_program_that_env_would_search_is_measured_and_executed() {
    let mut workshop = Workshop::new();
    workshop.write("infer", "#!/usr/bin/env interpreter\n");
    workshop.write("interpreter", ends_with(7));
    let mut program = workshop.program(&["./infer"]);
    let folder = workshop.folder.path().to_str().unwrap().to_owned();
    program.environment.insert("PATH".into(), format!("/nowhere:{folder}"));
    let measured = workshop.measurer.measure(&program).unwrap();
    assert_eq!(run(&measured, &[]).status.code(), Some(7));
    assert_eq!(measured.workload().files.keys().collect::<Vec<_>>(), [&format!("{folder}/interpreter")]);
}

#[test]
fn a_static_program_takes_the_place_of_the_process() {
    if let Some(folder) = std::env::var_os(ALONE) {
        let program = program_in(Path::new(&folder), &["./infer"]);
        let measured = Measurer::new().measure(&program).unwrap();
        panic!("{}", measured.command(&[], &BTreeMap::new()).unwrap().exec());
    }
    let workshop = Workshop::new();
    workshop.write("infer", ends_with(7));
    let output = alone("a_static_program_takes_the_place_of_the_process", workshop.folder.path());
    assert_eq!(output.status.code(), Some(7), "{output:?}");
}

#[test]
fn a_script_takes_the_place_of_the_process() {
    if let Some(folder) = std::env::var_os(ALONE) {
        let program = program_in(Path::new(&folder), &["./infer"]);
        let measured = Measurer::new().measure(&program).unwrap();
        panic!("{}", measured.command(&strings(&["one"]), &BTreeMap::new()).unwrap().exec());
    }
    let workshop = Workshop::new();
    workshop.write("infer", "#!/bin/sh\necho replaced by \"$1\"\nexit 9");
    let output = alone("a_script_takes_the_place_of_the_process", workshop.folder.path());
    assert_eq!(output.status.code(), Some(9), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("replaced by one\n"));
}

#[test]
fn a_confined_process_and_what_it_executes_dump_no_core_and_may_have_huge_pages() {
    if let Some(folder) = std::env::var_os(ALONE) {
        let allowed = getrlimit(Resource::Core).maximum;
        setrlimit(Resource::Core, Rlimit { current: allowed, maximum: allowed }).unwrap();
        rustix::thread::disable_transparent_huge_pages(true).unwrap();
        confine().unwrap();
        assert!(!rustix::thread::transparent_huge_pages_are_disabled().unwrap());
        let program = program_in(Path::new(&folder), &["./infer"]);
        let measured = Measurer::new().measure(&program).unwrap();
        let arguments = strings(&["/proc/self/limits"]);
        panic!("{}", measured.command(&arguments, &BTreeMap::new()).unwrap().exec());
    }
    let workshop = Workshop::new();
    workshop.write("infer", std::fs::read("/bin/cat").unwrap());
    let test = "a_confined_process_and_what_it_executes_dump_no_core_and_may_have_huge_pages";
    let limits = said(alone(test, workshop.folder.path()));
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
}

#[test]
fn the_digest_of_the_running_program_is_that_of_its_file() {
    let mut measurer = Measurer::new();
    let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(measurer.own_digest().unwrap(), mesh_protocol::sha256(&file));
    assert_eq!(measurer.own_digest().unwrap(), mesh_protocol::sha256(&file));
}

#[test]
fn a_program_that_is_the_same_is_copied_once() {
    let mut workshop = Workshop::new();
    workshop.measurer.files = Files::trusting();
    workshop.write("infer", ends_with(7));
    let (one, two) = (workshop.measure(&["./infer"]), workshop.measure(&["./infer", "x"]));
    assert_eq!(one.image.copy.path(), two.image.copy.path());
    workshop.replace("infer", ends_with(8));
    let three = workshop.measure(&["./infer"]);
    assert_ne!(one.image.copy.path(), three.image.copy.path());
    assert_eq!(run(&three, &[]).status.code(), Some(8));
}

#[test]
fn variables_that_choose_code_are_refused_at_both_ends() {
    let mut workshop = Workshop::new();
    workshop.write("infer", ends_with(7));
    let mut program = workshop.program(&["./infer"]);
    let environment = BTreeMap::from([("LD_PRELOAD".to_owned(), "./evil.so".to_owned())]);
    let refused = EnvironmentError::Refused("LD_PRELOAD".into());
    let measured = workshop.measure(&["./infer"]);
    assert_eq!(measured.command(&[], &environment).unwrap_err(), refused);
    program.environment = environment;
    let error = workshop.measurer.measure(&program).unwrap_err();
    assert!(matches!(error, MeasureError::Environment(found) if found == refused));
}

#[test]
fn a_program_that_cannot_be_found_is_named_with_where_it_was_looked_for() {
    let mut workshop = Workshop::new();
    let mut program = workshop.program(&["infer"]);
    program.environment.insert("PATH".into(), "/nowhere:bin".into());
    let refusals = [
        workshop.refusal(&[]),
        workshop.refusal(&[""]),
        workshop.refusal(&["./infer"]),
        workshop.refusal(&["nobody-has-this"]),
        workshop.refusal_of(&program),
    ];
    expect![[r#"
        the command is empty: write the program first, then its arguments
        the command is empty: write the program first, then its arguments
        "./infer" was not found (there is no FOLDER/infer): build or install it, or correct its path
        "nobody-has-this" was not found (searched in /usr/local/bin:/usr/bin:/bin, the default PATH, as its environment has none; one in the working directory is written ./nobody-has-this): build or install it, or correct its path
        "infer" was not found (searched in /nowhere:bin, the PATH of its environment; one in the working directory is written ./infer): build or install it, or correct its path
    "#]]
    .assert_eq(&refusals.concat());
}

#[test]
fn a_name_is_searched_as_a_shell_would() {
    let mut workshop = Workshop::new();
    for folder in ["one", "two", "three"] {
        std::fs::create_dir(workshop.path(folder)).unwrap();
    }
    workshop.write("one/infer", "not executable");
    std::fs::set_permissions(workshop.path("one/infer"), Permissions::from_mode(0o644)).unwrap();
    workshop.write("two/infer", ends_with(7));
    workshop.write("three/infer", ends_with(8));
    let mut program = workshop.program(&["infer"]);
    program.environment.insert("PATH".into(), "nowhere:one:two:three".into());
    assert_eq!(run(&workshop.measurer.measure(&program).unwrap(), &[]).status.code(), Some(7));
    program.environment.insert("PATH".into(), "nowhere:one".into());
    let error = workshop.measurer.measure(&program).unwrap_err();
    assert!(matches!(error, MeasureError::NotExecutable { .. }), "{error}");
}

#[test]
fn what_cannot_be_executed_is_refused_with_what_to_do() {
    let mut workshop = Workshop::new();
    workshop.write("infer", ends_with(7));
    std::fs::set_permissions(workshop.path("infer"), Permissions::from_mode(0o644)).unwrap();
    symlink("loop", workshop.path("loop")).unwrap();
    workshop.write("script", "echo no first line\n");
    let files = ["./infer", "./", "/dev/null", "./loop", "./script"];
    let refusals = files.map(|file| workshop.refusal(&[file]));
    expect![[r#"
        FOLDER/infer is not executable: set its executable bit (chmod +x), and see that its file system is not mounted noexec
        FOLDER is a directory, and only a regular file can be run: name a file
        /dev/null is a device, pipe or socket, and only a regular file can be run: name a file
        FOLDER/loop cannot be read, and only what can be read can be measured: Too many levels of symbolic links (os error 40); give this user the right to read it
        FOLDER/script cannot be executed: it is neither a program (ELF) nor a script: begin a script with #! and its interpreter
    "#]]
    .assert_eq(&refusals.concat());
}

#[test]
fn a_script_whose_interpreter_cannot_be_used_is_refused() {
    let mut workshop = Workshop::new();
    let lines = [
        "#!/nowhere/python3 -u",
        "#!python3",
        "#!/dev",
        "#!/usr/bin/env -S python3 -u",
        "#!/usr/bin/env nobody-has-this",
    ];
    let refusals = lines.map(|line| {
        workshop.write("script", line);
        workshop.refusal(&["./script"])
    });
    expect![[r#"
        the script FOLDER/script names an interpreter that cannot be used: "/nowhere/python3" was not found (there is no /nowhere/python3): build or install it, or correct its path
        the script FOLDER/script names an interpreter that cannot be used: "python3" was not found (there is no FOLDER/python3): build or install it, or correct its path
        the script FOLDER/script names an interpreter that cannot be used: /dev is a directory, and only a regular file can be run: name a file
        FOLDER/script cannot be executed: its first line gives more to env than the name of a program: name the interpreter itself
        the script FOLDER/script names an interpreter that cannot be used: "nobody-has-this" was not found (searched in /usr/local/bin:/usr/bin:/bin, the default PATH, as its environment has none; one in the working directory is written ./nobody-has-this): build or install it, or correct its path
    "#]]
    .assert_eq(&refusals.concat());
}

#[test]
fn a_program_whose_libraries_cannot_be_told_is_refused() {
    let mut workshop = Workshop::new();
    let cat = std::fs::read("/bin/cat").unwrap();
    let library = cat.windows(10).position(|bytes| bytes == b"libc.so.6\0").unwrap();
    let mut without = cat.clone();
    without[library..library + 9].copy_from_slice(b"libx.so.0");
    workshop.write("infer", without);
    let program = workshop.program(&["./infer"]);
    let error = workshop.measurer.measure(&program).unwrap_err().to_string();
    assert!(error.contains("libx.so.0"), "{error}");

    let path = cat.windows(4).position(|bytes| bytes == b"/lib").unwrap();
    let mut without = cat;
    without[path..path + 4].copy_from_slice(b"/bil");
    workshop.write("infer", without);
    let error = workshop.measurer.measure(&program).unwrap_err().to_string();
    assert!(error.contains("/bil") && error.contains("was not found"), "{error}");
}

#[test]
fn a_working_directory_that_cannot_be_one_is_refused() {
    let mut workshop = Workshop::new();
    workshop.write("infer", ends_with(7));
    let mut refusal = |path: &Path, hashed: &str| {
        let mut program = workshop.program(&["./infer"]);
        program.directory = Directory { path: path.to_owned(), hashed: hashed.to_owned() };
        let refused = workshop.measurer.measure(&program).err();
        refused.map(|error| match error {
            MeasureError::Directory { reason, .. } => reason,
            other => panic!("{other}"),
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    assert!(refusal(&gone, "x").unwrap().contains("create it"));
    assert!(refusal(Path::new("relative"), "x").unwrap().contains("not absolute"));
    assert!(refusal(Path::new("/dev/null"), "x").unwrap().contains("no directory"));
    assert!(refusal(folder.path(), "/srv").unwrap().contains("/srv"));
}

#[test]
fn more_files_than_are_allowed_in_arguments_are_refused() {
    let mut workshop = Workshop::new();
    workshop.write("infer", ends_with(7));
    let names: Vec<_> = (0..65).map(|number| format!("file{number}")).collect();
    for name in &names {
        workshop.write(name, "x");
    }
    let arguments: Vec<_> = std::iter::once("./infer").chain(names.iter().map(String::as_str)).collect();
    assert_eq!(workshop.measure(&arguments[..65]).workload().files.len(), 64);
    expect![[r#"
        the program has too many files to measure: files that arguments name may be 64
    "#]]
    .assert_eq(&workshop.refusal(&arguments));
}
