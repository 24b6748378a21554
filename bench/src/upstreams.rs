//! The upstreams that all proxies share.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

use crate::child::{Child, Cores};

const START: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// One process with six ports.
#[derive(Debug)]
pub(crate) struct Upstreams {
    /// In the clear.
    pub(crate) ports: [u16; 3],
    /// By mutual TLS.
    pub(crate) mutual_ports: [u16; 3],
    _child: Child,
}

impl Upstreams {
    /// Starts them in a folder, which has what they need for TLS, and waits for their ports.
    ///
    /// # Errors
    ///
    /// They do not start within 10 s.
    pub(crate) async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let mut child = Child::start(program, &[".".to_owned()], Cores::Load, folder)?;
        let began = Instant::now();
        loop {
            let said = std::fs::read_to_string(folder.join("stdout"))?;
            if said.ends_with('\n') {
                let ports: Vec<u16> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
                let [a, b, c, d, e, f] = ports[..] else { bail!("the upstreams have six ports") };
                return Ok(Self { ports: [a, b, c], mutual_ports: [d, e, f], _child: child });
            }
            if let Some(status) = child.ended() {
                let why = std::fs::read_to_string(folder.join("stderr"))?;
                bail!("the upstreams ended ({status}): {}", why.trim());
            }
            if began.elapsed() > START {
                bail!("the upstreams do not start");
            }
            sleep(POLL).await;
        }
    }
}
