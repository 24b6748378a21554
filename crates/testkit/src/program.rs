//! Programs of the machine that some tests run.

/// Whether a program is there. A test that needs it returns when it is not, and says so; in CI, where everything is
/// installed, its absence is a failure.
///
/// # Panics
/// In CI, when it is missing.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    assert!(
        found || std::env::var_os("CI").is_none(),
        "{name} is missing; `cargo xtask test --install` installs it"
    );
    if !found {
        eprintln!("skipped: {name} is missing; `cargo xtask test --install` installs it");
    }
    found
}
