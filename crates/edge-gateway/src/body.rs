//! The body of an answer on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use service_router::{BodyError, UpstreamBody};

use crate::exchange::Exchange;

/// A body; with it goes the exchange, which ends when the body does.
pub(crate) struct GatewayBody {
    source: Source,
    exchange: Box<Exchange>,
}

enum Source {
    /// The gateway's own answer; `None` once sent.
    Own(Option<Bytes>),
    /// A replica's answer.
    Upstream(UpstreamBody),
}

impl GatewayBody {
    pub(crate) fn own(bytes: Bytes, exchange: Box<Exchange>) -> Self {
        Self { source: Source::Own(Some(bytes)), exchange }
    }

    pub(crate) fn upstream(body: UpstreamBody, exchange: Box<Exchange>) -> Self {
        Self { source: Source::Upstream(body), exchange }
    }
}

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        let polled = match &mut body.source {
            Source::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Upstream(upstream) => Pin::new(upstream).poll_frame(context),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                body.exchange.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            // The head is sent, so the client sees a broken-off answer; the operator sees why.
            Poll::Ready(Some(Err(error))) => {
                body.exchange.code = Some("UPSTREAM_FAILED");
                body.exchange.error = Some(error.to_string());
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Source::Upstream(upstream) => upstream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Upstream(upstream) => upstream.size_hint(),
        }
    }
}
