//! The shared libraries of a program, as its loader would choose them: the loader itself is asked, and does not run the
//! program (ld.so(8), `--list`).

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::output::{Bounds, Output, run};
use crate::sealed::SealedCopy;

const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), bytes: 1 << 20 };
/// The program as the loader finds it; a library below that folder was found relative to the program.
const STANDARD_INPUT: &str = "/proc/self/fd/0";
const RELATIVE_TO_PROGRAM: &str = "/proc/self/fd/";
/// Every line about a library begins with a tab; others are remarks.
const LIBRARY_LINE: char = '\t';
const NOT_FOUND: &str = "not found";
/// What the kernel maps by itself begins like this (vdso(7)).
const MAPPED_BY_KERNEL: [&str; 2] = ["linux-vdso", "linux-gate"];
const MAX_REASON_CHARACTERS: usize = 300;

/// The paths of the libraries. `name` is the path of the loader, of which `loader` is a copy.
pub(crate) fn list(
    loader: &SealedCopy,
    name: &str,
    program: &SealedCopy,
    directory: &Path,
) -> Result<Vec<String>, String> {
    let mut command = Command::new(loader.path());
    // It names itself among the libraries by what it is called here.
    command.arg0(name).args(["--list", STANDARD_INPUT]).env_clear().current_dir(directory);
    command.stdin(program.stdin().map_err(|error| error.to_string())?);
    let Output { status, said } = run(command, BOUNDS).map_err(|error| error.to_string())?;
    let said = String::from_utf8(said).map_err(|_| "a path is not UTF-8".to_owned())?;
    if !status.success() {
        return Err(reason(&said).unwrap_or_else(|| status.to_string()));
    }
    parse(&said)
}

fn reason(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.contains(NOT_FOUND)).or(said.lines().next())?;
    Some(line.trim().chars().take(MAX_REASON_CHARACTERS).collect())
}

fn parse(said: &str) -> Result<Vec<String>, String> {
    let lines = said.lines().filter_map(|line| line.strip_prefix(LIBRARY_LINE));
    lines.filter_map(|line| library(line).transpose()).collect()
}

fn library(line: &str) -> Result<Option<String>, String> {
    if line == "statically linked" {
        return Ok(None);
    }
    let unknown = || format!("it says {line:?}");
    if let Some((library, NOT_FOUND)) = line.split_once(" => ") {
        return Err(format!("{library} is not found"));
    }
    let (library, _address) =
        line.strip_suffix(')').and_then(|line| line.rsplit_once(" (0x")).ok_or_else(unknown)?;
    let path = library.split_once(" => ").map_or(library, |(_, path)| path);
    if path.starts_with(RELATIVE_TO_PROGRAM) {
        return Err(format!("{library} is looked for relative to the program"));
    }
    if path.contains('/') {
        Ok(Some(path.to_owned()))
    } else if MAPPED_BY_KERNEL.iter().any(|name| path.starts_with(name)) {
        Ok(None)
    } else {
        Err(unknown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_as_the_gnu_loader_writes_them() {
        let said = "\tlinux-vdso.so.1 (0x00007f18ab91b000)\n\
                    \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f18ab71c000)\n\
                    a remark\n\
                    \t./lib/libown.so (0x00007f18ab71c000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 => /lib64/ld-linux-x86-64.so.2 (0x00007f18ab91d000)\n";
        assert_eq!(
            parse(said).unwrap(),
            ["/lib/x86_64-linux-gnu/libm.so.6", "./lib/libown.so", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert_eq!(parse("\tstatically linked\n").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn libraries_are_read_as_the_musl_loader_writes_them() {
        let said = "\t/lib/ld-musl-x86_64.so.1 (0x7f0e4b1c5000)\n\
                    \tlibc.musl-x86_64.so.1 => /lib/ld-musl-x86_64.so.1 (0x7f0e4b1c5000)\n";
        assert_eq!(parse(said).unwrap(), ["/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-x86_64.so.1"]);
    }

    #[test]
    fn nothing_that_the_loader_says_of_a_library_is_passed_over() {
        for (line, reason) in [
            ("\tlibfoo.so => not found", "libfoo.so is not found"),
            ("\tlibfoo.so (0x00007f18ab91b000)", "it says \"libfoo.so (0x00007f18ab91b000)\""),
            ("\tlibfoo.so => /lib/libfoo.so", "it says \"libfoo.so => /lib/libfoo.so\""),
            (
                "\tlibfoo.so => /proc/self/fd/../../lib/libfoo.so (0x1)",
                "libfoo.so => /proc/self/fd/../../lib/libfoo.so is looked for relative to the program",
            ),
        ] {
            assert_eq!(parse(&format!("\tlibm.so => /libm.so (0x1)\n{line}\n")), Err(reason.into()));
        }
    }

    #[test]
    fn the_reason_of_a_failure_is_what_is_missing() {
        let said = "0: error while loading shared libraries: libfoo.so: cannot open\n";
        assert_eq!(reason(said).unwrap(), said.trim());
        assert_eq!(
            reason("\tlibc.so => /libc.so (0x1)\n\tlibfoo.so => not found\n").unwrap(),
            "libfoo.so => not found"
        );
        assert_eq!(reason(""), None);
    }
}
