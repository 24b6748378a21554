//! What all cases share: the programs, the upstreams, the certificates, and the order in which programs have their turns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use crate::certificate::Certificate;
use crate::metric::{Metric, Sample};
use crate::mutual::Mutual;
use crate::process::{CpuTime, core_busy, cpu_time, resident_bytes};
use crate::subject::{Backend, Front, Running, Subject, start};
use crate::target::{Outcome, Row, Series, Target};
use crate::upstreams::Upstreams;

/// The wrk scripts of `bench/load`, each with the report behind it.
const SCRIPTS: [(&str, &str); 3] = [
    ("report.lua", ""),
    ("upload.lua", include_str!("../load/upload.lua")),
    ("routes.lua", include_str!("../load/routes.lua")),
];
const REPORT: &str = include_str!("../load/report.lua");

/// What all cases share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) rounds: u32,
    /// How long a turn is measured.
    pub(crate) window: Duration,
    pub(crate) only: Vec<Subject>,
    pub(crate) backend: Backend,
    pub(crate) programs: Programs,
    pub(crate) upstreams: Upstreams,
    pub(crate) certificate: Certificate,
    pub(crate) mutual: Mutual,
    /// Where results stay.
    pub(crate) output: PathBuf,
    /// Where everything else is while the runner runs.
    folder: TempDir,
}

/// Where the programs are, as far as they are installed.
#[derive(Debug)]
pub(crate) struct Programs {
    found: Vec<(Subject, PathBuf)>,
}

impl Programs {
    fn find_all(folder: &Path) -> Self {
        let place = |subject| match subject {
            Subject::Floor => Some(folder.join("bench-floor")).filter(|path| path.is_file()),
            Subject::Serviceos => Some(folder.join("serviceos")).filter(|path| path.is_file()),
            Subject::Nginx => installed("nginx"),
            Subject::Haproxy => installed("haproxy"),
            Subject::Envoy => installed("envoy"),
        };
        let found = Subject::ALL.into_iter().filter_map(|subject| Some((subject, place(subject)?)));
        Self { found: found.collect() }
    }

    /// # Errors
    ///
    /// The program is not installed.
    pub(crate) fn find(&self, subject: Subject) -> anyhow::Result<&Path> {
        let found = self.found.iter().find(|(found, _)| *found == subject);
        found.map(|(_, path)| path.as_path()).context("not installed")
    }
}

/// A program in the search path, or where Debian puts servers.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What one kind of work within a case is called, and what it must reach.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) targets: Vec<Target>,
}

