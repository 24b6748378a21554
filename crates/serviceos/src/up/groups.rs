//! Control groups, version 2 (cgroups(7)): what the processes of a replica may use together, and their end, which none of them
//! escapes by leaving the process group.
//!
//! ```text
//! BASE ──┬─ supervisor            this process, where controllers are to be given on: who does may have nobody in the group itself
//!        ├─ serviceos-ID.app-0    a launcher with its command, and what that starts
//!        └─ serviceos-ID.app-1
//! ```
//!
//! BASE is the group that this process was started in. It has to be writable (`Delegate=yes` in a unit of systemd). Where it is
//! not, or where a controller is missing, memory is limited for each process by itself, and processors are not at all.

mod place;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use configuration::{Program, Resources, Settings};
use control::LimitsStatus;
use launcher::Limits;
use rustix::fs::{Access, access};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use types::ReplicaId;

/// Where this process is itself, beside its replicas.
const SUPERVISOR: &str = "supervisor";
/// What the names of all groups begin with.
const PREFIX: &str = "serviceos-";
/// How old a group of another data directory is that may be removed when nobody is in it.
const LEFT_FOR: Duration = Duration::from_secs(60);
/// Processes and threads of a replica, at most.
const MAX_PROCESSES: u32 = 4096;
/// What the share of processors is counted over, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// How long the processes of a killed group may take to be gone, and how often it is looked.
const GONE_WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What is done about what replicas may use.
pub(super) struct Confinement {
    groups: Option<Groups>,
    /// Why not all of it is done by groups.
    reason: Option<String>,
    /// What was said of the configuration in force.
    said: watch::Sender<LimitsStatus>,
}

struct Groups {
    base: PathBuf,
    /// What the names of this data directory's groups begin with.
    prefix: String,
    controllers: BTreeSet<Controller>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Memory,
    Cpu,
    Pids,
}

/// The group of a replica.
pub(super) struct Group(PathBuf);

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }

    /// Those that a file names.
    fn of(path: &Path) -> io::Result<BTreeSet<Self>> {
        let text = std::fs::read_to_string(path)?;
        let is_named = |controller: &Self| text.split_whitespace().any(|name| name == controller.name());
        Ok(Self::ALL.into_iter().filter(is_named).collect())
    }
}

impl Confinement {
    /// Finds out what can be done, and prepares it. What an earlier `up` on this data directory has left is removed, as far as
    /// nobody is in it.
    pub(super) fn prepare(data_dir: &Path) -> Self {
        match Groups::open(data_dir) {
            Ok(groups) => {
                let missing: Vec<_> =
                    Controller::ALL.into_iter().filter(|controller| !groups.has(*controller)).collect();
                let names: Vec<_> = missing.iter().map(|controller| controller.name()).collect();
                let reason = format!(
                    "the control group {} (version 2) has no controller {} for groups below it",
                    groups.base.display(),
                    names.join(", ")
                );
                Self::new(Some(groups), (!missing.is_empty()).then_some(reason))
            }
            Err(reason) => Self::new(None, Some(reason)),
        }
    }

    fn new(groups: Option<Groups>, reason: Option<String>) -> Self {
        Self { groups, reason, said: watch::Sender::default() }
    }

    fn has(&self, controller: Controller) -> bool {
        self.groups.as_ref().is_some_and(|groups| groups.has(controller))
    }

    /// What a launcher is told, and the group that is there for it.
    pub(super) fn of(
        &self,
        replica: &ReplicaId,
        resources: &Resources,
    ) -> io::Result<(Limits, Option<Group>)> {
        let group = self.groups.as_ref().map(|groups| groups.make(replica, resources)).transpose()?;
        let memory = resources.memory.filter(|_| !self.has(Controller::Memory));
        let limits = Limits {
            group: group.as_ref().map(|group| group.0.clone()),
            data_bytes: memory.map(|memory| memory.0),
            open_files: resources.open_files,
        };
        Ok((limits, group))
    }

