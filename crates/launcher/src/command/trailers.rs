//! A body whose trailers are filtered as a head is.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body as HttpBody, Frame, SizeHint};
use sdk::Body;

use super::headers::{self, Reserved};

/// The body of a message that goes on.
struct Filtered<B> {
    body: B,
    reserved: Reserved,
}

/// The same body, without what may not go on.
pub(super) fn filtered<B>(body: B, reserved: Reserved) -> Body
where
    B: HttpBody<Data = hyper::body::Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Body::new(Filtered { body, reserved })
}

impl<B: HttpBody + Unpin> HttpBody for Filtered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::trailers(trailers, self.reserved);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
