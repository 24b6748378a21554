//! On the memory of the machine, and on memory of their own where these tests may mount it.

use std::collections::BTreeMap;

use expect_test::expect;
use rustix::fs::inotify;
use sdk::{Secret, SecretEpoch};
use zeroize::Zeroizing;

use super::*;

const NO_SWAP: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
const SWAP: &str = "Filename\t\t\t\tType\n/dev/sda2\t\t\t\tpartition\t1048572\t0\t-2\n";

/// A data directory's folder, and memory that other folders may be in.
struct Machine {
    run: tempfile::TempDir,
    memory: tempfile::TempDir,
}

impl Machine {
    fn new(swaps: &str) -> Self {
        let memory = tempfile::tempdir_in(SHARED_MEMORY).unwrap();
        let machine = Self { run: tempfile::tempdir().unwrap(), memory };
        std::fs::write(machine.swaps(), swaps).unwrap();
        machine
    }

    fn swaps(&self) -> PathBuf {
        self.run.path().join("swaps")
    }

    fn shared(&self, replica: &str) -> Result<Folder, FolderError> {
        let places = Places { shared: self.memory.path(), swaps: &self.swaps() };
        Folder::shared(self.run.path(), &replica.parse().unwrap(), &places, "no right to mount")?.furnished()
    }
}

fn secrets(of: &[(&str, &[(u32, &str)])]) -> SecretSet {
    let epoch = |(epoch, value): &(u32, &str)| SecretEpoch {
        epoch: *epoch,
        value: Zeroizing::new(value.as_bytes().to_vec()),
    };
    let secret = |epochs: &[(u32, &str)]| Secret { epochs: epochs.iter().map(epoch).collect() };
    of.iter().map(|(name, epochs)| ((*name).to_owned(), secret(epochs))).collect::<BTreeMap<_, _>>()
}

/// Every file below, with its mode and what is in it.
fn shown(folder: &Path) -> String {
    let mut lines: Vec<_> = walk(folder)
        .into_iter()
        .map(|path| {
            let metadata = path.metadata().unwrap();
            let content = std::fs::read_to_string(&path).unwrap_or_default();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            format!("{:o} {name} {content}", metadata.mode() & 0o777).trim_end().to_owned() + "\n"
        })
        .collect();
    lines.sort();
    lines.concat()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { [vec![path.clone()], walk(&path)].concat() } else { vec![path] })
        .collect()
}

