//! Commands that go on: what a stream of the running serviceos tells, event by event.

use anyhow::Context;
use control::{AdminClient, StreamEvent};

use crate::failure::Failure;
use crate::output::{Reader, print_beside};
use crate::signals::Orders;

/// Prints what is shown of each event, until it is told to end, `up` has ended, or nobody reads it any more.
pub(super) async fn follow<E: StreamEvent>(
    client: &AdminClient,
    path: &str,
    shown: impl Fn(&E) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let mut orders = Orders::listen().context("failed to listen for signals")?;
    let printed = async {
        let mut stream = client.watch::<E>(path).await?;
        while let Some(event) = stream.next().await? {
            if print_beside(shown(&event)?).await? == Reader::Gone {
                break;
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = printed => ended,
        _ = orders.first() => Ok(()),
    }
}
