//! Crates that must not be linked. `deny.toml` bans them too; this check needs no further program.
//!
//! `cargo tree` is asked, not `Cargo.lock`: the lock file also names what a feature that is off would bring.

use super::Finding;
use crate::cargo::{cargo, output};

/// One provider of TLS and signatures, aws-lc-rs: two at once panic at run time, and `rsa` leaks its key by timing.
const BANNED: [&str; 4] = ["ring", "rsa", "openssl-sys", "native-tls"];

/// The banned crates among what is linked or runs at build time.
///
/// # Errors
///
/// Cargo fails, for instance because `Cargo.lock` is stale.
pub(crate) fn check() -> anyhow::Result<Vec<Finding>> {
    let tree = output(cargo(&[
        "tree",
        "--workspace",
        "--locked",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    Ok(find(&String::from_utf8_lossy(&tree)))
}

fn find(tree: &str) -> Vec<Finding> {
    let linked = |banned: &str| tree.lines().any(|line| line.split(' ').next() == Some(banned));
    BANNED
        .into_iter()
        .filter(|banned| linked(banned))
        .map(|banned| {
            format!(
                "Cargo.toml: {banned} is linked and banned; `cargo tree --workspace --edges normal,build -i {banned}` \
                 shows who brings it: turn that feature off or take another crate"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_crate_is_found_by_its_whole_name() {
        assert_eq!(find("spring v1.0.0\nrsa-oaep v0.1.0\n"), Vec::<String>::new());
        let found = find("tokio v1.54.0\nring v0.17.14\nring v0.17.14 (*)\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("cargo tree --workspace --edges normal,build -i ring"), "{found:?}");
    }
}
