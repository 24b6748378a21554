//! What supervision takes: how long a drain of an idle replica, how long a killed one is missed beyond its own start, how long one
//! `serviceos up` takes to serve in the place of another, and how much of a core it needs for many replicas that nobody calls.

use std::time::Duration;

use anyhow::{Context, bail};
use jiff::{Timestamp, Unit};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::cold_start::is_healthy;
use crate::admin::Admin;
use crate::bench::{Bench, Work};
use crate::child::Cores;
use crate::metric::{Metric, Sample};
use crate::process::{Scope, cpu_time, descendants, resident_bytes};
use crate::subject::{Running, launch_serviceos, start_serviceos, take_over};
use crate::target::{Against, Bound, Outcome, Series, Target};

/// The services with one replica: one that joins by itself, and a command that its launcher joins for.
const ONE_REPLICA: [&str; 2] = ["vrf", "command"];
const TAKEOVER: &str = "takeover";
/// How many of them the files of both ask for.
const MANY: usize = 200;
const MANY_BUILT_IN: &str = "200 oracle";
const MANY_COMMANDS: &str = "200 commands";
/// Until all of many replicas are there.
const MANY_START: Duration = Duration::from_secs(120);
/// What a start leaves to be done, is done by then.
const SETTLE: Duration = Duration::from_secs(5);
/// How long they are supervised; the kernel counts processor time in steps of 10 ms.
const SUPERVISED: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// Until whoever was taken over has finished what it had.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(20);

pub(super) async fn run(bench: &Bench) -> Outcome {
    let [vrf, command] = ONE_REPLICA;
    let at_most = |of, metric, limit| Target {
        of,
        metric,
        against: Against::Itself,
        bound: Bound::AtMost(limit),
        stretch: None,
    };
    let both = |limit| ONE_REPLICA.map(|of| at_most(of, Metric::Milliseconds, limit)).to_vec();
    let title = "the life of replicas";
    let work =
        Work { name: "an idle replica, from the order to drain until it is Stopped", targets: both(200.0) };
    let drained = async |number: usize| drained(bench, ONE_REPLICA[number]).await;
    let drained = bench.compare_ways(title, work, &[vrf, command], drained).await;
    let work = Work {
        name: "from SIGKILL until the replacement is selectable, less what its own start takes",
        targets: both(1000.0),
    };
    let replaced = async |number: usize| replaced(bench, ONE_REPLICA[number]).await;
    let replaced = bench.compare_ways(title, work, &[vrf, command], replaced).await;
    let work = Work {
        name: "from the start of `serviceos up --takeover` until it serves in the place of the one before",
        targets: vec![at_most(TAKEOVER, Metric::Milliseconds, 500.0)],
    };
    let taken_over = async |_only: usize| taken_over(bench).await;
    let taken_over = bench.compare_ways(title, work, &[TAKEOVER], taken_over).await;
    let many = [MANY_BUILT_IN, MANY_COMMANDS];
    let work = Work {
        name: "`serviceos up` alone over 10 s, while nobody calls its replicas",
        targets: many.map(|of| at_most(of, Metric::CorePercent, 2.0)).to_vec(),
    };
    let supervised = async |number: usize| supervised(bench, number == 1).await;
    let supervised = bench.compare_ways(title, work, &many, supervised).await;
    let series: Vec<Series> =
        [drained, replaced, taken_over, supervised].into_iter().flat_map(|part| part.series).collect();
    let notes = vec![
        "The command is the floor. Everything runs on both cores; moments are those of the events.".to_owned(),
        "Of many replicas, `all MiB` is the resident memory of `up` and all that it has started, what they share \
         counted each time."
            .to_owned(),
    ];
    Outcome { case: String::new(), title: title.to_owned(), notes, series }
}

/// One replica of each service that has one.
async fn with_one_of_each(bench: &Bench) -> anyhow::Result<(Running, Admin)> {
    let template = include_str!("../../peers/serviceos-lifecycle.yaml");
    let running = start_serviceos(bench, template, Cores::Both).await?;
    let admin = Admin::of(bench, &running).await?;
    Ok((running, admin))
}

