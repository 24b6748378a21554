//! The upstreams that all proxies share.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};

use crate::child::{Child, Cores};

const START: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// One process with three ports.
#[derive(Debug)]
pub(crate) struct Upstreams {
    pub(crate) ports: [u16; 3],
    _child: Child,
}

impl Upstreams {
    /// Starts them and waits for their ports.
    ///
    /// # Errors
    ///
    /// They do not start within 10 s.
    pub(crate) async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir(folder)?;
        let child = Child::start(program, &[], Cores::Load, folder)?;
        let began = Instant::now();
        loop {
            let said = std::fs::read_to_string(folder.join("stdout"))?;
            if said.ends_with('\n') {
                let ports: Vec<u16> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
                let ports = ports.try_into().ok().context("the upstreams have three ports")?;
                return Ok(Self { ports, _child: child });
            }
            if began.elapsed() > START {
                bail!("the upstreams do not start");
            }
            sleep(POLL).await;
        }
    }
}
