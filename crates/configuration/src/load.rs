//! From a path or a text to settings: reading, parsing, and what the command line overrides.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde_saphyr::Options;
use types::Mode;

use crate::check;
use crate::meaning::Meaning;
use crate::raw::RawFile;
use crate::report::{Finding, LoadError, Origin};
use crate::scalar::{Field, Mismatch, Scalar, Shape, quoted};
use crate::settings::{Builtin, Settings};
use crate::syntax;
use crate::unknown_keys;

/// The largest file, in bytes: 1 MiB.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the command line says instead of the file. `None` leaves the file's word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--data-dir`, or `SERVICEOS_DATA_DIR`; relative to the current directory.
    pub data_dir: Option<PathBuf>,
    /// `--gateway`: the only address where clients connect.
    pub gateway: Option<SocketAddr>,
    /// `--admin`: where the admin API listens.
    pub admin: Option<SocketAddr>,
    /// `--mesh`: where replicas join the mesh.
    pub mesh: Option<SocketAddr>,
    /// `--mode`.
    pub mode: Option<String>,
}

/// Says whether a built-in service understands a `config`, or what is wrong with it. The services are not known here, so
/// whoever loads a file brings this along.
pub type ConfigCheck = fn(Builtin, &serde_json::Value) -> Result<(), String>;

/// A [`ConfigCheck`] for those who only want to know where things are.
pub fn any_config(_builtin: Builtin, _config: &serde_json::Value) -> Result<(), String> {
    Ok(())
}

/// A file that is valid: its text, what it means, and what is made of it.
#[derive(Debug, Clone)]
pub struct Document {
    /// As it was read.
    pub text: String,
    /// What the text alone means.
    pub meaning: Meaning,
    /// What is valid with what the command line says instead.
    pub settings: Settings,
}

/// Reads the file, applies the overrides and checks the whole, each service's `config` by `config_check`.
///
/// The gateway's `workers: auto` becomes the number of [`cores`].
///
/// # Errors
/// The report of everything that is wrong: with the file's text, with its values, or with reading it at all.
pub fn load(path: &Path, overrides: &Overrides, config_check: ConfigCheck) -> Result<Settings, LoadError> {
    Ok(from_bytes(&read(path)?, &path.display().to_string(), path, cores(), overrides, config_check)?
        .settings)
}

/// The number of cores that this process may use now, which is what `workers: auto` means.
pub fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Reads what may be a configuration, to its end, which may be at most [`MAX_FILE_BYTES`] away. A pipe can be read only once.
///
/// # Errors
/// The report of why it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(without_text(path, unreadable(&error))),
        // The byte order mark counts, so a file of exactly the limit with a mark is refused here rather than cut.
        Ok(_) if is_too_large(bytes.len()) => Err(without_text(path, too_large())),
        Ok(_) => Ok(bytes),
    }
}

/// Checks what was [`read`] from `path`, or what is to be read as if it stood there, as [`load`] does. Errors call it
/// `source_name`, and `cores` is what `workers: auto` means.
///
/// # Errors
/// The report of everything that is wrong.
pub fn from_bytes(
    bytes: &[u8],
    source_name: &str,
    path: &Path,
    cores: NonZeroUsize,
    overrides: &Overrides,
    config_check: ConfigCheck,
) -> Result<Document, LoadError> {
    let without_text = |finding| LoadError::new(source_name, "", vec![finding]);
    let text = text(bytes).map_err(without_text)?;
    let no_directory = |what: &str, error: io::Error| {
        without_text(unplaced(format!("{what} has no absolute path: {error}"), None))
    };
    let file = std::path::absolute(path).map_err(|error| no_directory("the file", error))?;
    let base_dir = file.parent().unwrap_or(Path::new("/"));
    let mut overrides = overrides.clone();
    if let Some(given) = overrides.data_dir.take() {
        let absolute = std::path::absolute(given).map_err(|error| no_directory("--data-dir", error))?;
        overrides.data_dir = Some(absolute);
    }
    let (meaning, settings) = settings(text, source_name, base_dir, cores, &overrides, config_check)?;
    Ok(Document { text: text.to_owned(), meaning, settings })
}

/// What a text means, whether or not what it says is valid.
///
/// # Errors
/// The report of why it cannot be read, which calls it `source_name`.
pub fn meaning(text: &str, source_name: &str) -> Result<Meaning, LoadError> {
    let text = without_mark(text);
    match raw(text) {
        Ok(Shaped { raw, unknown }) if unknown.is_empty() => Ok(Meaning::of(&raw)),
        Ok(Shaped { unknown: findings, .. }) | Err(findings) => {
            Err(LoadError::new(source_name, text, findings))
        }
    }
}

/// Checks a text as [`load`] does, without touching the machine.
///
/// `source_name` is what errors call the text, `base_dir` (absolute) is what its paths are relative to, and `cores`
/// is what `workers: auto` means.
///
/// # Errors
/// The report of everything that is wrong.
pub fn parse(
    text: &str,
    source_name: &str,
    base_dir: &Path,
    cores: NonZeroUsize,
    config_check: ConfigCheck,
) -> Result<Settings, LoadError> {
    Ok(settings(text, source_name, base_dir, cores, &Overrides::default(), config_check)?.1)
}

