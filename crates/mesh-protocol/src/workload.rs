//! The workload digest W: what a process runs, and with what.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::wire::Message;

use crate::sha256;

/// Everything that decides what a process does, as it is written before `$SERVICEOS_…` is expanded, so that nothing of a
/// single replica is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The service. Built-in services share one executable, and this tells them apart.
    pub service: String,
    /// SHA-256 of the launcher's executable.
    pub launcher: [u8; 32],
    /// SHA-256 of the executable.
    pub executable: [u8; 32],
    /// The arguments, the program's own name first.
    pub arguments: Vec<String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The working directory.
    pub directory: String,
    /// SHA-256 of each file that is run or loaded too, by path: interpreters, scripts, shared libraries.
    pub files: BTreeMap<String, [u8; 32]>,
}

impl Workload {
    /// W = SHA-256("serviceos/workload/v1\0" ‖ lp(service) ‖ lp(launcher) ‖ lp(executable) ‖ u32 argc ‖ lp(argument)… ‖ u32 envc
    /// ‖ lp("K=V")… sorted ‖ lp(directory) ‖ u32 filec ‖ (lp(path) ‖ lp(sha256))… sorted).
    pub fn digest(&self) -> [u8; 32] {
        let mut message = Message::tagged(b"serviceos/workload/v1\0")
            .lp(&self.service)
            .lp(self.launcher)
            .lp(self.executable)
            .raw(count(self.arguments.len()));
        for argument in &self.arguments {
            message = message.lp(argument);
        }
        // Sorted as whole lines: a name that begins like another may stand elsewhere in the order of names alone.
        let lines: BTreeSet<_> =
            self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        message = message.raw(count(lines.len()));
        for line in &lines {
            message = message.lp(line);
        }
        message = message.lp(&self.directory).raw(count(self.files.len()));
        for (path, digest) in &self.files {
            message = message.lp(path).lp(digest);
        }
        sha256(&message.finish())
    }
}

fn count(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("a command line has far fewer than 4 billion parts").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload {
            service: "infer".into(),
            launcher: [1; 32],
            executable: [2; 32],
            arguments: vec!["./infer".into(), "--port".into(), "$SERVICEOS_PORT".into()],
            environment: BTreeMap::from([("A".into(), "x".into()), ("B".into(), "y".into())]),
            directory: "infer".into(),
            files: BTreeMap::from([("/lib/libc.so.6".into(), [3; 32])]),
        }
    }

    #[test]
    fn every_part_of_a_workload_changes_its_digest() {
        let digest = workload().digest();
        let changes: [fn(&mut Workload); 8] = [
            |workload| workload.service = "infer2".into(),
            |workload| workload.launcher[0] ^= 1,
            |workload| workload.executable[31] ^= 1,
            |workload| workload.arguments[1] = "--sport".into(),
            |workload| workload.arguments.push(String::new()),
            |workload| workload.environment.insert("A".into(), "z".into()).map_or((), drop),
            |workload| workload.directory = "infe".into(),
            |workload| workload.files.values_mut().for_each(|digest| digest[0] ^= 1),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = workload();
            change(&mut changed);
            assert_ne!(changed.digest(), digest, "change {number}");
        }
    }

    #[test]
    fn the_digest_agrees_with_an_independent_computation() {
        let digest: String = workload().digest().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "f75ed2b28cd22fda08531d35c6c64994988bcbe959f925deca175db00f74f922");
    }
}
