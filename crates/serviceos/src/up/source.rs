//! Where the configuration comes from: one file, and the certificates, keys and schemas that it names. Each is read, compared with what it held
//! when it was read before, and no more; what becomes of a change is for others. All of it asks the disk, so it is for a thread
//! that may wait.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use configuration::{Document, LoadError, Overrides, Settings};

use super::check_service_config;
use super::contents::{Contents, Mark, Stamp};
use super::{client_tls, shared_limits, tokens};

/// The file that is being asked for, so that one that does not answer can be named.
#[derive(Debug, Clone, Default)]
pub(super) struct At(Arc<Mutex<PathBuf>>);

impl At {
    /// This one is asked for next.
    pub(super) fn set(&self, path: &Path) {
        path.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The file that was asked for last.
    pub(super) fn get(&self) -> PathBuf {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What makes settings of the file's text, or of another that is to be in its place.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    path: PathBuf,
    overrides: Overrides,
    /// What `workers: auto` means. It stays what it was at the start, as the workers do.
    cores: NonZeroUsize,
}

impl Reader {
    /// Checks a text, which errors call `name`.
    ///
    /// # Errors
    /// The report of everything that is wrong.
    pub(crate) fn read(&self, bytes: &[u8], name: &str) -> Result<Document, LoadError> {
        configuration::from_bytes(bytes, name, &self.path, self.cores, &self.overrides, check_service_config)
    }

    /// What people call the file.
    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// The file that was named, and what it and the certificates held when they were looked at.
#[derive(Debug)]
pub(crate) struct Source {
    reader: Reader,
    kind: Kind,
    /// What was read, or why it could not be.
    text: Result<Mark, String>,
    /// The certificates, keys and authorities of the settings that matter.
    named: Vec<PathBuf>,
    contents: Contents,
    stamps: Stamps,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    /// A pipe or a device, which has nothing more to say once it was read.
    Stream,
}

/// How the files looked from outside.
#[derive(Debug, Default)]
struct Stamps {
    at_the_last_look: BTreeMap<PathBuf, Option<Stamp>>,
    at_the_last_glance: BTreeMap<PathBuf, Option<Stamp>>,
}

/// What a look has found.
#[derive(Debug)]
pub(super) struct Found {
    /// When the look began.
    pub(super) began: Instant,
    /// What a file says that holds something else now, or the report of what is wrong with it.
    pub(super) document: Option<Result<Document, String>>,
    /// The other files that hold something else now.
    pub(super) others: BTreeSet<PathBuf>,
}

impl Found {
    /// What somebody is told who has asked.
    pub(super) fn nothing() -> Self {
        Self { began: Instant::now(), document: None, others: BTreeSet::new() }
    }

    /// Whether it is that.
    pub(super) fn is_nothing(&self) -> bool {
        self.document.is_none() && self.others.is_empty()
    }
}

impl Source {
    /// Reads the file, once, and checks it; then looks at what it names, before anybody reads that.
    ///
    /// # Errors
    /// The report of everything that is wrong.
    pub(crate) fn open(path: PathBuf, overrides: Overrides) -> Result<(Self, Document), LoadError> {
        let is_file = |path: &Path| path.metadata().is_ok_and(|found| found.is_file());
        let kind = if is_file(&path) { Kind::File } else { Kind::Stream };
        let bytes = configuration::read(&path)?;
        let reader = Reader { path, overrides, cores: configuration::cores() };
        let document = reader.read(&bytes, &reader.name())?;
        Ok((Self::of(reader, kind, &bytes, &document), document))
    }

    /// The same once more with what the file said last, since it may say by now what nobody could start with. That it says something
    /// else is noticed like any change.
    ///
    /// # Errors
    /// The text cannot be used any more.
    pub(super) fn again(reader: Reader, text: &str) -> Result<(Self, Document), LoadError> {
        let document = reader.read(text.as_bytes(), &reader.name())?;
        let is_file = reader.path.metadata().is_ok_and(|found| found.is_file());
        let kind = if is_file { Kind::File } else { Kind::Stream };
        Ok((Self::of(reader, kind, text.as_bytes(), &document), document))
    }

    fn of(reader: Reader, kind: Kind, bytes: &[u8], document: &Document) -> Self {
        let mut source = Self {
            text: mark(bytes),
            named: named(&document.settings).cloned().collect(),
            contents: Contents::default(),
            stamps: Stamps::default(),
            at: At::default(),
            reader,
            kind,
        };
        source.contents.follow(&source.named, |_| {});
        source
    }

    /// What people call the file.
    pub(super) fn name(&self) -> String {
        self.reader.name()
    }

    /// What reads texts as the file is read.
    pub(super) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Which file is being asked for, to be seen from elsewhere.
    pub(super) fn at(&self) -> At {
        self.at.clone()
    }

    /// Whether the file itself can be read again.
    pub(super) fn is_followed(&self) -> bool {
        self.kind == Kind::File
    }

    /// The files in which a change matters, as absolute paths.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let file = self.is_followed().then(|| std::path::absolute(&self.reader.path).ok()).flatten();
        file.into_iter().chain(self.named.iter().cloned()).collect()
    }

    /// These files are those that matter, and no others any more. Those that are new are looked at now, so whoever reads them
    /// does so after that.
    pub(super) fn keep(&mut self, files: BTreeSet<PathBuf>) {
        self.named = files.into_iter().collect();
        self.contents.follow(&self.named, |path| self.at.set(path));
    }

    /// These matter as well.
    pub(super) fn keep_also(&mut self, files: BTreeSet<PathBuf>) {
        let named = std::mem::take(&mut self.named);
        self.keep(named.into_iter().chain(files).collect());
    }

    /// Whether the files look otherwise than when they were looked at, and as they did at the glance before, so that nobody is
    /// writing them.
    pub(super) fn glance(&mut self) -> bool {
        let stamps = self.stamps();
        let otherwise = stamps != self.stamps.at_the_last_look && stamps == self.stamps.at_the_last_glance;
        self.stamps.at_the_last_glance = stamps;
        otherwise
    }

    /// Reads all files again. What a file newly names is looked at as well: it is read after that.
    pub(super) fn look(&mut self) -> Found {
        let began = Instant::now();
        self.stamps.at_the_last_look = self.stamps();
        let (at, keep) = (self.at.clone(), self.named.clone());
        self.contents.follow(&keep, |path| at.set(path));
        let document = self.read_again();
        let others = self.contents.look(|path| at.set(path));
        if let Some(Ok(document)) = &document {
            self.named.extend(named(&document.settings).cloned());
            self.contents.follow(&self.named, |path| at.set(path));
        }
        Found { began, document, others }
    }

    fn read_again(&mut self) -> Option<Result<Document, String>> {
        if !self.is_followed() {
            return None;
        }
        self.at.set(&self.reader.path);
        let is_other = self.reader.path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir());
        let read = if is_other {
            // Opening a pipe waits for whoever writes it.
            Err(format!("{}: this is no file any more", self.name()))
        } else {
            configuration::read(&self.reader.path).map_err(|report| report.to_string())
        };
        let text = read.as_ref().map_err(Clone::clone).and_then(|bytes| mark(bytes));
        if text == self.text {
            return None;
        }
        self.text = text;
        let check = |bytes: Vec<u8>| self.reader.read(&bytes, &self.name());
        Some(read.and_then(|bytes| check(bytes).map_err(|report| report.to_string())))
    }

    fn stamps(&self) -> BTreeMap<PathBuf, Option<Stamp>> {
        let stamp = |path: PathBuf| {
            self.at.set(&path);
            let stamp = Stamp::of(&path);
            (path, stamp)
        };
        self.paths().into_iter().map(stamp).collect()
    }
}

/// Bytes in memory can always be read.
fn mark(bytes: &[u8]) -> Result<Mark, String> {
    Mark::of(bytes).map_err(|error| error.to_string())
}

/// The files that any of these settings name.
pub(super) fn named_by<'a>(settings: impl IntoIterator<Item = &'a Settings>) -> BTreeSet<PathBuf> {
    settings.into_iter().flat_map(named).cloned().collect()
}

/// The files that settings name and that are read again when they change.
pub(super) fn named(settings: &Settings) -> impl Iterator<Item = &PathBuf> {
    let certificates = settings.gateway.tls.iter().flat_map(client_tls::files);
    let routes = settings.services.iter().flat_map(|service| &service.routes);
    let schemas = routes.filter_map(|route| route.request.as_ref()?.file()).map(|file| &file.path);
    let shared = settings.gateway.rate_limits.shared.iter().flat_map(shared_limits::files);
    certificates.chain(tokens::files(settings)).chain(schemas).chain(shared)
}

#[cfg(test)]
mod tests;