fn milliseconds(from: Timestamp, to: Timestamp) -> anyhow::Result<f64> {
    Ok((to - from).total(Unit::Millisecond)?)
}

async fn drained(bench: &Bench, service: &str) -> anyhow::Result<Sample> {
    let (_running, admin) = with_one_of_each(bench).await?;
    let before = admin.latest(service).await?;
    let told = Timestamp::now();
    admin.order(&format!("/v1/replicas/{service}/0/drain")).await?;
    let stopped = admin.until(service, &before, "Stopped").await?;
    Ok(Sample::from([(Metric::Milliseconds, milliseconds(told, stopped.time)?)]))
}

async fn replaced(bench: &Bench, service: &str) -> anyhow::Result<Sample> {
    let (_running, admin) = with_one_of_each(bench).await?;
    // The same start where nothing has crashed.
    let before = admin.latest(service).await?;
    admin.order(&format!("/v1/replicas/{service}/0/restart")).await?;
    let starting = admin.until(service, &before, "Starting").await?;
    let ready = admin.until(service, &starting, "Ready").await?;
    let start = milliseconds(starting.time, ready.time)?;

    // What joins by itself has taken the place of its launcher; beside a command that stays, and starts nothing else.
    let pid = admin.pid(service).await?;
    let pid = descendants(pid).first().copied().unwrap_or(pid);
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a replica has the number 0")?;
    let killed = Timestamp::now();
    kill_process(pid, Signal::KILL)?;
    // The check that makes it Ready is the last thing that it lacked, so it is selectable at the same moment, and shown as that.
    let again = admin.until(service, &ready, "Ready").await?;
    admin.pid(service).await.context("the replacement")?;
    let all = milliseconds(killed, again.time)?;
    Ok(Sample::from([(Metric::Milliseconds, all - start), (Metric::StartMilliseconds, start)]))
}

async fn taken_over(bench: &Bench) -> anyhow::Result<Sample> {
    let (mut running, _admin) = with_one_of_each(bench).await?;
    let told = Timestamp::now();
    let mut former = take_over(bench, &mut running, Cores::Both)?;
    let began = Instant::now();
    while former.ended().is_none() {
        running.fail_if_ended()?;
        if began.elapsed() > TAKEOVER_LIMIT {
            bail!("the one before has not ended within 20 s");
        }
        sleep(POLL).await;
    }
    let serves = Admin::of(bench, &running).await?.takeover().await?;
    Ok(Sample::from([(Metric::Milliseconds, milliseconds(told, serves.time)?)]))
}

async fn supervised(bench: &Bench, are_commands: bool) -> anyhow::Result<Sample> {
    let template = if are_commands {
        include_str!("../../peers/serviceos-many-commands.yaml")
    } else {
        include_str!("../../peers/serviceos-many-oracle.yaml")
    };
    let began = Instant::now();
    let mut running = launch_serviceos(bench, template, Cores::Both)?;
    while !is_healthy(&running).await {
        running.fail_if_ended()?;
        if began.elapsed() > MANY_START {
            bail!("not healthy within two minutes");
        }
        sleep(POLL).await;
    }
    sleep(SETTLE).await;
    let pid = running.child.pid();
    let (before, since) = (cpu_time(pid, Scope::Root)?, Instant::now());
    sleep(SUPERVISED).await;
    let (spent, elapsed) = (cpu_time(pid, Scope::Root)?.since(before), since.elapsed());
    let service = if are_commands { "command" } else { "oracle" };
    let selectable = Admin::of(bench, &running).await?.selectable(service).await?;
    if selectable != MANY {
        bail!("{selectable} of {MANY} replicas may be called any more");
    }
    let mebibytes = |scope| resident_bytes(pid, scope).map(|bytes| bytes as f64 / f64::from(1 << 20));
    Ok(Sample::from([
        (Metric::CorePercent, 100.0 * spent.total().as_secs_f64() / elapsed.as_secs_f64()),
        (Metric::ResidentMib, mebibytes(Scope::Root)?),
        (Metric::AllResidentMib, mebibytes(Scope::Tree)?),
    ]))
}
