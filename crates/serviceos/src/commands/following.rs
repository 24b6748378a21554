//! Commands that go on: what a stream of the running serviceos tells, event by event.

use std::convert::Infallible;
use std::ops::ControlFlow;

use anyhow::Context;
use control::{AdminClient, StreamEvent};

use crate::failure::Failure;
use crate::output::{Reader, print_beside};
use crate::signals::Orders;

/// Why no more is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End<T> {
    /// An event is the end of what was asked for, and says this.
    Reached(T),
    /// It was told to end, or nobody reads it any more.
    Told,
    /// `up` has ended.
    OfUp,
}

/// Prints what is shown of each event, until it is told to end, `up` has ended, or nobody reads it any more.
pub(super) async fn follow<E: StreamEvent>(
    client: &AdminClient,
    path: &str,
    shown: impl Fn(&E) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let shown = |event: &E| Ok((Some(shown(event)?), ControlFlow::<Infallible>::Continue(())));
    follow_until(client, path, shown).await.map(|_| ())
}

/// The same, where an event may be the end of it, and may have nothing to be printed.
pub(super) async fn follow_until<E: StreamEvent, T>(
    client: &AdminClient,
    path: &str,
    mut shown: impl FnMut(&E) -> Result<(Option<String>, ControlFlow<T>), Failure>,
) -> Result<End<T>, Failure> {
    let mut orders = Orders::listen().context("failed to listen for signals")?;
    let printed = async {
        let mut stream = client.watch::<E>(path).await?;
        while let Some(event) = stream.next().await? {
            let (said, flow) = shown(&event)?;
            let reader = match said {
                Some(said) => Some(print_beside(said).await?),
                None => None,
            };
            match flow {
                ControlFlow::Break(said) => return Ok(End::Reached(said)),
                ControlFlow::Continue(()) if reader == Some(Reader::Gone) => return Ok(End::Told),
                ControlFlow::Continue(()) => {}
            }
        }
        Ok(End::OfUp)
    };
    tokio::select! {
        ended = printed => ended,
        _ = orders.first() => Ok(End::Told),
    }
}