    /// Logs what of the configuration is not done, where that is another than was said before.
    pub(super) fn say(&self, settings: &Settings) {
        let status = self.status(settings);
        let before = self.said.send_replace(status.clone());
        if !status.unenforced.is_empty() && status.unenforced != before.unenforced {
            let (what, why) = (status.unenforced.join("; "), status.reason.as_deref());
            tracing::warn!(what, why, "limits of replicas are not what the configuration says");
        }
    }

    /// All of it as `status` tells it.
    pub(super) fn said(&self) -> watch::Receiver<LimitsStatus> {
        self.said.subscribe()
    }

    fn status(&self, settings: &Settings) -> LimitsStatus {
        let (memory, cpu) = (self.has(Controller::Memory), self.has(Controller::Cpu));
        let mut unenforced = Vec::new();
        for service in &settings.services {
            let Some(Program::Command(command)) = service.process().map(|process| &process.program) else {
                continue;
            };
            let key = format!("services.{}.resources", service.name);
            if command.resources.memory.is_some() && !memory {
                unenforced.push(format!("{key}.memory limits each process of a replica, not all together"));
            }
            if command.resources.cpus.is_some() && !cpu {
                unenforced.push(format!("{key}.cpus is not enforced"));
            }
        }
        let word = |is_done, other: &str| if is_done { "cgroup" } else { other }.to_owned();
        LimitsStatus {
            memory: word(memory, "process"),
            cpus: word(cpu, "off"),
            processes: word(self.has(Controller::Pids), "off"),
            end: word(self.groups.is_some(), "process group"),
            reason: self.reason.clone(),
            unenforced,
        }
    }
}

impl Groups {
    fn open(data_dir: &Path) -> Result<Self, String> {
        let own =
            place::own().map_err(|error| format!("the control group of serviceos is not known: {error}"))?;
        let own = own.ok_or("there are no control groups of version 2")?;
        let base = match own.parent() {
            Some(above) if own.ends_with(SUPERVISOR) => above.to_owned(),
            _ => own,
        };
        let prefix = prefix(data_dir).map_err(|error| format!("{}: {error}", data_dir.display()))?;
        let mut groups = Self { base, prefix, controllers: BTreeSet::new() };
        let may = groups.try_out().and_then(|()| groups.give_controllers_on());
        match may {
            Ok(controllers) => groups.controllers = controllers,
            Err(error) => {
                return Err(format!(
                    "the control group {} cannot be divided ({error}); Delegate=yes of systemd lets it be",
                    groups.base.display()
                ));
            }
        }
        groups.clean();
        Ok(groups)
    }

    /// Whether groups can be made here.
    fn try_out(&self) -> io::Result<()> {
        access(self.base.join("cgroup.procs"), Access::WRITE_OK)?;
        let probe = self.base.join(format!("{}.probe", self.prefix));
        match std::fs::create_dir(&probe) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        std::fs::remove_dir(&probe)
    }

    /// Lets the groups below have what this one has; gives what they have then.
    fn give_controllers_on(&self) -> io::Result<BTreeSet<Controller>> {
        let given = self.base.join("cgroup.subtree_control");
        let (has, gives) = (Controller::of(&self.base.join("cgroup.controllers"))?, Controller::of(&given)?);
        // Only the group of the whole machine has no type, and what is given on there is the machine's own business.
        let is_root = !self.base.join("cgroup.type").exists();
        if has.is_subset(&gives) || is_root || !self.leave()? {
            return Ok(gives);
        }
        for controller in has.difference(&gives) {
            if let Err(error) = set(&given, &format!("+{}", controller.name())) {
                tracing::debug!(%error, controller = controller.name(), "a controller cannot be given on");
            }
        }
        Controller::of(&given)
    }

