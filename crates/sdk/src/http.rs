//! The HTTP that every replica has in common: the health end point and errors as problem documents.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use types::headers;

/// An error answer: `application/problem+json` (RFC 9457) with a stable code.
#[derive(Debug, Clone)]
pub struct Problem(Box<Answer>);

#[derive(Debug, Clone)]
struct Answer {
    document: types::Problem,
    headers: HeaderMap,
}

impl Problem {
    /// An answer with this status, a stable code, what the code means, and what happened this time.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let document = types::Problem::new(status.as_u16(), code, title, detail);
        Self(Box::new(Answer { document, headers: HeaderMap::new() }))
    }

    /// The same with one header more.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// The answer itself, to a request of this id.
    pub fn answer(self, request_id: Option<&HeaderValue>) -> Response {
        let Answer { mut document, headers } = *self.0;
        document.request_id = request_id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let status = StatusCode::from_u16(document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&document).expect("a problem document is plain text fields");
        (status, [(header::CONTENT_TYPE, types::Problem::MEDIA_TYPE)], headers, body).into_response()
    }
}

impl IntoResponse for Problem {
    /// The document travels as an extension until [`router`] writes it, since only there the request's id is known.
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The tenant of the caller, as the gateway says; `default` where it says none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant(pub String);

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let tenant = parts.headers.get(headers::TENANT).and_then(|value| value.to_str().ok());
        Ok(Self(tenant.filter(|tenant| !tenant.is_empty()).unwrap_or(headers::DEFAULT_TENANT).to_owned()))
    }
}

/// Adds what every replica serves: `GET /health`, and problem documents for unknown paths and methods.
///
/// A replica listens only after its self-test passed, so a health check that is answered at all is passed.
pub fn router(inner: axum::Router) -> axum::Router {
    inner
        .route("/health", get(async || axum::Json(serde_json::json!({"status": "up"}))))
        .fallback(async || {
            Problem::new(
                StatusCode::NOT_FOUND,
                "ROUTE_NOT_FOUND",
                "Unknown path",
                "this service has no such path",
            )
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                "Method not allowed",
                "this path does not take that method; the Allow header names those that it takes",
            )
        })
        .layer(middleware::from_fn(write_problems))
}

async fn write_problems(request: Request, next: Next) -> Response {
    let request_id = request.headers().get(headers::REQUEST_ID).cloned();
    let mut response = next.run(request).await;
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let extra = std::mem::replace(response.headers_mut(), HeaderMap::new());
    let mut written = problem.answer(request_id.as_ref());
    for (name, value) in &extra {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            written.headers_mut().append(name, value.clone());
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use expect_test::expect;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn answer(method: &str, path: &str) -> String {
        let app = router(axum::Router::new().route("/tenant", get(async |Tenant(tenant): Tenant| tenant)));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(headers::REQUEST_ID, "r-1")
            .body(Body::empty());
        let response = app.oneshot(request.unwrap()).await.unwrap();
        let head = format!(
            "{} {:?} {:?}",
            response.status(),
            response.headers().get("content-type"),
            response.headers().get("allow")
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        format!("{head}\n{}\n", String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_problem_documents_with_the_request_id() {
        expect![[r#"
            404 Not Found Some("application/problem+json") None
            {"type":"urn:serviceos:error:ROUTE_NOT_FOUND","title":"Unknown path","status":404,"detail":"this service has no such path","code":"ROUTE_NOT_FOUND","requestId":"r-1"}
        "#]]
        .assert_eq(&answer("GET", "/nowhere").await);
        expect![[r#"
            405 Method Not Allowed Some("application/problem+json") Some("GET,HEAD")
            {"type":"urn:serviceos:error:METHOD_NOT_ALLOWED","title":"Method not allowed","status":405,"detail":"this path does not take that method; the Allow header names those that it takes","code":"METHOD_NOT_ALLOWED","requestId":"r-1"}
        "#]]
        .assert_eq(&answer("DELETE", "/tenant").await);
    }

    #[tokio::test]
    async fn the_tenant_is_default_without_a_gateway() {
        assert!(answer("GET", "/tenant").await.ends_with("default\n"));
    }
}