fn settings(
    text: &str,
    source_name: &str,
    base_dir: &Path,
    cores: NonZeroUsize,
    overrides: &Overrides,
    config_check: ConfigCheck,
) -> Result<(Meaning, Settings), LoadError> {
    let text = without_mark(text);
    let report = |findings| LoadError::new(source_name, text, findings);
    let Shaped { mut raw, unknown } = raw(text).map_err(report)?;
    let meaning = Meaning::of(&raw);
    apply(&mut raw, overrides);
    let place =
        check::Surroundings { base_dir, data_dir: overrides.data_dir.as_deref(), cores, config_check };
    match check::settings(raw, &place) {
        Ok(settings) if unknown.is_empty() => Ok((meaning, settings)),
        Ok(_) => Err(report(unknown)),
        Err(findings) if unknown.is_empty() => Err(report(findings)),
        // What is missing may be what was misspelt.
        Err(findings) => {
            let written = findings.into_iter().filter(|finding| finding.origin != Origin::Default);
            Err(report(unknown.into_iter().chain(written).collect()))
        }
    }
}

/// What was read, and the keys beside it that nobody knows.
pub(crate) struct Shaped {
    pub(crate) raw: RawFile,
    unknown: Vec<Finding>,
}

/// Editors of some systems put a byte order mark first, which would move every column of the first line.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

pub(crate) fn raw(text: &str) -> Result<Shaped, Vec<Finding>> {
    if is_too_large(text.len()) {
        return Err(vec![too_large()]);
    }
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(raw) => Ok(Shaped { raw, unknown: Vec::new() }),
        Err(error) if syntax::is_unknown_key(&error) => match unknown_keys::read(text, options()) {
            (unknown, Ok(raw)) if !unknown.is_empty() => Ok(Shaped { raw, unknown }),
            (mut unknown, Err(error)) => {
                unknown.push(syntax::finding(&error));
                Err(unknown)
            }
            (_, Ok(_)) => Err(vec![syntax::finding(&error)]),
        },
        Err(error) => Err(vec![syntax::finding(&error)]),
    }
}

/// Reads a document in YAML that is no configuration, such as a schema.
///
/// # Errors
/// What is wrong with it, and in which line.
pub fn any_document(text: &str) -> Result<serde_json::Value, String> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
    };
    serde_saphyr::from_str_with_options(without_mark(text), options).map_err(|error| {
        let Finding { origin, message, .. } = syntax::finding(&error);
        if origin == Origin::Default { message } else { format!("{origin}: {message}") }
    })
}

/// The parser's own limits of depth, nodes and aliases stay on; these are the ones that a configuration never needs.
pub(crate) fn options() -> Options {
    serde_saphyr::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        // The report shows the line itself.
        with_snippet: false,
        budget: serde_saphyr::budget! { max_aliases: 1_000, max_merge_keys: 1_000, max_depth: 32 },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
    }
}

/// An override takes the place of what the file says before anything is checked, so that a value which is not used
/// cannot be wrong.
fn apply(raw: &mut RawFile, overrides: &Overrides) {
    if let Some(gateway) = overrides.gateway {
        raw.gateway.listen = vec![Field::flag(gateway, "--gateway")];
    }
    if let Some(admin) = overrides.admin {
        raw.admin.listen = Field::flag(admin, "--admin");
    }
    if let Some(mesh) = overrides.mesh {
        raw.mesh.listen = Field::flag(mesh, "--mesh");
    }
    if let Some(mode) = &overrides.mode {
        let shape = Shape::Text(mode.clone());
        let mismatch = || Mismatch { found: quoted(mode), help: Mode::help(&shape) };
        raw.mode = Field { value: Mode::read(&shape).ok_or_else(mismatch), origin: Origin::Flag("--mode") };
    }
}

fn is_too_large(bytes: usize) -> bool {
    u64::try_from(bytes).unwrap_or(u64::MAX) > MAX_FILE_BYTES
}

fn text(bytes: &[u8]) -> Result<&str, Finding> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        unplaced(format!("line {line} is not UTF-8"), Some("save the file as UTF-8".to_owned()))
    })
}

/// The report of something that is wrong with the file rather than with what it says.
fn without_text(path: &Path, finding: Finding) -> LoadError {
    LoadError::new(&path.display().to_string(), "", vec![finding])
}

fn unreadable(error: &io::Error) -> Finding {
    let help = match error.kind() {
        io::ErrorKind::NotFound => Some(format!("write this file, for example:\n{EXAMPLE}")),
        io::ErrorKind::IsADirectory => Some("name the file itself, such as serviceos.yaml".to_owned()),
        io::ErrorKind::PermissionDenied => {
            Some("make the file readable for the user that runs this".to_owned())
        }
        _ => None,
    };
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "this is a directory".to_owned(),
        io::ErrorKind::PermissionDenied => "the file cannot be read: permission denied".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    };
    unplaced(message, help)
}

/// The smallest useful file.
pub(crate) const EXAMPLE: &str =
    "services:\n  vrf:\n    replicas: 3\n    healthCheck: {interval: 10s, timeout: 5s}";

fn too_large() -> Finding {
    unplaced("the file is larger than 1 MiB".to_owned(), None)
}

fn unplaced(message: String, help: Option<String>) -> Finding {
    Finding { origin: Origin::Default, message, help }
}
