//! The end points, and streams over them.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use expect_test::expect;
use http_body_util::BodyExt;
use service_registry::{Change, Registry};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::admin::tests::state;
use crate::admin::{HEARTBEAT, on_socket};

/// The API over the socket, and what tells it to stop.
struct Served {
    router: Router,
    registry: Registry,
    stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Served {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = state(&folder, "127.0.0.1:7070").await;
        let (stop, stopped) = watch::channel(false);
        let registry = state.registry.clone();
        let router = on_socket(state).layer(Extension(Stopping(stopped)));
        Self { router, registry, stop, _folder: folder }
    }

    async fn ask(&self, path: &str, last: Option<&str>) -> Response {
        let mut request = Request::builder().uri(path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn watch(&self, path: &str, last: Option<&str>) -> Body {
        let answer = self.ask(path, last).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        answer.into_body()
    }

    fn restart(&self) {
        self.registry.update(&"vrf/0".parse().unwrap(), |replica| {
            replica.restarts += 1;
            Change::Made
        });
    }
}

/// What comes next in a stream, shortened to what differs between events.
async fn next(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    let ids = text.matches("\"id\":\"").count();
    let head: Vec<_> = text.lines().take_while(|line| !line.starts_with("data")).collect();
    Some(format!("{}, {ids} told", head.join(", ")))
}

#[tokio::test]
async fn a_service_that_there_is_not_is_a_problem_and_a_key_that_means_nothing_too() {
    let served = Served::new().await;
    let mut seen = String::new();
    for path in [
        "/v1/services/oracle/instances",
        "/v1/services/oracle/instances?watch=0",
        "/v1/services/%ff/instances",
        "/v1/services/VRF/instances",
        "/v1/services/vrf/instances?wacht=0",
        "/v1/instances?watch=0&watch=1",
    ] {
        let answer = served.ask(path, None).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let problem: types::Problem = serde_json::from_slice(&body).unwrap();
        seen += &format!("{path}: {status} {}: {}\n", problem.code, problem.detail);
    }
    expect![[r#"
        /v1/services/oracle/instances: 404 SERVICE_UNKNOWN: there is no service oracle; `serviceos services` shows those that there are
        /v1/services/oracle/instances?watch=0: 404 SERVICE_UNKNOWN: there is no service oracle; `serviceos services` shows those that there are
        /v1/services/%ff/instances: 404 SERVICE_UNKNOWN: there is no service of a name that is not UTF-8; `serviceos services` shows those that there are
        /v1/services/VRF/instances: 404 SERVICE_UNKNOWN: there is no service VRF; `serviceos services` shows those that there are
        /v1/services/vrf/instances?wacht=0: 400 VALIDATION_FAILED: Failed to deserialize query string: wacht: unknown field `wacht`, expected `watch`
        /v1/instances?watch=0&watch=1: 400 VALIDATION_FAILED: Failed to deserialize query string: duplicate field `watch`
    "#]].assert_eq(&seen);
    for path in ["/v1/services", "/v1/instances", "/v1/services/vrf/instances"] {
        assert_eq!(served.ask(path, None).await.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_everything_and_goes_on_with_changes() {
    let served = Served::new().await;
    let mut body = served.watch("/v1/services/vrf/instances?watch=0", None).await;
    assert_eq!(next(&mut body).await.as_deref(), Some("event: snapshot, id: abc-1, 1 told"));
    served.restart();
    assert_eq!(next(&mut body).await.as_deref(), Some("event: changes, id: abc-2, 1 told"));
    // What happens while nobody reads is told at once.
    (0..1_000).for_each(|_| served.restart());
    assert_eq!(next(&mut body).await.as_deref(), Some("event: changes, id: abc-1002, 1 told"));
    served.registry.replace_services(|_| Vec::new());
    assert_eq!(next(&mut body).await.as_deref(), Some("event: changes, id: abc-1003, 0 told"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_back_is_told_what_it_missed() {
    let served = Served::new().await;
    served.restart();
    let path = "/v1/instances?watch=0";
    let mut body = served.watch(path, Some("abc-1")).await;
    assert_eq!(next(&mut body).await.as_deref(), Some("event: changes, id: abc-2, 1 told"));
    let mut body = served.watch("/v1/instances?watch=abc-1", None).await;
    assert_eq!(next(&mut body).await.as_deref(), Some("event: changes, id: abc-2, 1 told"));
    for another in ["abd-1", "abc-9", "nonsense"] {
        let mut body = served.watch(path, Some(another)).await;
        assert_eq!(next(&mut body).await.as_deref(), Some("event: snapshot, id: abc-2, 1 told"), "{another}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_shows_that_it_is_there_and_ends_when_it_is_told_to() {
    let served = Served::new().await;
    let mut body = served.watch("/v1/instances?watch=abc-1", None).await;
    let began = Instant::now();
    for beat in 1..=3 {
        assert_eq!(next(&mut body).await.as_deref(), Some(": still here, , 0 told"));
        assert_eq!(began.elapsed(), HEARTBEAT * beat);
    }
    served.stop.send_replace(true);
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn no_more_than_so_many_watch_at_once() {
    let served = Served::new().await;
    let mut watching = Vec::new();
    let refused = loop {
        let answer = served.ask("/v1/instances?watch=0", None).await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        watching.push(answer);
        assert!(watching.len() < 1_000);
    };
    assert_eq!((watching.len(), refused.status()), (64, StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(served.ask("/v1/instances", None).await.status(), StatusCode::OK);
    watching.pop();
    assert_eq!(served.ask("/v1/instances?watch=0", None).await.status(), StatusCode::OK);
}
