//! The first line of a script, read as the kernel reads it (execve(2), "Interpreter scripts").

/// What the kernel looks at.
pub(crate) const HEAD_BYTES: usize = 256;

/// The interpreter of a script, and the one argument that may follow it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FirstLine {
    pub(crate) interpreter: String,
    pub(crate) argument: Option<String>,
}

/// Reads the first line out of the first [`HEAD_BYTES`] of a file; `None` when it is no script.
pub(crate) fn first_line(head: &[u8]) -> Result<Option<FirstLine>, &'static str> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Ok(None) };
    let line = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => &rest[..end],
        None if head.len() < HEAD_BYTES => rest,
        None => return Err("the kernel reads no first line of more than 255 bytes: shorten it"),
    };
    let line = str::from_utf8(line).map_err(|_| "its first line is not UTF-8: name another interpreter")?;
    if line.contains('\0') {
        return Err("there is a zero byte in its first line: remove it");
    }
    let blank = [' ', '\t'];
    let line = line.trim_matches(blank);
    let (interpreter, argument) = match line.split_once(blank) {
        Some((interpreter, argument)) => (interpreter, Some(argument.trim_start_matches(blank).to_owned())),
        None => (line, None),
    };
    if interpreter.is_empty() {
        return Err("its first line names no interpreter: write one after #!");
    }
    Ok(Some(FirstLine { interpreter: interpreter.to_owned(), argument }))
}

/// What a first line that names `env` means by it: the program that `env` would search and execute. It is executed
/// directly, since `env` would choose it again by itself, unmeasured. `None` when another interpreter is named.
pub(crate) fn searched_by_env(line: &FirstLine) -> Result<Option<&str>, &'static str> {
    if !matches!(line.interpreter.as_str(), "/usr/bin/env" | "/bin/env") {
        return Ok(None);
    }
    match line.argument.as_deref() {
        Some(program) if !program.starts_with('-') && !program.contains(['=', ' ', '\t']) => {
            Ok(Some(program))
        }
        _ => Err("its first line gives more to env than the name of a program: name the interpreter itself"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(head: &str) -> Option<(String, Option<String>)> {
        first_line(head.as_bytes()).unwrap().map(|line| (line.interpreter, line.argument))
    }

    fn line(interpreter: &str, argument: Option<&str>) -> Option<(String, Option<String>)> {
        Some((interpreter.to_owned(), argument.map(str::to_owned)))
    }

    #[test]
    fn everything_after_the_interpreter_is_one_argument() {
        assert_eq!(read("#!/bin/sh\necho"), line("/bin/sh", None));
        assert_eq!(read("#! \t/bin/sh \t\n"), line("/bin/sh", None));
        assert_eq!(read("#!/usr/bin/python3 -E  -s \nx"), line("/usr/bin/python3", Some("-E  -s")));
        assert_eq!(read("#!/usr/bin/env\tpython3"), line("/usr/bin/env", Some("python3")));
        assert_eq!(read("#!/bin/sh\r\n"), line("/bin/sh\r", None));
        assert_eq!(read("\u{7f}ELF"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("# !/bin/sh\n"), None);
    }

    #[test]
    fn a_first_line_that_the_kernel_would_not_take_is_refused() {
        for head in ["#!\n", "#!", "#! \t\n", "#!/bin/s\0h\n"] {
            assert!(first_line(head.as_bytes()).is_err(), "{head:?}");
        }
        assert!(first_line(b"#!/bin/\xff\n").is_err());
        let long = format!("#!/{}", "x".repeat(HEAD_BYTES - 3));
        assert!(first_line(long.as_bytes()).is_err());
        assert!(first_line(&long.as_bytes()[..HEAD_BYTES - 1]).is_ok());
    }

    #[test]
    fn env_stands_for_the_program_that_it_would_search() {
        let env = |interpreter: &str, argument: Option<&str>| {
            let argument = argument.map(str::to_owned);
            searched_by_env(&FirstLine { interpreter: interpreter.into(), argument })
                .map(|found| found.map(str::to_owned))
        };
        assert_eq!(env("/usr/bin/env", Some("python3")), Ok(Some("python3".into())));
        assert_eq!(env("/bin/env", Some("python3")), Ok(Some("python3".into())));
        assert_eq!(env("/bin/sh", Some("-e")), Ok(None));
        for argument in [None, Some("-S python3 -u"), Some("A=b python3"), Some("python3 -u")] {
            assert!(env("/usr/bin/env", argument).is_err(), "{argument:?}");
        }
    }

    proptest! {
        #[test]
        fn any_head_is_read_without_a_panic(head in proptest::collection::vec(any::<u8>(), 0..HEAD_BYTES)) {
            let _any = first_line(&head);
            let _any = first_line(&[b"#!", head.as_slice()].concat());
        }
    }
}
