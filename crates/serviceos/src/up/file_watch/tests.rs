//! The watch with the machine's own watcher, and with events that a test makes up.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use notify::event::{AccessKind, AccessMode, DataChange, ModifyKind, RenameMode};
use notify::{Event, EventKind};
use tokio::time::timeout;

use super::*;

/// A folder, and a watch on a file in it.
struct Bench {
    _folder: tempfile::TempDir,
    root: PathBuf,
    watch: FileWatch,
    folders: Folders,
    followed: Vec<PathBuf>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (watch, folders) = FileWatch::new();
        Self { _folder: folder, root, watch, folders, followed: Vec::new() }
    }

    fn folder(&self, name: &str, text: &str) {
        std::fs::create_dir(self.root.join(name)).unwrap();
        self.write(&format!("{name}/file"), text);
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.root.join(file), text).unwrap();
    }

    fn link(&self, target: &str, name: &str) {
        symlink(target, self.root.join(name)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.root.join(from), self.root.join(to)).unwrap();
    }

    fn remove(&self, folder: &str) {
        std::fs::remove_dir_all(self.root.join(folder)).unwrap();
    }

    fn watches(&self, folder: &str) -> bool {
        self.folders.watches(&self.root.join(folder))
    }

    async fn follow(&mut self, files: &[&str]) {
        self.followed = files.iter().map(|file| self.root.join(file)).collect();
        while self.folders.follow(&self.followed, |_| {}) == Followed::New {}
        self.look().await;
    }

    /// Waits for the next look that an event asks for, at most a minute.
    async fn look(&mut self) {
        let look = async { while self.watch.changed().await != Hint::Look {} };
        timeout(Duration::from_secs(60), look).await.expect("the change is noticed");
        let _looked_at_now = self.folders.follow(&self.followed, |_| {});
    }

    /// Looks whenever an event asks for it, until these folders are watched and those are not.
    async fn until(&mut self, watched: &[&str], others: &[&str]) {
        while !watched.iter().all(|name| self.watches(name)) || others.iter().any(|name| self.watches(name)) {
            self.look().await;
        }
    }

    /// Writes the file, and waits until that is noticed.
    async fn notices(&mut self, file: &str, text: &str) {
        self.write(file, text);
        self.look().await;
    }
}

#[tokio::test]
async fn a_file_is_followed_through_links_and_renames() {
    let mut bench = Bench::new();
    bench.folder("one", "1");
    bench.folder("two", "2");
    // As a mounted ConfigMap has it: the file is a link through a folder that is a link.
    bench.link("one", "data");
    bench.link("data/file", "file");
    bench.follow(&["file"]).await;
    assert!(bench.watches("") && bench.watches("one"));
    bench.link("two", "new");
    bench.rename("new", "data");
    bench.until(&["two"], &["one"]).await;
    bench.notices("two/file", "3").await;
}

#[tokio::test]
async fn a_folder_that_is_removed_and_made_again_is_watched_again() {
    let mut bench = Bench::new();
    bench.folder("conf", "1");
    bench.follow(&["conf/file"]).await;
    bench.remove("conf");
    bench.until(&[""], &["conf"]).await;
    bench.folder("conf", "2");
    bench.until(&["conf"], &[""]).await;
    bench.notices("conf/file", "3").await;
}

#[tokio::test]
async fn another_folder_in_the_place_of_one_is_watched_and_what_becomes_of_the_first_does_not_matter() {
    let mut bench = Bench::new();
    bench.folder("conf", "1");
    bench.folder("new", "2");
    bench.follow(&["conf/file"]).await;
    bench.rename("conf", "old");
    bench.rename("new", "conf");
    bench.look().await;
    bench.notices("conf/file", "3").await;
    bench.remove("old");
    bench.notices("conf/file", "4").await;
}

#[tokio::test]
async fn a_link_that_is_made_again_takes_nothing_from_the_folder_that_it_leads_to() {
    let mut bench = Bench::new();
    bench.folder("conf", "1");
    bench.link("conf", "link");
    bench.follow(&["link/file"]).await;
    std::fs::remove_file(bench.root.join("link")).unwrap();
    bench.link("conf", "link");
    bench.look().await;
    bench.notices("conf/file", "2").await;
}

