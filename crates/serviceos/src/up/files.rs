//! The files of the configuration while everything runs: watched, and looked at on a thread of their own, so that a disk that
//! does not answer keeps nobody but those who wait for a change.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use configuration::{Document, Settings};
use control::ConfigRefused;
use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use super::file_watch::{FileWatch, Folders, Followed, Hint};
use super::source::{At, Found, Reader, Source, named_by};

/// How long a disk may take before that is said.
const PATIENCE: Duration = Duration::from_secs(10);

/// The files, and the look at them that is going on.
pub(crate) struct Files {
    name: String,
    reader: Reader,
    watch: FileWatch,
    /// Locked by whoever asks the disk for something, however long that takes.
    disk: Arc<Mutex<Disk>>,
    /// The files that matter from the next look on, where they are others. Nobody asks the disk while this is locked.
    wanted: Wanted,
    at: At,
    /// Kept when whoever waits for it gives up, so that there is never a second one.
    look: Option<JoinHandle<Looked>>,
    asked: Asked,
}

/// Whether somebody waits for a look, whatever comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    /// For one that has not begun.
    Waits,
    /// For the one that is going on.
    Begun,
}

type Wanted = Arc<std::sync::Mutex<Option<BTreeSet<PathBuf>>>>;

/// What is asked for on a thread that may wait.
struct Disk {
    source: Source,
    folders: Folders,
    wanted: Wanted,
}

/// What came of a look.
struct Looked {
    found: Option<Found>,
    followed: Followed,
}

impl Files {
    /// Files that are watched from the first time that somebody asks for a change.
    pub(crate) fn new(source: Source) -> Self {
        if !source.is_followed() {
            tracing::warn!("{} is no file: it was read once, and no change of it is noticed", source.name());
        }
        let (watch, folders) = FileWatch::new();
        let (name, reader, at) = (source.name(), source.reader(), source.at());
        let wanted = Wanted::default();
        let disk = Disk { source, folders, wanted: Arc::clone(&wanted) };
        Self {
            name,
            reader,
            watch,
            disk: Arc::new(Mutex::new(disk)),
            wanted,
            at,
            look: None,
            asked: Asked::No,
        }
    }

    /// What people call the file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What reads texts as the file is read.
    pub(crate) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// What a text says that is to be in the place of the file; errors call it `name`. The files that it names are looked at, so
    /// that none of them changes unnoticed from here on.
    pub(crate) async fn read(&self, text: Vec<u8>, name: String) -> Result<Document, ConfigRefused> {
        let failed = |error: JoinError| ConfigRefused::NotApplied(format!("it could not be read: {error}"));
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.read(&text, &name)).await;
        let document = read.map_err(failed)?.map_err(ConfigRefused::Invalid)?;
        let named = named_by([&document.settings]);
        if !named.is_empty() {
            let mut disk = self.disk().await?;
            tokio::task::spawn_blocking(move || disk.source.keep_also(named)).await.map_err(failed)?;
        }
        Ok(document)
    }

    /// The disk, once nobody else asks it for something.
    async fn disk(&self) -> Result<tokio::sync::OwnedMutexGuard<Disk>, ConfigRefused> {
        timeout(PATIENCE, Arc::clone(&self.disk).lock_owned()).await.map_err(|_| {
            let (file, seconds) = (self.at.get(), PATIENCE.as_secs());
            ConfigRefused::NotApplied(format!("{} does not answer for {seconds} seconds", file.display()))
        })
    }

    /// Somebody wants to know what the files hold from now on: the next look is told of even where it finds nothing.
    pub(crate) fn ask(&mut self) {
        self.asked = Asked::Waits;
        self.watch.look_again();
    }

    /// Whether somebody has asked, and was not told yet.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked != Asked::No
    }

    /// Returns when one of the files holds something else than it did, or when somebody has asked. It may be given up at any time,
    /// and goes on the next.
    pub(crate) async fn changed(&mut self) -> Found {
        loop {
            let look = match &mut self.look {
                Some(look) => look,
                None => {
                    let (hint, disk) = (self.watch.changed().await, Arc::clone(&self.disk));
                    if self.asked == Asked::Waits {
                        self.asked = Asked::Begun;
                    }
                    let look = move || disk.blocking_lock().look(hint);
                    self.look.insert(tokio::task::spawn_blocking(look))
                }
            };
            let looked = patiently(look, |seconds| {
                tracing::error!(
                    "{} does not answer for {seconds} seconds; the configuration before stays in force until it does",
                    self.at.get().display()
                );
            })
            .await;
            self.look = None;
            let was_asked = self.asked == Asked::Begun;
            if was_asked {
                self.asked = Asked::No;
            }
            match looked {
                Ok(Looked { found, followed }) => {
                    if followed == Followed::New {
                        self.watch.look_again();
                    }
                    if let Some(found) = found {
                        return found;
                    }
                }
                Err(error) => tracing::error!(
                    %error,
                    "{} has changed and could not be read; the configuration before stays in force",
                    self.name
                ),
            }
            if was_asked {
                return Found::nothing();
            }
        }
    }

    /// The files that these settings name are those that matter. Nobody is waited for, and nothing is asked of the disk: it may
    /// be busy with a look.
    pub(crate) fn keep<'a>(&self, settings: impl Iterator<Item = &'a Settings>) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(named_by(settings));
    }
}

