//! A program of the operator's own: its arguments, its environment, and where it works.

use std::collections::BTreeMap;
use std::path::Path;

use serde_saphyr::Spanned;

use super::Checker;
use crate::raw::Entries;
use crate::report::Origin;
use crate::scalar::{Text, quoted};
use crate::settings::CommandSettings;

/// The most arguments, the program among them.
const MAX_ARGUMENTS: usize = 256;
/// The most variables of an environment.
const MAX_VARIABLES: usize = 256;
/// The longest name of a variable, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Variables that the loader of shared libraries reads begin like this.
const LOADER_PREFIX: &str = "LD_";
/// Decides, among other things, for which processor the C library chooses libraries.
const LIBRARY_TUNABLES: &str = "GLIBC_TUNABLES";
/// What a program is told by serviceos begins like this.
const OWN_PREFIX: &str = "SERVICEOS_";

/// The keys that only a service with `command` has, as far as they are beside it.
pub(super) struct BesideCommand {
    pub(super) env: Option<Spanned<Entries<Text>>>,
    pub(super) working_directory: Text,
}

impl BesideCommand {
    /// Where each of them is written, with its name.
    pub(super) fn written(&self) -> [(Origin, &'static str); 2] {
        let env = self.env.as_ref().map_or(Origin::Default, |env| Origin::from(env.referenced));
        [(env, "env"), (self.working_directory.origin, "workingDirectory")]
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
        let BesideCommand { env, working_directory } = raw;
        CommandSettings {
            arguments: self.arguments(&format!("{key}.command"), written),
            environment: env.map(|env| self.environment(&format!("{key}.env"), env)).unwrap_or_default(),
            directory: self.path(base_dir, &working_directory, &format!("{key}.workingDirectory")),
            directory_text: working_directory.value,
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