    /// Leaves nobody in the group itself; false where others are there, who are nobody's to move.
    fn leave(&self) -> io::Result<bool> {
        let members = std::fs::read_to_string(self.base.join("cgroup.procs"))?;
        let own = std::process::id().to_string();
        if members.lines().any(|member| member != own) {
            return Ok(false);
        }
        if !members.is_empty() {
            let supervisor = self.base.join(SUPERVISOR);
            std::fs::create_dir_all(&supervisor)?;
            set(&supervisor.join("cgroup.procs"), &own)?;
        }
        Ok(true)
    }

    fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    /// Removes what others have left that were killed, too: their data directory may be gone, and nobody else ever comes by. One
    /// that is new may be about to be entered.
    fn clean(&self) {
        for entry in std::fs::read_dir(&self.base).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let made = entry.metadata().and_then(|metadata| metadata.modified());
            let is_old = made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > LEFT_FOR));
            let name = name.to_string_lossy();
            if name.starts_with(&self.prefix) || (name.starts_with(PREFIX) && is_old) {
                let _somebody_is_in_it = std::fs::remove_dir(entry.path()).is_err();
            }
        }
    }

    fn make(&self, replica: &ReplicaId, resources: &Resources) -> io::Result<Group> {
        let path = self.base.join(format!("{}.{}", self.prefix, replica.file_stem()));
        match std::fs::create_dir(&path) {
            // Of a run that could not be ended properly: nobody of it may be beside this one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Group(path.clone()).kill(),
            made => made?,
        }
        let group = Group(path);
        for (controller, file, value) in values(resources) {
            if self.has(controller) {
                set(&group.0.join(file), &value)?;
            }
        }
        if self.has(Controller::Memory) {
            // What is swapped out is memory too, and half a replica is none. Without swap the first of them is not there.
            let _no_swap = set(&group.0.join("memory.swap.max"), "0").is_err();
            let _too_old = set(&group.0.join("memory.oom.group"), "1").is_err();
        }
        Ok(group)
    }
}

