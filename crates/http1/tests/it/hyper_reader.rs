//! hyper's server as another reader of whole connections. The fuzz targets use it too.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use crate::reader::{FieldList, Message};

/// A request in the words of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) method: String,
    pub(crate) origin: Vec<u8>,
    pub(crate) is_http11: bool,
    /// By name, the values of each in their order.
    pub(crate) fields: FieldList,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: FieldList,
}

pub(crate) fn by_name(mut fields: FieldList) -> FieldList {
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

impl From<&Message> for Meaning {
    fn from(message: &Message) -> Self {
        Self {
            method: message.method.to_string(),
            origin: message.origin.clone(),
            is_http11: message.version == http1::Version::Http11,
            fields: by_name(message.all_fields.clone()),
            body: message.body.clone(),
            trailers: by_name(message.trailers.clone()),
        }
    }
}

async fn meaning(request: Request<Incoming>) -> Option<Meaning> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.ok()?;
    let list = |map: &http::HeaderMap| {
        by_name(map.iter().map(|(name, value)| (name.as_str().into(), value.as_bytes().to_vec())).collect())
    };
    Some(Meaning {
        method: parts.method.to_string(),
        origin: parts.uri.path_and_query().map_or_else(Vec::new, |origin| origin.as_str().into()),
        is_http11: parts.version == http::Version::HTTP_11,
        fields: list(&parts.headers),
        trailers: body.trailers().map(list).unwrap_or_default(),
        body: body.to_bytes().to_vec(),
    })
}

/// Every request that hyper's server takes from the connection, whole.
pub(crate) async fn read_by_hyper(bytes: &[u8]) -> Vec<Meaning> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let taken = Rc::new(RefCell::new(Vec::new()));
    let keep = Rc::clone(&taken);
    let service = service_fn(move |request| {
        let keep = Rc::clone(&keep);
        async move {
            let meaning = meaning(request).await;
            keep.borrow_mut().extend(meaning);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(server), service);
    // What it does not take ends the connection with an error.
    let _what_it_thinks_of_the_rest = connection.await;
    taken.take()
}
