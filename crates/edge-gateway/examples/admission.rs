//! What it costs to decide that a request may go to a replica: `cargo run --release -p edge-gateway --features measuring --example
//! admission`. The key of the request is known and was presented before on its connection, the limits of its address, its tier and
//! its route do not bite, one of 1,000 routes matches, and its small body fits the schema.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{ApiKeys, Issuers, KeyKind, Limit, NewKey, Nonces, OverHttp, Rate, Tier, Tiers, Users};
use anyhow::Context;
use edge_gateway::measuring::Bench;
use edge_gateway::{
    Authentication, ClientBuckets, GatewayParts, Plan, RateLimits, Route, RouteLimit, RouteTable, Shared,
};
use jiff::Timestamp;
use observability::Metrics;
use serde_json::json;
use service_registry::Registry;
use service_router::RouterPlan;
use store::Store;
use tokio::sync::mpsc;
use validation::{RequestRule, Schema};
use zeroize::Zeroizing;

/// The rounds of one measurement, and the measurements of which the fastest is shown.
const ROUNDS: u32 = 200_000;
const MEASUREMENTS: usize = 7;
const ROUTES: usize = 1_000;
const BODY: &[u8] = br#"{"min": 1, "max": 100, "count": 5, "label": "coin-flip"}"#;

fn main() -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(measure())
}

/// A limit that does not bite.
fn wide() -> Limit {
    Limit::new(Rate { count: 1_000_000_000, per: Duration::from_secs(1) }, 1_000_000)
}

async fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(&folder.path().join("store.redb"))?;
    let tiers = Tiers::with([("wide".to_owned(), Tier { limit: wide(), daily: Some(1_000_000_000) })].into());
    let pepper = Zeroizing::new(vec![5; 32]);
    let keys = Arc::new(ApiKeys::open(store, &pepper, KeyKind::Test, tiers.clone()).await?);
    let new = NewKey {
        name: "measured".to_owned(),
        scopes: vec!["randomness".to_owned()],
        tenant: None,
        tier: Some("wide".to_owned()),
        public_key: None,
        expires_at: None,
    };
    let made = keys.make(new, Timestamp::now()).await?;
    let (_, key) = keys.add(made).await?;
    let key = key.context("a key without a public one has a secret")?;
    let mut bench = Bench::new(parts(&keys, tiers)?);
    let head = format!(
        "POST /v1/random/500 HTTP/1.1\r\nHost: api.example.org\r\nUser-Agent: measuring\r\nAccept: */*\r\n\
         Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        key.expose(),
        BODY.len()
    );
    let head = head.as_bytes();
    bench.admit(head, BODY).await.context("the request is refused")?;
    let (mut begun, mut admitted) = (f64::MAX, f64::MAX);
    for _ in 0..MEASUREMENTS {
        let began = Instant::now();
        (0..ROUNDS).for_each(|_| bench.begin_and_end(black_box(head)));
        begun = begun.min(nanoseconds(began));
        let began = Instant::now();
        for _ in 0..ROUNDS {
            bench.admit(black_box(head), black_box(BODY)).await.context("the request is refused")?;
        }
        admitted = admitted.min(nanoseconds(began));
    }
    println!("reading the head, beginning and ending a request: {begun:.0} ns");
    println!("the same, and deciding that it may go to a replica: {admitted:.0} ns");
    println!(
        "route, key, limits of address, tier, day and route, and schema together: {:.0} ns",
        admitted - begun
    );
    Ok(())
}

fn nanoseconds(began: Instant) -> f64 {
    began.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

fn parts(keys: &ApiKeys, tiers: Tiers) -> anyhow::Result<GatewayParts> {
    let settings = configuration::parse(
        "services: {vrf: }",
        "measured.yaml",
        Path::new("/"),
        NonZeroUsize::MIN,
        configuration::any_config,
    );
    let gateway = settings.map_err(|error| anyhow::anyhow!("{error:?}"))?.gateway;
    let metrics = Arc::new(Metrics::new(1));
    let plan = Plan {
        routes: routes(&metrics)?,
        limits: gateway.limits,
        authentication: Authentication { api_keys: true, certificates: None, signed_requests: None },
        rate_limits: RateLimits::new(Some(wide()), wide()),
        services: Arc::default(),
        unmatched: metrics.unmatched(),
        tls: None,
        proxy_protocol: Vec::new(),
        trusted_proxies: Vec::new(),
    };
    let (suspicions, _unread) = mpsc::channel(1);
    let (issuers, _owner) = Issuers::new(Vec::new(), OverHttp::default());
    Ok(GatewayParts {
        shared: Shared {
            router: RouterPlan { registry: Registry::default(), suspicions },
            keys: keys.subscribe(),
            tokens: issuers.keys(),
            users: Arc::new(Users::new(tiers)),
            nonces: Arc::new(Nonces::new(Timestamp::now())),
            client_buckets: Arc::new(ClientBuckets::new(&plan.rate_limits)),
            metrics,
            access_log: None,
        },
        plan,
        random: fastrand::Rng::with_seed(1),
    })
}

fn routes(metrics: &Metrics) -> anyhow::Result<RouteTable> {
    let document = json!({
        "type": "object",
        "properties": {
            "min": {"type": "integer", "minimum": 0},
            "max": {"type": "integer", "maximum": 1_000_000},
            "count": {"type": "integer", "minimum": 1, "maximum": 100},
            "label": {"type": "string", "maxLength": 64, "pattern": "^[a-z-]+$"}
        },
        "required": ["min", "max"],
        "additionalProperties": false
    });
    let mut routes = Vec::new();
    for number in 0..ROUTES {
        let template = format!("/v1/random/{number}");
        let mut route = Route::new(0, &template, "vrf", metrics.route("vrf", &template));
        route.scopes = Some(["randomness".to_owned()].into());
        route.limit = Some(RouteLimit::new(&template, wide()));
        route.body_limit = 1 << 20;
        route.timeout = Duration::from_secs(15);
        let schema = Schema::compile(&document).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        route.rule = Some(Arc::new(RequestRule::of_schema("application/json", Some(schema))));
        routes.push(route);
    }
    RouteTable::new(routes, Vec::new()).map_err(|reason| anyhow::anyhow!(reason))
}
