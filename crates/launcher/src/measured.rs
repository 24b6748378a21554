//! A program that was measured, and the command that executes exactly what was measured.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use mesh_protocol::Workload;

use crate::program::{EnvironmentError, check_environment};
use crate::sealed::{Inherited, SealedCopy};

/// A program that was measured. It holds the copies that are executed.
#[derive(Debug)]
pub struct Measured {
    pub(crate) workload: Workload,
    pub(crate) directory: PathBuf,
    pub(crate) image: Image,
}

/// What the kernel is told to execute.
#[derive(Debug)]
pub(crate) struct Image {
    /// The program, or the interpreter of a script.
    pub(crate) copy: Arc<SealedCopy>,
    /// What it is called in its own arguments.
    pub(crate) name: String,
    /// What an interpreter is given before the arguments of the script: the script itself, and what its first line says.
    pub(crate) arguments: Vec<String>,
    /// The scripts, which the interpreter opens after it was executed.
    pub(crate) scripts: Vec<Inherited>,
}

impl Measured {
    /// Everything that was measured.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// W, the digest of the workload.
    pub fn workload_digest(&self) -> [u8; 32] {
        self.workload.digest()
    }

    /// The sealed copy of the program, for another process to execute; `None` for a script, which is more than one file.
    pub fn sealed(&self) -> Option<BorrowedFd<'_>> {
        self.image.scripts.is_empty().then(|| self.image.copy.descriptor())
    }

    /// What another process has measured and sealed.
    ///
    /// # Errors
    /// The copy is not sealed, so that it need not be what was measured.
    pub(crate) fn received(
        workload: Workload,
        directory: PathBuf,
        name: String,
        sealed: OwnedFd,
    ) -> io::Result<Self> {
        let copy = Arc::new(SealedCopy::received(sealed)?);
        let image = Image { copy, name, arguments: Vec::new(), scripts: Vec::new() };
        Ok(Self { workload, directory, image })
    }

    /// The command that executes what was measured, with arguments (without the program's own name) and an environment in
    /// which `$SERVICEOS_…` is expanded. Nothing of this process's environment is inherited. It can be executed in the
    /// place of this process or as a child, and only while the `Measured` is kept.
    ///
    /// # Errors
    /// The environment is checked again, since the caller may have added to it.
    pub fn command(
        &self,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
    ) -> Result<Command, EnvironmentError> {
        check_environment(environment)?;
        let mut command = Command::new(self.image.copy.path());
        command
            .arg0(&self.image.name)
            .args(&self.image.arguments)
            .args(arguments)
            .env_clear()
            .envs(environment)
            .current_dir(&self.directory);
        Ok(command)
    }
}