/// What is written where.
fn values(resources: &Resources) -> [(Controller, &'static str, String); 3] {
    let or_max = |value: Option<u64>| value.map_or("max".to_owned(), |value| value.to_string());
    let quota = resources.cpus.map(|cpus| u64::from(cpus.0) * CPU_PERIOD / 1000);
    [
        (Controller::Memory, "memory.max", or_max(resources.memory.map(|memory| memory.0))),
        (Controller::Cpu, "cpu.max", format!("{} {CPU_PERIOD}", or_max(quota))),
        (Controller::Pids, "pids.max", MAX_PROCESSES.to_string()),
    ]
}

impl Group {
    /// One of a process that an earlier `up` has left.
    pub(super) fn left(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Kills everybody who is in it.
    pub(super) fn kill(&self) {
        if let Err(error) = set(&self.0.join("cgroup.kill"), "1") {
            tracing::warn!(group = %self.0.display(), %error, "the control group of a replica cannot be ended");
        }
    }

    /// Kills everybody who is left, and removes it once they are gone. Returns how many were killed since memory ran out in it.
    pub(super) async fn end(&self) -> u64 {
        self.kill();
        let out_of_memory =
            std::fs::read_to_string(self.0.join("memory.events")).map_or(0, |text| kills(&text));
        let until = Instant::now() + GONE_WITHIN;
        while let Err(error) = std::fs::remove_dir(&self.0) {
            if error.kind() == io::ErrorKind::NotFound {
                break;
            }
            if Instant::now() > until {
                tracing::warn!(group = %self.0.display(), %error, "the control group of a replica cannot be removed");
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        out_of_memory
    }
}

/// `oom_kill` of `memory.events`.
fn kills(events: &str) -> u64 {
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}

/// Writes into a file that is there, as everything in a group is.
fn set(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// The same for each start on a data directory, and another for every other.
fn prefix(data_dir: &Path) -> io::Result<String> {
    let digest = Sha256::digest(data_dir.canonicalize()?.as_os_str().as_encoded_bytes());
    Ok(format!("{PREFIX}{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]))
}

#[cfg(test)]
mod tests {
    use configuration::Cpus;
    use expect_test::expect;
    use types::ByteSize;

    use super::*;

    #[test]
    fn what_is_asked_for_is_what_is_written() {
        let told = |resources| {
            let line = |(_, file, value): (Controller, &str, String)| format!("{file} {value}\n");
            values(&resources).map(line).concat()
        };
        let resources =
            Resources { memory: Some(ByteSize(2 << 30)), cpus: Some(Cpus(1500)), open_files: Some(9) };
        expect![[r#"
            memory.max 2147483648
            cpu.max 150000 100000
            pids.max 4096
        "#]]
        .assert_eq(&told(resources));
        expect![[r#"
            memory.max max
            cpu.max max 100000
            pids.max 4096
        "#]]
        .assert_eq(&told(Resources::default()));
    }

    #[test]
    fn a_group_with_others_in_it_is_not_left_and_one_with_this_process_alone_is() {
        let folder = tempfile::tempdir().unwrap();
        let (base, supervisor) = (folder.path(), folder.path().join(SUPERVISOR));
        let groups =
            Groups { base: base.to_owned(), prefix: "serviceos-0".into(), controllers: BTreeSet::new() };
        std::fs::create_dir(&supervisor).unwrap();
        std::fs::write(supervisor.join("cgroup.procs"), "").unwrap();
        let own = std::process::id().to_string();
        for (members, is_left, moved) in
            [(format!("1\n{own}\n"), false, ""), (String::new(), true, ""), (format!("{own}\n"), true, &own)]
        {
            std::fs::write(base.join("cgroup.procs"), &members).unwrap();
            assert_eq!(groups.leave().unwrap(), is_left, "{members:?}");
            assert_eq!(std::fs::read_to_string(supervisor.join("cgroup.procs")).unwrap(), moved);
        }
    }

    #[test]
    fn it_is_seen_that_memory_ran_out() {
        assert_eq!(kills("low 0\nhigh 0\nmax 31\noom 2\noom_kill 2\noom_group_kill 1\n"), 2);
        assert_eq!(kills(""), 0);
    }

    #[test]
    fn the_groups_of_a_data_directory_have_names_of_their_own() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(prefix(one.path()).unwrap(), prefix(&one.path().join(".")).unwrap());
        assert_ne!(prefix(one.path()).unwrap(), prefix(other.path()).unwrap());
    }

    fn settings(text: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serviceos.yaml");
        std::fs::write(&path, text).unwrap();
        configuration::load(&path, &configuration::Overrides::default(), configuration::any_config).unwrap()
    }

    #[test]
    fn without_groups_memory_is_the_launchers_business_and_that_is_said() {
        let confinement = Confinement::new(None, Some("there are none".into()));
        let resources =
            Resources { memory: Some(ByteSize(1 << 30)), cpus: Some(Cpus(500)), open_files: Some(99) };
        let (limits, group) = confinement.of(&"app/0".parse().unwrap(), &resources).unwrap();
        assert!(group.is_none());
        assert_eq!(limits, Limits { group: None, data_bytes: Some(1 << 30), open_files: Some(99) });
        let text =
            "services: {app: {command: [app], resources: {memory: 1GiB, cpus: 0.5, openFiles: 99}}, vrf: }";
        let settings = settings(text);
        expect![[r#"
            LimitsStatus {
                memory: "process",
                cpus: "off",
                processes: "off",
                end: "process group",
                reason: Some(
                    "there are none",
                ),
                unenforced: [
                    "services.app.resources.memory limits each process of a replica, not all together",
                    "services.app.resources.cpus is not enforced",
                ],
            }"#]]
        .assert_eq(&format!("{:#?}", confinement.status(&settings)));
    }
}
