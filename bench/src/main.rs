//! Measures ServiceOS beside its peers and the floor: `cargo xtask bench [CASE…]`.
//!
//! Each case runs the same work through each program in turn, several rounds. The proxy has core 0 to itself; this process,
//! and with it the load generators and the upstreams, stays on core 1. Ratios within one run count, absolute times do not.

mod admin;
mod bench;
mod cases;
mod certificate;
mod child;
mod client;
mod load;
mod machine;
mod metric;
mod mutual;
mod process;
mod report;
mod subject;
mod target;
mod template;
mod token;
mod upstreams;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use bench::Bench;
use cases::Case;
use report::{Extent, Report};
use subject::{Backend, Subject};

/// Measures ServiceOS beside nginx, HAProxy, Envoy and the floor, as far as they are installed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// What to measure; everything when left out
    cases: Vec<Case>,
    /// How often each program has its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each turn takes; the kernel counts processor time in steps of 10 ms
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Measure these programs only
    #[arg(long, value_delimiter = ',')]
    only: Vec<Subject>,
    /// What ServiceOS is in front of; `vrf` needs no `endpoints:` but is not what the others do
    #[arg(long, value_enum, default_value_t = Backend::Endpoints)]
    backend: Backend,
    /// Also write bench/RESULTS.md, or the cases that are named in it; only where everything is committed
    #[arg(long)]
    publish: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: failed to start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Whatever ends first, dropping the run ends every process that it started.
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            outcome = run(&arguments) => outcome,
            interrupted = interrupted() => interrupted,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    anyhow::bail!("interrupted; everything that was started is stopped")
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.publish {
        machine::check_committed(Path::new("."))?;
    }
    process::pin_self().context("failed to keep to core 1")?;
    process::raise_open_files()?;
    let window = Duration::from_secs(arguments.seconds);
    let bench = Bench::prepare(arguments.rounds, window, &arguments.only, arguments.backend).await?;
    let machine = machine::describe(&bench.programs)?;
    print!("{}", report::machine_text(&machine));

    let mut report =
        Report { machine, rounds: arguments.rounds, seconds: arguments.seconds, cases: Vec::new() };
    let cases = if arguments.cases.is_empty() { Case::all() } else { arguments.cases.clone() };
    for case in cases {
        let outcome = case.run(&bench).await.with_context(|| format!("the case {case}"))?;
        println!("\n{}", report::case_text(&outcome));
        report.cases.push(outcome);
        // After every case, so that an interrupted run leaves what it has.
        report::write_json(&report, &bench.output)?;
    }
    println!("\nwritten: {}", bench.output.join("results.json").display());
    if arguments.publish {
        let extent = if arguments.cases.is_empty() { Extent::Everything } else { Extent::ItsCases };
        report::publish(&report, extent)?;
        println!("written: {}", report::PUBLISHED);
    }
    Ok(())
}
