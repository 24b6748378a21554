//! Files that are read by others while they are written, for their owner alone.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Written beside and renamed, so that nobody reads half of it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().ok_or_else(|| std::io::Error::from(ErrorKind::IsADirectory))?;
    let beside = path.with_file_name(format!(".{}.{}.new", name.display(), std::process::id()));
    let mut new = OpenOptions::new();
    new.write(true).create_new(true).mode(0o600);
    let mut file = match new.open(&beside) {
        // Left by a crash of an earlier process of this number.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            std::fs::remove_file(&beside)?;
            new.open(&beside)?
        }
        opened => opened?,
    };
    let written = file.write_all(bytes).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _gone_already = std::fs::remove_file(&beside).is_err();
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("web.ticket"), folder.path().join("web.new"));
        std::fs::write(&other, "mine").unwrap();
        let left = folder.path().join(format!(".web.ticket.{}.new", std::process::id()));
        std::fs::write(left, "of a crash").unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read(&other).unwrap(), b"mine");
        let taken = folder.path().join("folder");
        std::fs::create_dir(&taken).unwrap();
        assert!(replace(&taken, b"three").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