impl Disk {
    /// Whatever is watched first and looked at then cannot change unnoticed.
    fn look(&mut self, hint: Hint) -> Looked {
        if let Some(files) = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.source.keep(files);
        }
        if hint == Hint::Glance && !self.source.glance() {
            return Looked { found: None, followed: Followed::AsBefore };
        }
        // A link may lead elsewhere now.
        let before = self.follow();
        let found = self.source.look();
        let after = if found.document.is_some() { self.follow() } else { Followed::AsBefore };
        let is_change = found.document.is_some() || !found.others.is_empty();
        let followed = if before == Followed::New { before } else { after };
        Looked { found: is_change.then_some(found), followed }
    }

    fn follow(&mut self) -> Followed {
        let at = self.source.at();
        self.folders.follow(&self.source.paths(), |path| at.set(path))
    }
}

/// Waits for a thread that waits for the disk, to the end, which nothing can bring about sooner. What takes long is said, with
/// the seconds that it has taken.
pub(super) async fn patiently<T>(
    mut waited: impl Future<Output = Result<T, JoinError>> + Unpin,
    say: impl FnOnce(u64),
) -> Result<T, JoinError> {
    if let Ok(done) = timeout(PATIENCE, &mut waited).await {
        return done;
    }
    say(PATIENCE.as_secs());
    waited.await
}

#[cfg(test)]
mod tests {
    use configuration::Overrides;

    use super::*;

    const VALID: &str = "services: {vrf: {replicas: 1}}";
    const TLS: &str =
        "gateway: {tls: {certificates: [{certificate: a.pem, key: a.key}]}}\nservices: {vrf: {replicas: 1}}";

    fn files(folder: &tempfile::TempDir) -> Files {
        let path = folder.path().join("serviceos.yaml");
        std::fs::write(&path, VALID).unwrap();
        Files::new(Source::open(path, Overrides::default()).unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_keeps_nobody_and_what_it_held_back_is_found_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(&folder);
        let disk = Arc::clone(&files.disk);
        let held = disk.lock().await;
        for _ in 0..3 {
            let gone = async { tokio::time::advance(PATIENCE * 2).await };
            tokio::select! {
                biased;
                _ = files.changed() => panic!("nobody can look"),
                () = gone => {}
            }
        }
        assert!(files.look.is_some(), "one look, however often somebody gives up");
        // Whoever applies something else meanwhile is told so where its files would have to be asked for, and holds up nobody.
        let plain = files.read(VALID.into(), "asked".into()).await.unwrap();
        files.keep(std::iter::once(&plain.settings));
        let mut read = Box::pin(files.read(TLS.into(), "asked".into()));
        let refused = loop {
            // The clock stands still while a thread waits.
            tokio::select! {
                biased;
                read = &mut read => break read.unwrap_err(),
                () = tokio::time::advance(PATIENCE) => {}
            }
        };
        drop(read);
        assert!(refused.to_string().contains("does not answer for 10 seconds"), "{refused}");
        std::fs::write(folder.path().join("serviceos.yaml"), "services: {oracle: }").unwrap();
        drop(held);
        let found = files.changed().await;
        assert_eq!(found.document.unwrap().unwrap().settings.services[0].name.as_str(), "oracle");
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_changes_right_after_somebody_has_named_it_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(&folder);
        // The first look is due, and finds nothing.
        assert!(timeout(Duration::from_secs(60), files.changed()).await.is_err());
        let document = files.read(TLS.into(), "asked".into()).await.unwrap();
        std::fs::write(folder.path().join("a.pem"), "another").unwrap();
        files.keep(std::iter::once(&document.settings));
        let found = timeout(Duration::from_secs(60), files.changed()).await.expect("a change");
        assert_eq!(found.others, [folder.path().join("a.pem")].into());
    }
}
