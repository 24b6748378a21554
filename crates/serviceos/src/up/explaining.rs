//! What becomes of a request, and why: by the plan that the workers have, and who may serve at this moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{KeysOfIssuers, Limit};
use configuration::{HashOn, Sticky};
use control::{
    ExplainRequest, ExplainedAnswer, ExplainedAuthentication, ExplainedBalancing, ExplainedBody,
    ExplainedLimit, ExplainedReplica, ExplainedRetries, ExplainedRoute, ExplainedSplit, ExplainedTimeouts,
    ExplainedType, ExplainedVersions, Explainer, Explanation, OtherRoute, why_not_selectable,
};
use edge_gateway::{Asked, Leads, Misfit, Plan, Plans, Refusal, Route};
use http::Method;
use service_registry::{Registry, Replica, Service, Split};
use service_router::{BalancingPolicy, RouterPolicy, ServicePlan};
use types::duration;

use super::reload::Live;

/// Routes that are told which a request does not take.
const MAX_OTHERS: usize = 20;
/// Routes that are told as near to a path that none has.
const MAX_NEAREST: usize = 3;

/// What explanations are made of.
struct Sources {
    plans: Plans,
    registry: Registry,
    tokens: KeysOfIssuers,
    gateway: SocketAddr,
}

/// Whoever explains requests.
pub(super) fn explainer(live: &Live, gateway: SocketAddr) -> Explainer {
    let (plans, registry) = (live.gateway.clone(), live.registry.clone());
    let (tokens, _users) = live.tokens.for_gateway();
    let sources = Sources { plans, registry, tokens, gateway };
    Arc::new(move |request| explain(&sources, request))
}

fn explain(sources: &Sources, request: &ExplainRequest) -> Explanation {
    let plan = &*sources.plans.in_force();
    let host = request.host.clone().unwrap_or_else(|| sources.gateway.to_string());
    let (method, target) = (request.method.as_str(), request.path.as_str());
    let explained = plan.explain(&Asked { method, target, host: &host, fields: &request.fields });
    let others = explained.others.iter().take(MAX_OTHERS).map(|(route, misfit)| OtherRoute {
        route: route.name(),
        service: plan.services[route.service].name.to_string(),
        why: why(*misfit).to_owned(),
        said: said(route, *misfit),
    });
    let mut explanation = Explanation {
        method: request.method.clone(),
        path: request.path.clone(),
        others: others.collect(),
        more: explained.others.len().saturating_sub(MAX_OTHERS),
        host,
        ..Explanation::default()
    };
    if let Some(limit) = plan.limit_of_addresses() {
        explanation.rate_limits.push(limited("address", Some(limit)));
    }
    match &explained.leads {
        Err(refusal) => {
            explanation.answer = Some(answer(refusal));
            if refusal.status == 404 {
                let near = plan.routes.nearest(&request.path, MAX_NEAREST);
                explanation.nearest = near.into_iter().map(Route::name).collect();
            }
        }
        Ok(Leads::Own { page, refusal }) => {
            explanation.answer = refusal.as_ref().map(answer);
            explanation.page = Some(page.path.to_owned());
            explanation.authentication = Some(authentication(sources, plan, page.scopes.as_deref()));
        }
        Ok(Leads::Service { route, service, refusal, timeout, version }) => {
            of_route(&mut explanation, (route, service), *timeout);
            explanation.authentication = Some(authentication(sources, plan, route.scopes.as_deref()));
            of_service(&mut explanation, &sources.registry, (route, service), version.as_deref());
            // The gateway looks at the request before it asks who answers.
            if let Some(refusal) = refusal {
                explanation.answer = Some(answer(refusal));
            }
        }
    }
    explanation
}