impl Bench {
    /// Finds the programs, makes the certificates, starts the upstreams.
    ///
    /// # Errors
    ///
    /// The upstreams do not start, or files cannot be written beside the runner's own.
    pub(crate) async fn prepare(
        rounds: u32,
        window: Duration,
        only: &[Subject],
        backend: Backend,
    ) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let binaries = own.parent().context("the runner lies in no folder")?;
        let output = binaries.parent().unwrap_or(binaries).join("bench");
        std::fs::create_dir_all(&output)?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&output)?;
        for (name, script) in SCRIPTS {
            std::fs::write(folder.path().join(name), format!("{script}{REPORT}"))?;
        }
        let at_upstreams = folder.path().join("upstreams");
        std::fs::create_dir(&at_upstreams)?;
        let mutual = Mutual::make(folder.path(), &at_upstreams)?;
        let upstreams = Upstreams::start(&binaries.join("bench-upstream"), &at_upstreams).await?;
        Ok(Self {
            rounds,
            window,
            only: only.to_owned(),
            backend,
            programs: Programs::find_all(binaries),
            upstreams,
            certificate: Certificate::make(folder.path())?,
            mutual,
            output,
            folder,
        })
    }

    /// A folder for one program's turn.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(crate) fn new_folder(&self) -> anyhow::Result<TempDir> {
        Ok(TempDir::new_in(self.folder.path())?)
    }

    /// Where one of the wrk scripts lies.
    pub(crate) fn script(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `measure` with each program in turn and judges. `measure` gives a sample for each of `works`.
    pub(crate) async fn compare(
        &self,
        title: &str,
        front: Front,
        subjects: &[Subject],
        works: Vec<Work>,
        measure: impl AsyncFn(&Running) -> anyhow::Result<Vec<Sample>>,
    ) -> Outcome {
        let wanted = |subject: &Subject| self.only.is_empty() || self.only.contains(subject);
        let subjects: Vec<Subject> = subjects.iter().copied().filter(wanted).collect();
        let names: Vec<&'static str> = subjects.iter().map(|subject| subject.name()).collect();
        let all = self.alternate(title, &names, async |number| {
            let running = start(self, subjects[number], front).await?;
            measure(&running).await
        });
        let all = all.await;
        let series = works.into_iter().enumerate().map(|(number, work)| {
            let rows: Vec<Row> = all.iter().map(|turns| turns.row(number)).collect();
            Series::new(work.name, rows, &work.targets)
        });
        let series = series.collect();
        let notes = subjects.iter().flat_map(|subject| subject.notes(front, self.backend)).collect();
        Outcome { case: String::new(), title: title.to_owned(), notes, series }
    }

    /// The same for ServiceOS alone, set up in several ways; `measure` is given the number of the way.
    pub(crate) async fn compare_ways(
        &self,
        title: &str,
        work: Work,
        names: &[&'static str],
        measure: impl AsyncFn(usize) -> anyhow::Result<Sample>,
    ) -> Outcome {
        let all = self.alternate(title, names, async |number| Ok(vec![measure(number).await?])).await;
        let rows: Vec<Row> = all.iter().map(|turns| turns.row(0)).collect();
        let series = vec![Series::new(work.name, rows, &work.targets)];
        Outcome { case: String::new(), title: title.to_owned(), notes: Vec::new(), series }
    }

    /// A B C A B C …. What fails is left out from then on.
    async fn alternate(
        &self,
        title: &str,
        names: &[&'static str],
        measure: impl AsyncFn(usize) -> anyhow::Result<Vec<Sample>>,
    ) -> Vec<Turns> {
        let mut all: Vec<Turns> = names.iter().map(|name| Turns::new(name)).collect();
        for round in 1..=self.rounds {
            for (number, turns) in all.iter_mut().enumerate().filter(|(_, turns)| turns.failed.is_none()) {
                eprintln!("{title}: round {round} of {}: {}", self.rounds, turns.name);
                match measure(number).await {
                    Ok(samples) => turns.samples.push(samples),
                    Err(error) => {
                        eprintln!("  left out: {error:#}");
                        turns.failed = Some(format!("{error:#}"));
                    }
                }
            }
        }
        all
    }
}

/// What one program's turns gave.
struct Turns {
    name: &'static str,
    /// A sample for each kind of work, round by round.
    samples: Vec<Vec<Sample>>,
    failed: Option<String>,
}

impl Turns {
    fn new(name: &'static str) -> Self {
        Self { name, samples: Vec::new(), failed: None }
    }

    /// A program that failed once has no figures: medians of fewer rounds would be compared with those of all.
    fn row(&self, work: usize) -> Row {
        match &self.failed {
            Some(reason) => Row::absent(self.name, reason.clone()),
            None => {
                let samples = self.samples.iter().filter_map(|samples| samples.get(work).cloned());
                Row::new(self.name, samples.collect())
            }
        }
    }
}

/// What the proxy spent while `load` ran.
#[derive(Debug)]
pub(crate) struct Usage {
    cpu: CpuTime,
    elapsed: Duration,
    core: Duration,
    resident_bytes: u64,
}

/// Runs `load` and looks at the proxy before and after.
///
/// # Errors
///
/// The load fails, or the proxy is gone.
pub(crate) async fn measured<T>(
    running: &Running,
    load: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, Usage)> {
    let (pid, scope) = (running.child.pid(), running.scope);
    let (cpu, core, began) = (cpu_time(pid, scope)?, core_busy()?, std::time::Instant::now());
    let outcome = load.await?;
    let usage = Usage {
        cpu: cpu_time(pid, scope)?.since(cpu),
        elapsed: began.elapsed(),
        core: core_busy()?.saturating_sub(core),
        resident_bytes: resident_bytes(pid, scope)?,
    };
    Ok((outcome, usage))
}

impl Usage {
    /// Processor time for each of `requests`, and how busy the core was.
    pub(crate) fn per_request(&self, requests: u64) -> Sample {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / requests as f64;
        let share = |time: Duration| 100.0 * time.as_secs_f64() / self.elapsed.as_secs_f64();
        Sample::from([
            (Metric::CpuMicros, each(self.cpu.total())),
            (Metric::UserMicros, each(self.cpu.user)),
            (Metric::SystemMicros, each(self.cpu.system)),
            (Metric::RequestsPerSecond, requests as f64 / self.elapsed.as_secs_f64()),
            (Metric::ResidentMib, self.resident_bytes as f64 / f64::from(1 << 20)),
            (Metric::CorePercent, share(self.cpu.total())),
            (Metric::ForeignPercent, share(self.core.saturating_sub(self.cpu.total()))),
        ])
    }

    /// MiB of bodies for each second of processor time.
    pub(crate) fn mebibytes_per_cpu_second(&self, mebibytes: f64) -> f64 {
        mebibytes / self.cpu.total().as_secs_f64()
    }
}
