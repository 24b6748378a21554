//! Measures programs: everything that decides what one does when it starts becomes its workload.

use std::collections::BTreeMap;
use std::path::Path;

use mesh_protocol::Workload;

use crate::files::{self, Allowance, Copied, Files};
use crate::locate::{self, Found};
use crate::measured::{Image, Measured};
use crate::program::{Directory, Place, Program, check_environment};
use crate::{MeasureError, elf, libraries, script};

/// How often the interpreter of a script may be a script itself; the kernel allows about as many.
const MAX_SCRIPTS: usize = 4;
/// The running program, even when the file was replaced or removed meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Measures programs, and remembers what it read of files for as long as they stay the same. It waits for the disk and for
/// the loaders of programs, so it belongs on a thread that may wait.
pub struct Measurer {
    files: Files,
    own: Option<[u8; 32]>,
}

/// The files that a program is made of besides its executable, by what the workload calls them.
type Measurements = BTreeMap<String, [u8; 32]>;

impl Default for Measurer {
    fn default() -> Self {
        Self::new()
    }
}

impl Measurer {
    /// One that has read nothing yet.
    pub fn new() -> Self {
        Self { files: Files::new(), own: None }
    }

    /// SHA-256 of the program that runs this, read once.
    pub fn own_digest(&mut self) -> Result<[u8; 32], MeasureError> {
        if let Some(digest) = self.own {
            return Ok(digest);
        }
        let path = Path::new(THIS_PROGRAM);
        let file =
            files::open(path).map_err(|source| MeasureError::Unreadable { path: path.to_owned(), source })?;
        Ok(*self.own.insert(files::digest(path, &file)?))
    }

    /// Measures a program as it is at this moment, and keeps what is to be executed.
    pub fn measure(&mut self, program: &Program) -> Result<Measured, MeasureError> {
        let written = program.arguments.first().filter(|written| !written.is_empty());
        let written = written.ok_or(MeasureError::Empty)?;
        check_environment(&program.environment)?;
        check_directory(&program.directory)?;

        let found = locate::command(program, written)?;
        let executable = self.files.copy(&found.place.path, &found.file)?;
        let digest = executable.digest;
        let mut measurements = Measurements::new();
        let (image, place) =
            self.interpreters(program, written, found.place, executable, &mut measurements)?;
        self.libraries(program, &image, &place, &mut measurements)?;
        self.arguments(program, &mut measurements)?;
        let workload = Workload {
            service: program.service.clone(),
            launcher: program.launcher,
            executable: digest,
            arguments: program.arguments.clone(),
            environment: program.environment.clone(),
            directory: program.directory.hashed.clone(),
            files: measurements,
        };
        Ok(Measured { workload, directory: program.directory.path.clone(), image })
    }

    /// What the kernel executes for an executable: itself, or for a script the interpreter, with the arguments that the
    /// kernel would put in front (execve(2)).
    fn interpreters(
        &mut self,
        program: &Program,
        written: &str,
        mut place: Place,
        executable: Copied,
        measurements: &mut Measurements,
    ) -> Result<(Image, Place), MeasureError> {
        let (copy, name) = (executable.copy, written.to_owned());
        let mut image = Image { copy, name, arguments: Vec::new(), scripts: Vec::new() };
        while let Some(line) = first_line(&image, &place)? {
            if image.scripts.len() == MAX_SCRIPTS {
                let problem = "too many interpreters are scripts themselves: name one that is a program";
                return Err(MeasureError::Format { path: place.path, problem });
            }
            let (name, argument, found) = interpreter(program, line, &place)?;
            let copied = self.files.copy(&found.place.path, &found.file)?;
            measurements.insert(found.place.name.clone(), copied.digest);
            let script = image
                .copy
                .inherited()
                .map_err(|source| MeasureError::Copy { path: place.path.clone(), source })?;
            image.arguments.splice(0..0, argument.into_iter().chain([script.path()]));
            image.scripts.push(script);
            (image.copy, image.name, place) = (copied.copy, name, found.place);
        }
        Ok((image, place))
    }

