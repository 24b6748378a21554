use std::io::{Seek, SeekFrom, Write};
use std::time::SystemTime;

use super::*;

fn copy(files: &mut Files, path: &Path) -> Copied {
    files.copy(path, &open(path).unwrap()).unwrap()
}

fn hash(files: &mut Files, path: &Path, allowance: &mut Allowance) -> Result<[u8; 32], MeasureError> {
    files.digest(path, &open(path).unwrap(), allowance)
}

fn sha256(content: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&SHA256, content).as_ref().try_into().unwrap()
}

#[test]
fn a_copy_and_its_digest_are_the_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("infer");
    for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 3] {
        let content: Vec<u8> = (0..length).map(|index| (index / 7) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let copied = copy(&mut Files::new(), &path);
        assert_eq!(copied.digest, sha256(&content));
        assert!(std::fs::read(copied.copy.path()).unwrap() == content);
        assert_eq!(hash(&mut Files::new(), &path, &mut Allowance::arguments()).unwrap(), copied.digest);
    }
}

#[test]
fn a_file_is_read_once_for_as_long_as_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("infer");
    std::fs::write(&path, "one").unwrap();
    let mut files = Files::trusting();
    let first = copy(&mut files, &path);
    assert!(Arc::ptr_eq(&first.copy, &copy(&mut files, &path).copy));
    assert_eq!(hash(&mut files, &path, &mut Allowance::arguments()).unwrap(), first.digest);

    std::fs::write(&path, "other").unwrap();
    assert_eq!(copy(&mut files, &path).digest, sha256(b"other"));

    let successor = folder.path().join("new");
    std::fs::write(&successor, "third").unwrap();
    std::fs::rename(&successor, &path).unwrap();
    let third = copy(&mut files, &path);
    assert_eq!(third.digest, sha256(b"third"));
    assert!(Arc::ptr_eq(&third.copy, &copy(&mut files, &path).copy));
}

#[test]
fn a_file_that_was_only_hashed_is_copied_when_it_is_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("infer");
    std::fs::write(&path, "one").unwrap();
    let mut files = Files::trusting();
    hash(&mut files, &path, &mut Allowance::arguments()).unwrap();
    assert_eq!(std::fs::read(copy(&mut files, &path).copy.path()).unwrap(), b"one");
}

#[test]
fn a_file_that_was_just_changed_is_read_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("infer");
    std::fs::write(&path, "one").unwrap();
    let mut files = Files::new();
    let first = copy(&mut files, &path);
    assert!(!Arc::ptr_eq(&first.copy, &copy(&mut files, &path).copy));
    // The same length, and perhaps the same tick of the clock.
    std::fs::write(&path, "two").unwrap();
    assert_eq!(copy(&mut files, &path).digest, sha256(b"two"));
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("infer");
    std::fs::write(&path, "one").unwrap();
    let before = State::of(&path, &open(&path).unwrap()).unwrap();
    std::fs::write(&path, "longer").unwrap();
    let after = State::of(&path, &open(&path).unwrap()).unwrap();
    let entry = || Entry { digest: [0; 32], copy: None };
    let mut cache = Cache::trusting();
    assert!(matches!(cache.keep(&path, &before, &after, entry()), Err(MeasureError::Changed { .. })));
    assert!(cache.get(&path, &after).is_none());
    cache.keep(&path, &after, &after, entry()).unwrap();
    assert!(cache.get(&path, &after).is_some());
}

#[test]
fn a_file_that_changed_in_all_but_its_content_is_measured_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let state = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "one").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        State::of(&path, &file).unwrap()
    };
    let (before, after) = (state("one"), state("two"));
    let path = folder.path().join("infer");
    let mut cache = Cache::trusting();
    cache.keep(&path, &before, &after, Entry { digest: [0; 32], copy: None }).unwrap();
    assert!(cache.get(&path, &before).is_none() && cache.get(&path, &after).is_none());
}

#[test]
fn files_beyond_an_allowance_are_refused_before_they_are_read_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    std::fs::write(&small, "x").unwrap();
    let mut files = Files::trusting();
    let mut allowance = Allowance::arguments();
    for _ in 0..64 {
        hash(&mut files, &small, &mut allowance).unwrap();
    }
    let refused = hash(&mut files, &small, &mut allowance);
    assert!(matches!(refused, Err(MeasureError::TooMany { limit: 64, .. })));

    let endless = Path::new("/dev/zero");
    let refused = read(endless, &open(endless).unwrap(), &mut Allowance::arguments());
    assert!(matches!(refused, Err(MeasureError::TooLarge { limit, .. }) if limit == 1 << 30));
}

#[test]
fn what_is_known_of_a_file_counts_against_an_allowance_too() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    let mut file = File::create(&large).unwrap();
    file.seek(SeekFrom::Start((300 << 20) - 1)).unwrap();
    file.write_all(b"x").unwrap();
    let mut files = Files::trusting();
    let mut allowance = Allowance::arguments();
    for _ in 0..3 {
        hash(&mut files, &large, &mut allowance).unwrap();
    }
    assert!(matches!(hash(&mut files, &large, &mut allowance), Err(MeasureError::TooLarge { .. })));
}