fn of_route(explanation: &mut Explanation, (route, service): (&Route, &ServicePlan), timeout: Duration) {
    let header = |(name, value): &(String, String)| format!("{name}: {value}");
    explanation.route = Some(ExplainedRoute {
        path: route.template.clone(),
        host: route.host.as_ref().map(ToString::to_string),
        methods: route.methods.iter().map(ToString::to_string).collect(),
        headers: route.headers.iter().map(header).collect(),
        service: service.name.to_string(),
        strip_prefix: route.strip_prefix.clone(),
    });
    if route.scopes.is_some() {
        explanation.rate_limits.push(limited("caller", None));
    }
    explanation.rate_limits.extend(route.own_limit().map(|limit| limited("route", Some(limit))));
    let types = route.rule.iter().flat_map(|rule| rule.contents());
    let types = types.map(|content| ExplainedType {
        media_type: content.media_type().to_owned(),
        schema: content.is_judged(),
    });
    explanation.body = Some(ExplainedBody { max_bytes: route.body_limit, types: types.collect() });
    let policy: &RouterPolicy = &service.policy;
    explanation.timeouts =
        Some(ExplainedTimeouts { request_ms: millis(timeout), per_try_ms: millis(policy.per_try_timeout) });
    let causes = [(policy.retry_on.connect, "connect"), (policy.retry_on.reset, "reset")];
    let causes = causes.into_iter().filter(|(counts, _)| *counts).map(|(_, cause)| cause.to_owned());
    explanation.retries = Some(ExplainedRetries {
        attempts: policy.attempts,
        on: causes.chain(policy.retry_on.statuses.iter().map(ToString::to_string)).collect(),
        budget_percent: policy.budget_percent,
    });
    let balancing = &policy.balancing;
    explanation.balancing = Some(ExplainedBalancing {
        policy: match balancing.policy {
            BalancingPolicy::PeakEwma => "peak-ewma",
            BalancingPolicy::RoundRobin => "round-robin",
            BalancingPolicy::LeastRequest => "least-request",
            BalancingPolicy::Maglev => "maglev",
            BalancingPolicy::Random => "random",
        }
        .to_owned(),
        hash_on: route.hash_on.as_ref().map(hashed),
        slow_start_ms: millis(balancing.slow_start),
        panic_threshold_percent: balancing.panic_threshold_percent,
    });
}

/// Who may answer, by the facts of this moment.
fn of_service(
    explanation: &mut Explanation,
    registry: &Registry,
    (route, service): (&Route, &ServicePlan),
    asked: Option<&str>,
) {
    let (snapshot, balancing) = (registry.snapshot(), &service.policy.balancing);
    let known = snapshot.service(&service.name);
    let split = known.and_then(|known| known.split.as_ref());
    let weight = |(version, weight): &(String, u32)| format!("{version}: {weight}");
    explanation.versions = Some(ExplainedVersions {
        header: route.version_header.clone(),
        asked: asked.map(str::to_owned),
        weights: balancing.version_weights.iter().map(weight).collect(),
        rollout: split.map(|split| ExplainedSplit { to: split.to.id().to_owned(), percent: split.percent }),
        sticky: route.sticky.as_ref().map(kept_by),
    });
    let replicas = known.map(|known: &Arc<Service>| known.replicas.as_slice()).unwrap_or_default();
    let passed_over = |replica: &Replica| {
        split.filter(|_| asked.is_none()).and_then(|split| passed_over(replica, split, replicas))
    };
    explanation.replicas =
        replicas.iter().map(|replica| of_replica(replica, asked, passed_over(replica))).collect();
    let overrules = balancing.panic_threshold_percent > 0 && replicas.iter().any(Replica::lacks_health_alone);
    let nobody = !explanation.replicas.iter().any(|replica| replica.eligible);
    explanation.answer = (nobody && !overrules).then(|| answer(&Refusal::no_replica()));
}

/// Why a rollout leaves a replica out that could answer: one of its two versions has no calls, or all of them.
fn passed_over(replica: &Replica, split: &Split, all: &[Replica]) -> Option<&'static str> {
    let is_new =
        |replica: &Replica| replica.instance.as_ref().is_some_and(|instance| instance.version == split.to);
    let serves = |replica: &Replica| is_new(replica) && replica.selectable().is_ok();
    match (split.percent, is_new(replica)) {
        (0, true) => Some("the rollout gives this version no calls yet"),
        (100, false) if all.iter().any(serves) => Some("the rollout gives all calls to the new version"),
        _ => None,
    }
}

