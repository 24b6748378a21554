//! Automation of the repository. It runs cargo and reads files, and links no crate of the house.

mod bench;
mod cargo;
mod test;
mod tidy;

use std::process::ExitCode;

use test::Install;

const USAGE: &str = "\
usage: cargo xtask <command>

  test [--install]   run every test; say what was skipped for want of a program.
                     --install (implied by CI=true) installs the missing Debian packages first
  bench [CASE…]      measure ServiceOS beside nginx, HAProxy and Envoy; `bench --help` tells more
  tidy               check what the compiler does not: arrows between crates, lengths, lints, error pages
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["test"] => test::run(Install::from_environment()),
        ["test", "--install"] => test::run(Install::Missing),
        ["bench", ref arguments @ ..] => bench::run(arguments),
        ["tidy"] => tidy::run(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
