//! Finds an executable and opens it, once: what is opened here is what is measured.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::program::{Place, Program};
use crate::{MeasureError, files};

/// Where a bare name is searched when the environment of the program has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// An executable, opened.
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) file: File,
}

/// The executable that a command means: a path if there is a slash in it, or else a name to be searched.
pub(crate) fn command(program: &Program, written: &str) -> Result<Found, MeasureError> {
    if written.contains('/') { path(program, written) } else { search(program, written) }
}

/// The executable at a path.
pub(crate) fn path(program: &Program, written: &str) -> Result<Found, MeasureError> {
    let place = program.place(written);
    match open(&place.path)? {
        Some(file) => Ok(Found { place, file }),
        None => Err(MeasureError::NotFound {
            program: written.to_owned(),
            searched: format!("there is no {}", place.path.display()),
        }),
    }
}

/// The first of that name in `PATH` that can be executed, as execvp(3) searches.
fn search(program: &Program, name: &str) -> Result<Found, MeasureError> {
    let folders = program.environment.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let mut problem = None;
    for folder in folders.split(':') {
        let written = Path::new(folder).join(name);
        let place = program.place(written.to_str().expect("two texts joined are a text"));
        match open(&place.path) {
            Ok(Some(file)) => return Ok(Found { place, file }),
            Ok(None) => {}
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    let origin = if program.environment.contains_key("PATH") {
        "the PATH of its environment"
    } else {
        "the default PATH, as its environment has none"
    };
    Err(problem.unwrap_or_else(|| MeasureError::NotFound {
        program: name.to_owned(),
        searched: format!(
            "searched in {folders}, {origin}; one in the working directory is written ./{name}"
        ),
    }))
}

/// Opens an executable; `None` when there is none.
fn open(path: &Path) -> Result<Option<File>, MeasureError> {
    let file = match files::open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(source) => return Err(MeasureError::Unreadable { path: path.to_owned(), source }),
    };
    let metadata = file.metadata();
    let metadata = metadata.map_err(|source| MeasureError::Unreadable { path: path.to_owned(), source })?;
    let not_a_file = |what| Err(MeasureError::NotAFile { path: path.to_owned(), what });
    if metadata.is_dir() {
        return not_a_file("a directory");
    }
    if !metadata.is_file() {
        return not_a_file("a device, pipe or socket");
    }
    // Through the descriptor, since the name may mean another file by now.
    let opened = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if rustix::fs::access(&opened, Access::EXEC_OK).is_err() {
        return Err(MeasureError::NotExecutable { path: path.to_owned() });
    }
    Ok(Some(file))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