#[tokio::test]
async fn two_spellings_of_one_folder_are_one() {
    let mut bench = Bench::new();
    bench.folder("conf", "1");
    bench.folder("app", "1");
    bench.write("conf/other", "1");
    bench.follow(&["conf/file", "app/../conf/other"]).await;
    bench.notices("conf/file", "2").await;
    bench.notices("conf/other", "2").await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_watched_when_it_comes() {
    let mut bench = Bench::new();
    bench.follow(&["a/b/file"]).await;
    assert!(bench.watches(""));
    std::fs::create_dir(bench.root.join("a")).unwrap();
    bench.look().await;
    bench.folder("a/b", "1");
    bench.until(&["a/b"], &[""]).await;
    bench.notices("a/b/file", "2").await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_open_until_it_is_closed() {
    let mut bench = Bench::new();
    bench.folder("conf", "1");
    bench.follow(&["conf/file", "conf/new", "conf/link"]).await;
    let openness = async |bench: &mut Bench, wanted: bool| {
        let until = async {
            while bench.watch.noted().is_open() != wanted {
                let _more = bench.watch.events.recv().await;
            }
        };
        timeout(Duration::from_secs(60), until).await.expect("the writer is noticed");
    };
    for name in ["conf/file", "conf/new"] {
        let file = std::fs::File::create(bench.root.join(name)).unwrap();
        openness(&mut bench, true).await;
        drop(file);
        openness(&mut bench, false).await;
    }
    bench.link("file", "conf/link");
    bench.look().await;
    assert!(!bench.watch.noted().is_open(), "a link is never written");
}

/// A watch on the file `/f` whose events a test makes up.
struct Told {
    watch: FileWatch,
    events: mpsc::Sender<()>,
}

impl Told {
    fn new() -> Self {
        let (events, heard) = mpsc::channel(1);
        let mut watch = FileWatch::with(Arc::default(), heard);
        watch.due = false;
        watch.noted().look_for([PathBuf::from("/f")].into(), [PathBuf::from("/")].into());
        Self { watch, events }
    }

    fn tell(&self, kind: EventKind) {
        if self.watch.noted().hear(&event(kind)) {
            let _due_already = self.events.try_send(()).is_err();
        }
    }

    async fn looks_within(&mut self, limit: Duration) -> bool {
        let look = async { while self.watch.changed().await != Hint::Look {} };
        timeout(limit, look).await.is_ok()
    }
}

fn event(kind: EventKind) -> Heard {
    Heard::of(Event::new(kind).add_path(PathBuf::from("/f")))
}

const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
const READ: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Read));

#[tokio::test(start_paused = true)]
async fn a_look_that_is_given_up_is_due_again() {
    let mut told = Told::new();
    assert!(!told.looks_within(PATIENCE).await, "nothing has changed");
    told.tell(READ);
    assert!(!told.looks_within(PATIENCE).await, "reading is no change");
    told.tell(RENAMED);
    assert!(!told.looks_within(QUIET / 2).await, "it is not quiet yet");
    assert!(told.looks_within(QUIET * 2).await, "it is looked at the next time");
    assert!(!told.looks_within(PATIENCE).await);
}

#[tokio::test(start_paused = true)]
async fn a_beginning_of_what_is_written_slowly_is_not_looked_at() {
    let mut told = Told::new();
    for _ in 0..5 {
        told.tell(WRITTEN);
        assert!(!told.looks_within(QUIET_WHILE_OPEN * 9 / 10).await);
    }
    told.tell(CLOSED);
    assert!(told.looks_within(QUIET * 2).await, "it is whole");
    told.tell(WRITTEN);
    assert!(!told.looks_within(PATIENCE).await);
    told.tell(RENAMED);
    assert!(told.looks_within(QUIET * 2).await, "another is in its place");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_never_closes_keeps_nobody_for_ever() {
    let mut told = Told::new();
    told.tell(WRITTEN);
    assert!(told.looks_within(QUIET_WHILE_OPEN * 2).await, "nothing is written any more");
    let began = Instant::now();
    let (noted, events) = (Arc::clone(&told.watch.noted), told.events.clone());
    let writer = tokio::spawn(async move {
        loop {
            noted.lock().unwrap().hear(&event(WRITTEN));
            let _due_already = events.try_send(()).is_err();
            sleep(QUIET_WHILE_OPEN / 2).await;
        }
    });
    assert!(told.looks_within(PATIENCE_WHILE_OPEN * 2).await);
    assert!(began.elapsed() >= PATIENCE_WHILE_OPEN);
    writer.abort();
}

#[tokio::test(start_paused = true)]
async fn without_any_event_the_files_are_glanced_at() {
    let mut told = Told::new();
    let began = Instant::now();
    assert_eq!(told.watch.changed().await, Hint::Glance);
    assert_eq!(told.watch.changed().await, Hint::Glance);
    assert_eq!(began.elapsed(), GLANCES * 2);
    drop(told.events);
    let (_, gone) = mpsc::channel(1);
    told.watch.events = gone;
    assert_eq!(told.watch.changed().await, Hint::Glance, "with no watcher at all");
}