#[test]
fn secrets_and_configuration_are_files_that_only_their_owner_reads() {
    let machine = Machine::new(NO_SWAP);
    let folder = machine.shared("infer/0").unwrap();
    let secrets = secrets(&[("key", &[(1, "old"), (2, "older"), (7, "new")]), ("token", &[(1, "t")])]);
    let config = serde_json::from_str(r#"{"price": 1.10}"#).unwrap();
    folder.write(&secrets, &config).unwrap();
    assert_eq!(folder.made.path.metadata().unwrap().mode() & 0o777, 0o700);
    expect![[r#"
        400 config.json {"price":1.10}
        400 secrets/key new
        400 secrets/key.1 old
        400 secrets/key.2 older
        400 secrets/token t
        700 secrets
    "#]]
    .assert_eq(&shown(&folder.made.path));
}

#[test]
fn what_is_written_again_replaces_what_was_there() {
    let machine = Machine::new(NO_SWAP);
    let folder = machine.shared("infer/0").unwrap();
    folder.write(&secrets(&[("key", &[(1, "old")])]), &serde_json::json!({"a": 1})).unwrap();
    folder.write(&secrets(&[("key", &[(2, "new")])]), &serde_json::json!({"a": 2})).unwrap();
    expect![[r#"
        400 config.json {"a":2}
        400 secrets/key new
        700 secrets
    "#]]
    .assert_eq(&shown(&folder.made.path));
}

#[test]
fn files_that_stay_are_not_touched_and_those_of_secrets_that_are_gone_go() {
    let machine = Machine::new(NO_SWAP);
    let folder = machine.shared("infer/0").unwrap();
    let before = secrets(&[("gone", &[(1, "g")]), ("key", &[(1, "one")]), ("stays", &[(1, "s")])]);
    folder.write(&before, &serde_json::Value::Null).unwrap();
    let stays = folder.secrets().join("stays").metadata().unwrap().ino();
    // As a write that failed in the middle leaves it.
    std::fs::write(folder.made.path.join(NEW), "on").unwrap();
    let after = secrets(&[("key", &[(1, "one"), (2, "two")]), ("stays", &[(1, "s")])]);
    folder.write_secrets(&after).unwrap();
    expect![[r#"
        400 key two
        400 key.1 one
        400 stays s
    "#]]
    .assert_eq(&shown(&folder.secrets()));
    assert_eq!(folder.secrets().join("stays").metadata().unwrap().ino(), stays);
    assert!(!folder.made.path.join(NEW).exists());
    folder.write_secrets(&secrets(&[])).unwrap();
    assert_eq!(shown(&folder.secrets()), "");
}

#[test]
fn whoever_lists_the_secrets_never_sees_another_name_than_theirs() {
    let machine = Machine::new(NO_SWAP);
    let folder = machine.shared("infer/0").unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    let appears = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, folder.secrets(), appears).unwrap();
    let before = secrets(&[("gone", &[(1, "g")]), ("key", &[(1, "one")])]);
    folder.write(&before, &serde_json::Value::Null).unwrap();
    folder.write_secrets(&secrets(&[("key", &[(1, "one"), (2, "two")])])).unwrap();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut seen = Vec::new();
    while let Ok(event) = events.next() {
        seen.push(event.file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["gone", "key", "key.1", "key"]);
}

#[test]
fn what_cannot_be_put_in_its_place_is_not_left_beside_it() {
    let machine = Machine::new(NO_SWAP);
    let folder = machine.shared("infer/0").unwrap();
    std::fs::create_dir(folder.secrets().join("key")).unwrap();
    let refused = folder.write_secrets(&secrets(&[("key", &[(1, "v")])]));
    assert!(matches!(refused, Err(FolderError::Write { path, .. }) if path.ends_with("secrets/key")));
    assert!(!folder.made.path.join(NEW).exists());
}

#[test]
fn the_folder_ends_with_its_owner() {
    let machine = Machine::new(NO_SWAP);
    let folder = machine.shared("infer/0").unwrap();
    let path = folder.made.path.clone();
    folder.write(&secrets(&[("key", &[(1, "v")])]), &serde_json::Value::Null).unwrap();
    drop(folder);
    assert!(!path.exists());
}

/// A folder as a launcher that was killed leaves it.
fn left_by_a_killed_one(machine: &Machine, replica: &str) -> PathBuf {
    let killed = machine.shared(replica).unwrap();
    killed.write(&secrets(&[("key", &[(1, "v")])]), &serde_json::Value::Null).unwrap();
    let path = killed.made.path.clone();
    let unlocked = flock(&killed.made.locked, FlockOperation::Unlock);
    std::mem::forget(killed);
    unlocked.unwrap();
    path
}

#[test]
fn what_a_killed_launcher_left_is_removed_when_its_replica_starts_again() {
    let machine = Machine::new(NO_SWAP);
    let (left, of_another) =
        (left_by_a_killed_one(&machine, "infer/0"), left_by_a_killed_one(&machine, "infer/1"));
    sweep(machine.memory.path(), &name(machine.run.path(), &"infer/0".parse().unwrap()));
    assert!(!left.exists());
    assert_eq!(shown(&of_another).lines().count(), 3, "it is none of another replica's");
}

#[test]
fn a_launcher_that_is_ending_still_and_its_successor_leave_each_other_alone() {
    let machine = Machine::new(NO_SWAP);
    let ending = machine.shared("infer/0").unwrap();
    let (run, replica) = (machine.run.path(), "infer/0".parse().unwrap());
    sweep(machine.memory.path(), &name(run, &replica));
    assert!(ending.secrets().exists(), "its launcher is not gone");
    let successor = machine.shared("infer/0").unwrap();
    successor.write(&secrets(&[("key", &[(1, "v")])]), &serde_json::Value::Null).unwrap();
    drop(ending);
    assert!(successor.secrets().join("key").exists());
}

#[test]
fn a_folder_that_is_another_one_by_now_is_not_removed() {
    let machine = Machine::new(NO_SWAP);
    let folder = machine.shared("infer/0").unwrap();
    let path = folder.made.path.clone();
    std::fs::rename(&path, machine.memory.path().join("moved")).unwrap();
    std::fs::create_dir(&path).unwrap();
    drop(folder);
    assert!(path.exists());
}

#[test]
fn what_others_have_put_beside_it_is_left_alone_and_keeps_nothing_from_starting() {
    let machine = Machine::new(NO_SWAP);
    let stem = name(machine.run.path(), &"infer/0".parse().unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("file"), "x").unwrap();
    let beside = |suffix: &str| machine.memory.path().join(format!("{stem}{suffix}"));
    std::os::unix::fs::symlink(elsewhere.path(), beside("link")).unwrap();
    std::fs::write(beside("file"), "x").unwrap();
    std::fs::create_dir(beside("open")).unwrap();
    std::fs::set_permissions(beside("open"), Permissions::from_mode(0o755)).unwrap();
    sweep(machine.memory.path(), &stem);
    assert!(machine.shared("infer/0").is_ok());
    assert!(elsewhere.path().join("file").exists() && beside("file").exists() && beside("open").exists());
}

#[test]
fn on_memory_that_may_be_written_to_a_disk_there_is_everything_but_secrets() {
    let machine = Machine::new(SWAP);
    let folder = machine.shared("infer/0").unwrap();
    folder.write(&SecretSet::new(), &serde_json::json!({})).unwrap();
    let refused = folder.write(&secrets(&[("key", &[(1, "v")])]), &serde_json::json!({})).unwrap_err();
    let refused = refused.to_string().replace(machine.swaps().to_str().unwrap(), "SWAPS");
    expect!["secrets are handed to a command on memory that is never written to a disk, and there is none: no right to mount, and this machine has swap (SWAPS); run serviceos with the right to mount (CAP_SYS_ADMIN), or turn the swap off (swapoff -a)"]
        .assert_eq(&refused);
    assert!(!shown(&folder.made.path).contains("secrets/key"));
}

#[test]
fn a_folder_on_a_disk_is_no_memory() {
    let disk = Path::new("/proc");
    assert!(is_memory(disk).unwrap_err().contains("is not memory"));
    assert_eq!(is_memory(Path::new(SHARED_MEMORY)), Ok(()));
    assert_eq!(has_no_swap(Path::new("/nowhere")), Ok(()));
}

#[test]
fn a_secret_whose_name_leads_elsewhere_is_refused() {
    let machine = Machine::new(NO_SWAP);
    let folder = machine.shared("infer/0").unwrap();
    for name in ["", "../key", "a/b", ".hidden", "key.1"] {
        let refused = folder.write(&secrets(&[(name, &[(1, "v")])]), &serde_json::Value::Null);
        assert!(matches!(refused, Err(FolderError::Name(_))), "{name}");
    }
}

#[test]
fn memory_of_its_own_is_seen_by_nobody_else_and_leaves_nothing() {
    let run = tempfile::tempdir().unwrap();
    let replica: ReplicaId = "infer/0".parse().unwrap();
    let places = Places { shared: Path::new(SHARED_MEMORY), swaps: Path::new("/nowhere") };
    // Its mounts are those of one thread here, which ends with this test.
    let Ok(folder) = Folder::of_its_own(run.path(), &replica, &places) else {
        let shared = Folder::create(run.path(), &replica).unwrap();
        assert!(
            matches!(shared.memory, Memory::Shared(_)),
            "who may not mount gets the memory of the machine"
        );
        return;
    };
    let folder = folder.furnished().unwrap();
    assert!(folder.made.path.starts_with(run.path()));
    folder.write(&secrets(&[("key", &[(1, "v")])]), &serde_json::Value::Null).unwrap();
    assert!(is_memory(&folder.made.path).is_err(), "it is ramfs, which is never swapped");
    let path = folder.made.path.clone();
    let others = std::thread::spawn(|| ()).join().map(|()| shown_from_outside(&path)).unwrap();
    assert_eq!(others, Vec::<PathBuf>::new());
    assert!(folder.secrets().join("key").exists());
    drop(folder);
    assert!(!path.exists());
}

/// What a thread of the name space that the tests began in sees.
fn shown_from_outside(path: &Path) -> Vec<PathBuf> {
    let main = format!("/proc/{}/root{}", std::process::id(), path.display());
    std::fs::read_dir(main).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_not_used() {
    let run = tempfile::tempdir().unwrap();
    let deep = run.path().join("d".repeat(100));
    std::fs::create_dir(&deep).unwrap();
    let folder = Folder::create(&deep, &"infer/0".parse().unwrap()).unwrap();
    assert!(folder.mesh_socket().as_os_str().len() <= MAX_SOCKET_PATH_BYTES);
    std::os::unix::net::UnixListener::bind(folder.mesh_socket()).unwrap();
    assert!(folder.made.path.starts_with(SHARED_MEMORY));
}
