//! What of a service needs other processes when it is another: what makes a version, beside its label.
//!
//! How many there are, how they are called, checked, drained and started again, and their `config`, is the same for all
//! versions. What it is called does not count either: the label stands beside the digest.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use types::ServiceName;
use types::wire::Message;

use crate::settings::{
    AttestationSettings, CommandSettings, ConfigReload, ProcessSettings, Program, Protocol, ReleaseSettings,
    Releases, Resources, Runs, ServiceSettings, SgxRelease,
};

impl ServiceSettings {
    /// The SHA-256 of what its processes are made of, of which `workload` is what its program was measured as; `None` for a
    /// service with endpoints. Another version of the program, with other keys, may give another one.
    pub fn spec_digest(&self, workload: Option<&[u8; 32]>) -> Option<[u8; 32]> {
        // Without `..`, so that a new key cannot be forgotten here.
        let Self {
            name: _,
            version: _,
            required: _,
            runs,
            protocol,
            health_check: _,
            routes: _,
            load_balancing: _,
            traffic: _,
            retry: _,
            circuit: _,
            outlier: _,
            drain_timeout: _,
        } = self;
        let Runs::Process(process) = runs else { return None };
        let ProcessSettings {
            program,
            replicas: _,
            config: _,
            config_reload,
            secrets,
            allow,
            attestation,
            grace: _,
            restart: _,
            rollout: _,
            start_timeout: _,
        } = process.as_ref();
        let message = Message::tagged(b"serviceos/spec/v1\0").lp(match protocol {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
            Protocol::Grpc => "grpc",
        });
        let message = message.lp(match config_reload {
            ConfigReload::File => "file",
            ConfigReload::Signal => "signal",
        });
        let message = list(message, secrets.iter().map(String::as_str));
        let message = list(message, allow.iter().map(ServiceName::as_str));
        let message = of_program(message, program, attestation);
        let message = message.lp(workload.map_or(&[][..], |workload| workload));
        Some(Sha256::digest(message.finish()).into())
    }
}

fn of_program(message: Message, program: &Program, attestation: &AttestationSettings) -> Message {
    match program {
        Program::Builtin(builtin) => message.lp("builtin").lp(builtin.name()),
        Program::Command(command) => {
            // Where the directory lies is nothing of the program's, as in what is measured.
            let CommandSettings { arguments, environment, directory: _, directory_text, resources } = command;
            let message = list(message.lp("command"), arguments.iter().map(String::as_str));
            of_resources(pairs(message, environment).lp(directory_text), resources)
        }
        // Nothing else says what they run.
        Program::Elsewhere => of_releases(message.lp("elsewhere"), &attestation.releases),
    }
}

fn of_resources(message: Message, resources: &Resources) -> Message {
    let Resources { memory, cpus, open_files } = resources;
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let message = message.lp(number(memory.map(|memory| memory.0)));
    message.lp(number(cpus.map(|cpus| cpus.0.into()))).lp(number(open_files.map(Into::into)))
}

fn of_releases(message: Message, releases: &Releases) -> Message {
    let listed = match releases {
        Releases::Measured => &[][..],
        Releases::Listed(listed) => listed,
    };
    listed.iter().fold(count(message, listed.len()), |message, release| {
        let ReleaseSettings { version, simulated, sgx } = release;
        let simulated = simulated.as_ref().map_or(&[][..], |workload| &workload.0);
        let message = message.lp(version).lp(simulated);
        match sgx {
            None => message.lp("none"),
            Some(SgxRelease::Enclave(enclave)) => message.lp("enclave").raw(enclave.0),
            Some(SgxRelease::Signer { signer, product, least_version }) => {
                let message = message.lp("signer").raw(signer.0);
                message.raw(product.to_be_bytes()).raw(least_version.to_be_bytes())
            }
        }
    })
}

fn list<'a>(message: Message, items: impl ExactSizeIterator<Item = &'a str>) -> Message {
    let message = count(message, items.len());
    items.fold(message, Message::lp)
}

fn pairs(message: Message, pairs: &BTreeMap<String, String>) -> Message {
    pairs.iter().fold(count(message, pairs.len()), |message, (name, value)| message.lp(name).lp(value))
}

fn count(message: Message, count: usize) -> Message {
    message.raw((count as u64).to_be_bytes())
}