fn of_replica(replica: &Replica, asked: Option<&str>, passed_over: Option<&'static str>) -> ExplainedReplica {
    let version = replica.instance.as_ref().map(|instance| &instance.version);
    let is_asked_for = asked
        .is_none_or(|asked| version.is_some_and(|version| version.label() == asked || version.id() == asked));
    let not_selectable = replica.selectable().err();
    let reason = match (not_selectable, is_asked_for) {
        (Some(fact), _) => Some(match why_not_selectable(replica) {
            Some(why) => format!("{fact}: {why}"),
            None => fact.to_string(),
        }),
        (None, false) => Some("another version is asked for".to_owned()),
        (None, true) => passed_over.map(str::to_owned),
    };
    ExplainedReplica {
        id: replica.id.to_string(),
        version: version.map(|version| version.id().to_owned()),
        selectable: not_selectable.is_none(),
        eligible: reason.is_none(),
        reason,
    }
}

fn answer(refusal: &Refusal) -> ExplainedAnswer {
    let Refusal { status, code, detail } = refusal;
    ExplainedAnswer { status: *status, code: (*code).to_owned(), detail: detail.clone() }
}

fn authentication(sources: &Sources, plan: &Plan, scopes: Option<&[String]>) -> ExplainedAuthentication {
    let taken = &plan.authentication;
    let takes = [
        (!sources.tokens.tables.borrow().is_empty(), "token"),
        (taken.api_keys, "apiKey"),
        (taken.certificates.is_some(), "certificate"),
        (taken.signed_requests.is_some(), "signature"),
    ];
    let takes = takes.into_iter().filter(|(is_taken, _)| *is_taken).map(|(_, kind)| kind.to_owned());
    ExplainedAuthentication {
        required: scopes.is_some(),
        scopes: scopes.unwrap_or_default().to_vec(),
        takes: if scopes.is_some() { takes.collect() } else { Vec::new() },
    }
}

fn limited(of: &str, limit: Option<Limit>) -> ExplainedLimit {
    let rate = |limit: Limit| format!("{} in {}", limit.rate().count, duration::text(limit.rate().per));
    ExplainedLimit { of: of.to_owned(), limit: limit.map(rate), burst: limit.map(|limit| limit.burst()) }
}

fn hashed(hash_on: &HashOn) -> String {
    match hash_on {
        HashOn::Header(name) => format!("header {name}"),
        HashOn::Cookie(name) => format!("cookie {name}"),
        HashOn::PathParameter(name) => format!("path parameter {name}"),
        HashOn::Caller => "caller".to_owned(),
    }
}

fn kept_by(sticky: &Sticky) -> String {
    match sticky {
        Sticky::Header(name) => format!("header {name}"),
        Sticky::Cookie(name) => format!("cookie {name}"),
        Sticky::Caller => "caller".to_owned(),
    }
}

fn why(misfit: Misfit<'_>) -> &'static str {
    match misfit {
        Misfit::Behind => "behind",
        Misfit::Field(..) => "header",
        Misfit::Method => "method",
        Misfit::Host => "host",
        Misfit::Path => "path",
    }
}

fn said(route: &Route, misfit: Misfit<'_>) -> String {
    match misfit {
        Misfit::Behind => "another route that says more of a request comes first".to_owned(),
        Misfit::Field(name, value) => format!("wants the field {name}: {value}"),
        Misfit::Method => {
            let methods: Vec<_> = route.methods.iter().map(Method::as_str).collect();
            if methods.is_empty() {
                "no route takes this method".to_owned()
            } else {
                format!("takes {}", methods.join(", "))
            }
        }
        Misfit::Host => {
            let host = route.host.as_ref().map(|host| format!("is for the host {host}"));
            host.unwrap_or_else(|| "is for another host".to_owned())
        }
        Misfit::Path => "its path is another".to_owned(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
