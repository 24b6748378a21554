//! The arguments of `serviceos exec`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use mesh_protocol::from_hex;
use types::{Description, DescriptionError, ServiceName};

use super::PlaceArgs;

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The service that the command is a replica of.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: ServiceName,
    /// Where the mesh API listens.
    #[arg(long, value_name = "ADDR", required_unless_present = "measure")]
    pub(crate) mesh: Option<SocketAddr>,
    /// SHA-256 of the key of the mesh's root, in hexadecimal digits: no other authority is believed.
    #[arg(long, value_name = "SPKI_SHA256", value_parser = digest, required_unless_present = "measure")]
    pub(crate) authority: Option<Digest>,
    /// The launch ticket, as `serviceos attestation ticket` has written it.
    #[arg(long, value_name = "FILE", required_unless_present = "measure")]
    pub(crate) ticket_file: Option<PathBuf>,
    /// Where gateways and callers reach the replica, an address of this machine; port 0 lets the system choose. Else the address from
    /// which this machine reaches the mesh API.
    #[arg(long, value_name = "ADDR", value_parser = listen)]
    pub(crate) listen: Option<SocketAddr>,
    /// Where the replica stands, as you call it.
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// Its part of the calls beside that of the others, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) weight: u32,
    /// Something else that is said of the replica; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = entry)]
    pub(crate) meta: Vec<(String, String)>,
    /// The folder `development` of the data directory of `up`, copied to this machine: where evidence is made for development on
    /// another machine than that of `up`. It has a private key in it.
    #[cfg(feature = "development")]
    #[arg(long, value_name = "DIR")]
    pub(crate) development_root: Option<PathBuf>,
    /// A variable of the command's environment, which is empty else; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Print what the command measures, for `attestation.releases`, and run nothing.
    #[arg(long)]
    pub(crate) measure: bool,
    /// The program and its arguments; `$SERVICEOS_LISTEN` and the others stand for what it is told.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

fn digest(text: &str) -> Result<Digest, String> {
    let digest = from_hex(&text.to_ascii_lowercase()).and_then(|bytes| bytes.try_into().ok());
    digest.map(Digest).ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
}

impl ExecArgs {
    /// What is said of the replica.
    ///
    /// # Errors
    /// That cannot be said.
    pub(crate) fn description(&self) -> Result<Description, DescriptionError> {
        let (zone, weight) = (self.zone.clone(), self.weight);
        let description = Description { zone, weight, metadata: self.meta.iter().cloned().collect() };
        description.check().map(|()| description)
    }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let expected = || "expected an address of this machine with a port, such as 10.0.0.7:7443".to_owned();
    let address: SocketAddr = text.parse().map_err(|_| expected())?;
    let ip = address.ip();
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(format!("{}: nobody can connect to {ip}", expected()));
    }
    Ok(address)
}

fn entry(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = split.ok_or_else(|| "expected a key and a value such as rack=7".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

fn variable(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = split.ok_or_else(|| "expected a variable such as RUST_LOG=info".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_named_by_64_hexadecimal_digits() {
        assert_eq!(digest(&"Ab".repeat(32)), Ok(Digest([0xab; 32])));
        for bad in ["", "ab", &"ab".repeat(31), &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(digest(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_replica_listens_where_somebody_can_connect() {
        assert_eq!(listen("10.0.0.7:0"), Ok("10.0.0.7:0".parse().unwrap()));
        assert!(listen("[fd00::7]:7443").is_ok());
        for bad in ["", "7443", "10.0.0.7", "host:7443", "0.0.0.0:7443", "[::]:7443", "224.0.0.1:1"] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_has_a_name_and_its_value_is_all_behind_the_first_equals_sign() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(variable("A="), Ok(("A".to_owned(), String::new())));
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
