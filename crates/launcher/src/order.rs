//! What a launcher is told, in one message over its standard input.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use mesh_protocol::{FrameError, Workload, send_with_descriptors};
use sdk::Protocol;
use serde::{Deserialize, Serialize};
use types::ServiceName;

use crate::{Directory, Measured, Program};

/// The one message.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Order {
    /// Comes with the sealed copy of the program and the registration socket.
    Launch(LaunchOrder),
    /// Comes with the registration socket.
    Command(CommandOrder),
}

/// To let a program that links the sdk take the launcher's place. Whoever gives the order has measured the program, so that
/// the replicas of a service share one copy of it; the launcher takes a copy only if it is sealed, and registers the workload
/// that it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchOrder {
    /// What was measured.
    pub workload: Workload,
    /// What the program is called in its own arguments.
    pub name: String,
    /// Its arguments, expanded, without its name.
    pub arguments: Vec<String>,
    /// Its environment, expanded.
    pub environment: BTreeMap<String, String>,
    /// Where it works.
    pub directory: PathBuf,
}

/// To stay, join the mesh, and run a command that knows nothing of it. The launcher measures the command itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandOrder {
    /// The service.
    pub service: ServiceName,
    /// The command as it is written, the program first.
    pub arguments: Vec<String>,
    /// Its environment as it is written.
    pub environment: BTreeMap<String, String>,
    /// Where it works.
    pub directory: Directory,
    /// What it speaks.
    pub protocol: Protocol,
    /// An absolute path to a folder of this data directory that this user alone may enter. What a replica is given as files is
    /// kept below it where memory can be mounted there, and is named after it elsewhere.
    pub run: PathBuf,
    /// How long after a SIGTERM the launcher is killed.
    pub grace: Duration,
    /// What it may use. It is no part of what is measured.
    pub limits: Limits,
}

/// What a replica that runs a command may use, as far as its launcher sees to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// The folder of a control group, version 2, which the launcher enters before anything else. What it may use together, and
    /// who ends it, is the business of whoever has made it.
    pub group: Option<PathBuf>,
    /// The private memory that each process of the command may have, in bytes (getrlimit(2), `RLIMIT_DATA`).
    pub data_bytes: Option<u64>,
    /// The files that each process of the command may have open.
    pub open_files: Option<u32>,
}

impl LaunchOrder {
    /// Gives the order over a socket, with what it speaks of.
    ///
    /// # Errors
    /// The program is a script, or the socket fails.
    pub fn give(
        &self,
        to: &mut UnixStream,
        measured: &Measured,
        registration: &UnixStream,
    ) -> Result<(), FrameError> {
        let sealed = measured.sealed().ok_or(FrameError::Malformed("order"))?;
        Order::Launch(self.clone()).give(to, &[sealed, registration.as_fd()])
    }
}

impl CommandOrder {
    /// Gives the order over a socket, with the socket that the launcher registers over.
    ///
    /// # Errors
    /// The socket fails.
    pub fn give(&self, to: &mut UnixStream, registration: &UnixStream) -> Result<(), FrameError> {
        Order::Command(self.clone()).give(to, &[registration.as_fd()])
    }

    /// What is measured, by a launcher whose own executable has this SHA-256
    /// ([`Measurer::own_digest`](crate::Measurer::own_digest)).
    pub fn program(&self, launcher: [u8; 32]) -> Program {
        Program {
            service: self.service.to_string(),
            launcher,
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            directory: self.directory.clone(),
        }
    }
}

impl Order {
    fn give(&self, to: &mut UnixStream, descriptors: &[BorrowedFd<'_>]) -> Result<(), FrameError> {
        let order = serde_json::to_vec(self).expect("an order has no map with keys that JSON cannot write");
        send_with_descriptors(to, &order, descriptors)
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        serde_json::from_slice(payload).map_err(|_| FrameError::Malformed("order"))
    }
}

#[cfg(test)]
mod tests {
    use mesh_protocol::receive_with_descriptors;

    use super::*;

    fn order() -> CommandOrder {
        CommandOrder {
            service: "infer".parse().unwrap(),
            arguments: vec!["./infer".into(), "--port=$SERVICEOS_PORT".into()],
            environment: BTreeMap::from([("MODEL".into(), "small".into())]),
            directory: Directory { path: "/srv/infer".into(), hashed: ".".into() },
            protocol: Protocol::Http2,
            run: "/srv/.serviceos/run".into(),
            grace: Duration::from_millis(1500),
            limits: Limits { group: None, data_bytes: Some(1 << 30), open_files: Some(4096) },
        }
    }

    #[test]
    fn an_order_for_a_command_reads_back_with_its_one_descriptor() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let (registration, _quoter) = UnixStream::pair().unwrap();
        order().give(&mut near, &registration).unwrap();
        let (payload, descriptors) = receive_with_descriptors(&mut far).unwrap();
        assert_eq!(descriptors.len(), 1);
        assert_eq!(Order::decode(&payload).unwrap(), Order::Command(order()));
        expect_test::expect![[r#"{"command":{"service":"infer","arguments":["./infer","--port=$SERVICEOS_PORT"],"environment":{"MODEL":"small"},"directory":{"path":"/srv/infer","hashed":"."},"protocol":"http2","run":"/srv/.serviceos/run","grace":{"secs":1,"nanos":500000000},"limits":{"group":null,"dataBytes":1073741824,"openFiles":4096}}}"#]]
            .assert_eq(str::from_utf8(&payload).unwrap());
    }

    #[test]
    fn a_cut_order_or_one_of_another_kind_is_refused() {
        let payload = serde_json::to_vec(&Order::Command(order())).unwrap();
        for length in 0..payload.len() {
            assert!(Order::decode(&payload[..length]).is_err(), "{length}");
        }
        assert!(Order::decode(br#"{"other":{}}"#).is_err());
    }

    #[test]
    fn what_is_measured_is_what_the_order_says() {
        let program = order().program([7; 32]);
        assert_eq!((program.service.as_str(), program.launcher), ("infer", [7; 32]));
        assert_eq!((program.arguments, program.directory), (order().arguments, order().directory));
        assert_eq!(program.environment, order().environment);
    }
}
