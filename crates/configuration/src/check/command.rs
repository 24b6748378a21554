//! A program of the operator's own: its arguments, its environment, and where it works.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use types::ByteSize;

use super::Checker;
use crate::nearest::{nearest, one_of};
use crate::raw::{Entries, RawResources};
use crate::report::Origin;
use crate::scalar::{Spanned, Text, quoted};
use crate::settings::{CommandSettings, Resources};

/// The most arguments, the program among them.
const MAX_ARGUMENTS: usize = 256;
/// The most variables of an environment.
const MAX_VARIABLES: usize = 256;
/// The longest name of a variable, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// What the arguments and the environment may be together, each text with what ends it: they are told in one message, and the
/// system gives a program no single text that is longer (execve(2), `MAX_ARG_STRLEN`).
const MAX_BYTES: usize = 128 << 10;
/// The memory of a replica. With less hardly anything starts, its launcher least of all.
const MEMORY: RangeInclusive<ByteSize> = ByteSize(16 << 20)..=ByteSize(16 << 40);
/// The open files of a process: with less hardly anything starts, and the kernel allows no more unless it is told to.
const OPEN_FILES: RangeInclusive<i128> = 64..=1 << 20;
/// Variables that the loader of shared libraries reads begin like this.
const LOADER_PREFIX: &str = "LD_";
/// Decides, among other things, for which processor the C library chooses libraries.
const LIBRARY_TUNABLES: &str = "GLIBC_TUNABLES";
/// What a program is told by serviceos begins like this.
const OWN_PREFIX: &str = "SERVICEOS_";
/// The port, which a program has in development alone.
const PORT: &str = "SERVICEOS_PORT";
/// What it is told.
const GIVEN: [&str; 5] =
    ["SERVICEOS_LISTEN", PORT, "SERVICEOS_SECRETS_DIR", "SERVICEOS_CONFIG", "SERVICEOS_MESH"];

/// The keys that only a service with `command` has, as far as they are beside it.
pub(super) struct BesideCommand {
    pub(super) env: Option<Spanned<Entries<Text>>>,
    pub(super) working_directory: Text,
    pub(super) resources: Option<Spanned<RawResources>>,
}

impl BesideCommand {
    /// Where each of them is written, with its name.
    pub(super) fn written(&self) -> [(Origin, &'static str); 3] {
        let env = self.env.as_ref().map_or(Origin::Default, |env| Origin::from(env.referenced));
        let resources = self.resources.as_ref();
        let resources = resources.map_or(Origin::Default, |resources| Origin::from(resources.referenced));
        [(env, "env"), (self.working_directory.origin, "workingDirectory"), (resources, "resources")]
    }
}

impl Checker {
    pub(super) fn command(
        &mut self,
        key: &str,
        written: Spanned<Vec<Text>>,
        raw: BesideCommand,
        base_dir: &Path,
    ) -> CommandSettings {
        let BesideCommand { env, working_directory, resources } = raw;
        let origin = Origin::from(written.referenced);
        let arguments = self.arguments(&format!("{key}.command"), written);
        let environment = env.map(|env| self.environment(&format!("{key}.env"), env)).unwrap_or_default();
        let found = bytes(&arguments, &environment);
        if found > MAX_BYTES {
            let message = format!(
                "{key}.command: expected at most {MAX_BYTES} bytes together with `env`, found {found}"
            );
            let help = "keep what is long in a file, and name that";
            self.wrong(origin, message, Some(help.to_owned()));
        }
        CommandSettings {
            arguments,
            environment,
            directory: self.path(base_dir, &working_directory, &format!("{key}.workingDirectory")),
            directory_text: working_directory.value,
            resources: resources
                .map(|resources| self.resources(&format!("{key}.resources"), resources.value))
                .unwrap_or_default(),
        }
    }

    fn resources(&mut self, key: &str, raw: RawResources) -> Resources {
        let RawResources { memory, cpus, open_files } = raw;
        Resources {
            memory: memory.map(|memory| self.size(&format!("{key}.memory"), memory, MEMORY)),
            cpus: cpus.and_then(|cpus| self.value(&format!("{key}.cpus"), cpus)),
            open_files: open_files.map(|files| self.whole(&format!("{key}.openFiles"), files, OPEN_FILES)),
        }
    }

