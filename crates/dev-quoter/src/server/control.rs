//! One control connection. Over the named socket it begins with the control key, or it is a stranger's.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use mesh_protocol::{
    FrameError, MAX_QUOTER_REQUEST_BYTES, QuoterAnswer, QuoterRefusal, QuoterRequest, receive_request,
};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{KEY_LIMIT, Order, Shared, answer, from_std};

/// A connection over the named socket, whose first frame says whether it is served at all.
pub(super) async fn connection(mut stream: UnixStream, shared: Arc<Shared>, permit: OwnedSemaphorePermit) {
    let first = timeout(KEY_LIMIT, receive_request(&mut stream, MAX_QUOTER_REQUEST_BYTES)).await;
    match first {
        Ok(Ok((payload, _))) if shared.is_control_key(&payload) => {
            if answer(&mut stream, &QuoterAnswer::Done(Vec::new())).await {
                serve(stream, shared, permit).await;
            }
        }
        Ok(Err(FrameError::Closed)) => {}
        _ => {
            let refusal = QuoterRefusal::CallerNotLaunched;
            tracing::warn!(code = refusal.code(), "a connection to the quoter showed no control key");
            let detail =
                "a process gets its evidence over the socket that its launcher gave it, not over this one";
            answer(&mut stream, &QuoterAnswer::refused(refusal, detail)).await;
        }
    }
}

/// Serves whoever started the quoter, or has shown its key, until it hangs up.
pub(super) async fn serve(mut stream: UnixStream, shared: Arc<Shared>, _permit: OwnedSemaphorePermit) {
    loop {
        let received = receive_request(&mut stream, MAX_QUOTER_REQUEST_BYTES).await;
        let request =
            received.and_then(|(payload, descriptors)| Ok((QuoterRequest::decode(&payload)?, descriptors)));
        let said = match request {
            Ok((QuoterRequest::Root, _)) => QuoterAnswer::Done(shared.root()),
            Ok((QuoterRequest::Registration, descriptors)) => registration(descriptors, &shared).await,
            Ok((QuoterRequest::Evidence { report_data, workload }, _)) => {
                shared.evidence(report_data, workload)
            }
            Ok((QuoterRequest::Stop, _)) => {
                answer(&mut stream, &QuoterAnswer::Done(Vec::new())).await;
                return shared.order(Order::Stop).await;
            }
            Err(FrameError::Closed) => return,
            Err(error) => {
                // Where the next request would begin is not known either.
                answer(&mut stream, &QuoterAnswer::refused(QuoterRefusal::Malformed, error.to_string()))
                    .await;
                return;
            }
        };
        if !answer(&mut stream, &said).await {
            return;
        }
    }
}

async fn registration(descriptors: Vec<OwnedFd>, shared: &Shared) -> QuoterAnswer {
    let Ok([socket]) = <[OwnedFd; 1]>::try_from(descriptors) else {
        return QuoterAnswer::refused(
            QuoterRefusal::Malformed,
            "a registration socket is one descriptor, within the limit of open files",
        );
    };
    let Ok(permit) = Arc::clone(&shared.processes).try_acquire_owned() else {
        return QuoterAnswer::refused(QuoterRefusal::Full, "too many processes are registered");
    };
    match from_std(StdUnixStream::from(socket)) {
        Ok(stream) => {
            shared.order(Order::Await(stream, permit)).await;
            QuoterAnswer::Done(Vec::new())
        }
        Err(error) => {
            QuoterAnswer::refused(QuoterRefusal::Malformed, format!("no registration socket: {error}"))
        }
    }
}
