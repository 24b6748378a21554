//! What becomes of a request, and why.

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Json;
use axum::routing::get;

use super::AdminState;
use crate::explain::{ExplainRequest, Explanation};
use crate::problem::AdminProblem;

pub(super) fn routes() -> Router<AdminState> {
    Router::new().route("/v1/explain", get(explain))
}

async fn explain(
    State(state): State<AdminState>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Explanation>, AdminProblem> {
    let Query(pairs) = query.map_err(|rejection| AdminProblem::invalid(rejection.body_text()))?;
    Ok(Json((state.explain)(&request(pairs).map_err(AdminProblem::invalid)?)))
}

/// `method`, `path`, `host`, and `header` as often as there are fields.
fn request(pairs: Vec<(String, String)>) -> Result<ExplainRequest, String> {
    let (mut method, mut path, mut host, mut fields) = (None, None, None, Vec::new());
    for (key, value) in pairs {
        if value.chars().any(char::is_control) {
            return Err(format!("{key}: a request has no control characters"));
        }
        let place = match key.as_str() {
            "method" => &mut method,
            "path" => &mut path,
            "host" => &mut host,
            "header" => {
                let field =
                    value.split_once(':').ok_or("header: expected a field, such as `Accept: text/plain`")?;
                fields.push((field.0.trim().to_owned(), field.1.trim().to_owned()));
                continue;
            }
            other => {
                return Err(format!("unknown parameter {other}; there are method, path, host and header"));
            }
        };
        if place.replace(value).is_some() {
            return Err(format!("{key} is there twice"));
        }
    }
    let word = |value: Option<String>, key: &str| {
        let value = value.ok_or_else(|| format!("{key} is missing"))?;
        if value.contains(' ') {
            Err(format!("{key}: a request line has no spaces in it"))
        } else {
            Ok(value)
        }
    };
    Ok(ExplainRequest { method: word(method, "method")?, path: word(path, "path")?, host, fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Result<ExplainRequest, String> {
        request(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_request_is_asked_about_by_its_parts_and_hides_no_other() {
        let whole =
            asked(&[("method", "GET"), ("path", "/a?b=c"), ("header", "x-a: 1"), ("header", "x-a:2")]);
        let field = |value: &str| ("x-a".to_owned(), value.to_owned());
        let expected = ExplainRequest {
            method: "GET".into(),
            path: "/a?b=c".into(),
            host: None,
            fields: vec![field("1"), field("2")],
        };
        assert_eq!(whole, Ok(expected));
        for wrong in [
            &[("method", "GET")][..],
            &[("path", "/")],
            &[("method", "GET"), ("path", "/ HTTP/1.1")],
            &[("method", "GET"), ("path", "/"), ("path", "/")],
            &[("method", "GET"), ("path", "/"), ("header", "a: b\r\nc: d")],
            &[("method", "GET"), ("path", "/"), ("header", "a")],
            &[("method", "GET"), ("path", "/"), ("port", "1")],
        ] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }
}