    fn arguments(&mut self, key: &str, written: Spanned<Vec<Text>>) -> Vec<String> {
        let found = written.value.len();
        if !(1..=MAX_ARGUMENTS).contains(&found) {
            let message =
                format!("{key}: expected a program and its arguments, 1 to {MAX_ARGUMENTS}, found {found}");
            let help = "write `[\"./infer\", \"--listen\", \"$SERVICEOS_LISTEN\"]`";
            self.wrong(written.referenced.into(), message, Some(help.to_owned()));
        }
        let arguments = written.value.into_iter().enumerate().map(|(index, argument)| {
            if argument.value.is_empty() || argument.value.contains('\0') {
                let found = quoted(&argument.value);
                let message = format!(
                    "{key}[{index}]: expected text that is not empty and has no zero byte, found {found}"
                );
                self.wrong(argument.origin, message, None);
            }
            // The program itself is taken as it is written.
            if index > 0 {
                self.references(&format!("{key}[{index}]"), &argument);
            }
            argument.value
        });
        arguments.collect()
    }

    fn environment(&mut self, key: &str, written: Spanned<Entries<Text>>) -> BTreeMap<String, String> {
        let found = written.value.0.len();
        if found > MAX_VARIABLES {
            let message = format!("{key}: expected at most {MAX_VARIABLES} variables, found {found}");
            self.wrong(written.referenced.into(), message, None);
        }
        let mut environment = BTreeMap::new();
        for (name, value) in written.value.0 {
            self.variable(key, &name);
            self.references(&format!("{key}.{}", name.value), &value);
            if value.value.contains('\0') {
                let (name, found) = (&name.value, quoted(&value.value));
                let message = format!("{key}.{name}: expected text that has no zero byte, found {found}");
                self.wrong(value.origin, message, None);
            }
            let origin = name.origin;
            let message = format!("{key}: {} is written twice", quoted(&name.value));
            if environment.insert(name.value, value.value).is_some() {
                self.wrong(origin, message, Some("keep one of the two".to_owned()));
            }
        }
        environment
    }

    /// Each `$SERVICEOS_…` has to stand for something.
    fn references(&mut self, key: &str, text: &Text) {
        for name in references(&text.value) {
            if !GIVEN.contains(&name) {
                let message = format!("{key}: `${name}` stands for nothing");
                let help = match meant(name) {
                    Some(meant) => format!("did you mean `${meant}`?"),
                    None => format!("there is {}, each with a `$` before it", one_of(&GIVEN)),
                };
                self.wrong(text.origin, message, Some(help));
            } else if name == PORT && self.is_production() {
                let message = format!("{key}: there is no `${PORT}` in production");
                let help = "a command listens on a Unix socket there: use `$SERVICEOS_LISTEN`, which is `unix:` and its path";
                self.wrong(text.origin, message, Some(help.to_owned()));
            }
        }
    }

    /// The name of a variable that a program may be given.
    fn variable(&mut self, key: &str, name: &Text) {
        let text = &name.value;
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=');
        if !visible || !(1..=MAX_NAME_BYTES).contains(&text.len()) {
            let message =
                format!("{key}: expected the name of a variable such as RUST_LOG, found {}", quoted(text));
            let help = format!("a name is 1 to {MAX_NAME_BYTES} visible ASCII characters without `=`");
            self.wrong(name.origin, message, Some(help));
        } else if text.starts_with(LOADER_PREFIX) || text == LIBRARY_TUNABLES {
            let message = format!("{key}.{text}: this variable chooses code that no measurement would show");
            let help = "leave it out, and install libraries where the loader looks for them";
            self.wrong(name.origin, message, Some(help.to_owned()));
        } else if text.starts_with(OWN_PREFIX) {
            let message = format!("{key}.{text}: serviceos itself sets what begins with {OWN_PREFIX}");
            let help = "choose another name; in a value, `$SERVICEOS_LISTEN` stands for the address";
            self.wrong(name.origin, message, Some(help.to_owned()));
        }
    }
}

/// Judged by what is not in every name.
fn meant(name: &str) -> Option<&'static str> {
    let own = |name: &'static str| name.strip_prefix(OWN_PREFIX);
    let near = nearest(name.strip_prefix(OWN_PREFIX)?, GIVEN.into_iter().filter_map(own))?;
    GIVEN.into_iter().find(|given| own(given) == Some(near))
}

fn bytes(arguments: &[String], environment: &BTreeMap<String, String>) -> usize {
    let variables = environment.iter().map(|(name, value)| name.len() + value.len() + 2);
    arguments.iter().map(|argument| argument.len() + 1).chain(variables).sum()
}

/// The names in `$SERVICEOS_NAME` and `${SERVICEOS_NAME}`. Every other `$` is left to the program.
fn references(text: &str) -> impl Iterator<Item = &str> {
    text.split('$').skip(1).filter_map(|after| {
        let braced = after.strip_prefix('{');
        let rest = braced.unwrap_or(after);
        let end = rest.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let is_whole = braced.is_none() || rest.starts_with('}');
        (is_whole && name.starts_with(OWN_PREFIX)).then_some(name)
    })
}