    /// The loader of shared libraries that the kernel opens for the program, and the libraries that it chooses.
    fn libraries(
        &mut self,
        program: &Program,
        image: &Image,
        place: &Place,
        measurements: &mut Measurements,
    ) -> Result<(), MeasureError> {
        let loader = elf::loader(|buffer, offset| image.copy.read_exact_at(buffer, offset));
        let loader = loader.map_err(|problem| MeasureError::Format { path: place.path.clone(), problem })?;
        let Some(name) = loader else { return Ok(()) };
        let failed =
            |reason| MeasureError::Loader { loader: name.clone(), program: place.path.clone(), reason };
        let found = locate::path(program, &name).map_err(|error| failed(error.to_string()))?;
        let loader = self.files.copy(&found.place.path, &found.file)?;
        measurements.insert(found.place.name, loader.digest);
        let libraries = libraries::list(&loader.copy, &name, &image.copy, &program.directory.path);
        let mut allowance = Allowance::libraries();
        for library in libraries.map_err(failed)? {
            self.hash(program.place(&library), &mut allowance, measurements)?;
        }
        Ok(())
    }

    /// The files that arguments name, such as the script in `python3 server.py`.
    fn arguments(&mut self, program: &Program, measurements: &mut Measurements) -> Result<(), MeasureError> {
        let mut allowance = Allowance::arguments();
        for argument in &program.arguments[1..] {
            let place = program.place(argument);
            if place.path.metadata().is_ok_and(|metadata| metadata.is_file()) {
                self.hash(place, &mut allowance, measurements)?;
            }
        }
        Ok(())
    }

    fn hash(
        &mut self,
        place: Place,
        allowance: &mut Allowance,
        measurements: &mut Measurements,
    ) -> Result<(), MeasureError> {
        if measurements.contains_key(&place.name) {
            return Ok(());
        }
        let file = files::open(&place.path)
            .map_err(|source| MeasureError::Unreadable { path: place.path.clone(), source })?;
        let digest = self.files.digest(&place.path, &file, allowance)?;
        measurements.insert(place.name, digest);
        Ok(())
    }
}

fn first_line(image: &Image, place: &Place) -> Result<Option<script::FirstLine>, MeasureError> {
    let head = image.copy.head(script::HEAD_BYTES);
    let head = head.map_err(|source| MeasureError::Unreadable { path: place.path.clone(), source })?;
    script::first_line(&head).map_err(|problem| MeasureError::Format { path: place.path.clone(), problem })
}

/// The interpreter of a script: what it is called, its argument, and its file.
fn interpreter(
    program: &Program,
    line: script::FirstLine,
    script: &Place,
) -> Result<(String, Option<String>, Found), MeasureError> {
    let format = |problem| MeasureError::Format { path: script.path.clone(), problem };
    let missing =
        |source| MeasureError::Interpreter { script: script.path.clone(), source: Box::new(source) };
    if let Some(searched) = script::searched_by_env(&line).map_err(format)? {
        let found = locate::command(program, searched).map_err(missing)?;
        return Ok((searched.to_owned(), None, found));
    }
    // Unlike the program of a command, an interpreter is never searched.
    let found = locate::path(program, &line.interpreter).map_err(missing)?;
    Ok((line.interpreter, line.argument, found))
}

fn check_directory(directory: &Directory) -> Result<(), MeasureError> {
    let path = &directory.path;
    let refused = |reason: String| Err(MeasureError::Directory { path: path.clone(), reason });
    if !path.is_absolute() {
        return refused("it is not absolute: write it from / on".into());
    }
    // Or else two files could have one name in the workload.
    let hashed = Path::new(&directory.hashed);
    if hashed.is_absolute() && hashed != path {
        return refused(format!(
            "it is measured as {}: measure it as what it is, or as a relative path",
            directory.hashed
        ));
    }
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => refused("it is no directory: name one".into()),
        Err(error) => refused(format!("{error}: create it, or name another one")),
    }
}

#[cfg(test)]
mod tests;
