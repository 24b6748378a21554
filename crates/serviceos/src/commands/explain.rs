//! `serviceos explain`: what becomes of a request, and why.

use control::{
    AdminClient, ExplainedBalancing, ExplainedLimit, ExplainedReplica, ExplainedVersions, Explanation,
};

use crate::cli::ExplainArgs;
use crate::commands::{block_on, percent_encoded};
use crate::failure::Failure;
use crate::output::{print, print_json};

pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let encoded = |key: &str, value: &str| format!("&{key}={}", percent_encoded(value));
    let mut path = format!("/v1/explain?method={}", percent_encoded(&args.method));
    path += &encoded("path", &args.path);
    path.extend(args.host.iter().map(|host| encoded("host", host)));
    path.extend(args.header.iter().map(|header| encoded("header", header)));
    let explanation: Explanation = block_on(async { Ok(client.get(&path).await?) })?;
    if args.json { print_json(&explanation) } else { print(text(&explanation)) }
}

/// A line: what it is about, and what there is to say.
type Line = (&'static str, String);

fn text(explanation: &Explanation) -> String {
    let Explanation { method, path, host, .. } = explanation;
    let mut lines: Vec<Line> = Vec::new();
    if let Some(answer) = &explanation.answer {
        lines.push(("answer", format!("{} {}: {}", answer.status, answer.code, answer.detail)));
    }
    lines.extend(explanation.nearest.iter().map(|route| ("nearest", route.clone())));
    lines.extend(explanation.page.as_ref().map(|page| ("page", format!("{page}, the gateway's own"))));
    lines.extend(explanation.route.as_ref().map(|route| {
        let methods = if route.methods.is_empty() { "any method".into() } else { route.methods.join(", ") };
        let host = route.host.as_ref().map(|host| format!(" of {host}")).unwrap_or_default();
        let fields: String = route.headers.iter().map(|field| format!(", with {field}")).collect();
        let strips = route.strip_prefix.as_ref().map(|prefix| format!("; {prefix} is taken off"));
        let strips = strips.unwrap_or_default();
        ("route", format!("{methods} {}{host}{fields} -> {}{strips}", route.path, route.service))
    }));
    lines.extend(explanation.authentication.as_ref().map(|wanted| {
        let said = match (wanted.required, wanted.scopes.join(", ")) {
            (false, _) => "public: anybody may call".to_owned(),
            (true, scopes) if scopes.is_empty() => format!("a caller, by {}", wanted.takes.join(", ")),
            (true, scopes) => format!("a caller with {scopes}, by {}", wanted.takes.join(", ")),
        };
        ("caller", said)
    }));
    lines.extend(explanation.rate_limits.iter().map(|limit| ("limit", limited(limit))));
    lines.extend(explanation.body.as_ref().map(|body| {
        let types = body.types.iter().map(|of_type| {
            let schema = if of_type.schema { " by a schema" } else { "" };
            format!(", {}{schema}", of_type.media_type)
        });
        ("body", format!("at most {} bytes{}", body.max_bytes, types.collect::<String>()))
    }));
    lines.extend(explanation.timeouts.as_ref().map(|time| {
        let (all, one) = (time.request_ms, time.per_try_ms);
        ("timeout", format!("{all} ms in all, {one} ms a try while another is allowed"))
    }));
    lines.extend(explanation.retries.as_ref().map(|retries| {
        let (attempts, on, budget) = (retries.attempts, retries.on.join(", "), retries.budget_percent);
        ("retries", format!("{attempts} more, on {on}; at most {budget} % of the calls in flight"))
    }));
    lines.extend(explanation.balancing.as_ref().map(|balancing| ("balance", balanced(balancing))));
    lines.extend(explanation.versions.iter().flat_map(versions));
    lines.extend(explanation.replicas.iter().map(|replica| ("replica", of_replica(replica))));
    lines.extend(
        explanation
            .others
            .iter()
            .map(|other| ("not", format!("{} -> {}: {}", other.route, other.service, other.said))),
    );
    if explanation.more > 0 {
        lines.push(("not", format!("{} routes more", explanation.more)));
    }
    let mut shown = format!("{method} {path} at {host}");
    let mut before = "";
    for (name, said) in lines {
        let label = if name == before { "" } else { name };
        shown += &format!("\n  {label:<7}  {said}");
        before = name;
    }
    shown
}

fn limited(limit: &ExplainedLimit) -> String {
    let of = match limit.of.as_str() {
        "address" => "each address",
        "caller" => "each caller",
        _ => "all together on this route",
    };
    match (&limit.limit, limit.burst) {
        (Some(rate), Some(burst)) => format!("{of}: {rate}, {burst} at once"),
        _ => format!("{of}: as its tier says"),
    }
}

fn balanced(balancing: &ExplainedBalancing) -> String {
    let mut said = balancing.policy.clone();
    said += &balancing.hash_on.as_ref().map(|hashed| format!(" on {hashed}")).unwrap_or_default();
    if balancing.slow_start_ms > 0 {
        said += &format!(", slow start {} ms", balancing.slow_start_ms);
    }
    if balancing.panic_threshold_percent > 0 {
        said += &format!(", health is ignored below {} %", balancing.panic_threshold_percent);
    }
    said
}

/// Nothing where nothing divides them.
fn versions(versions: &ExplainedVersions) -> Vec<Line> {
    let mut said = Vec::new();
    said.extend(versions.asked.as_ref().map(|asked| format!("{asked} is asked for")));
    said.extend(versions.rollout.as_ref().map(|split| {
        format!("a rollout is on its way: {} % to {}, the rest to the others", split.percent, split.to)
    }));
    if !versions.weights.is_empty() {
        said.push(format!("divided {}", versions.weights.join(", ")));
    }
    said.extend(versions.sticky.as_ref().map(|kept| format!("a caller stays with one by its {kept}")));
    said.into_iter().map(|said| ("version", said)).collect()
}

fn of_replica(replica: &ExplainedReplica) -> String {
    let version = replica.version.as_deref().unwrap_or("-");
    let reason = replica.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let word = if replica.eligible { "may answer" } else { "may not answer" };
    format!("{} {version} {word}{reason}", replica.id)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_that_is_let_through_shows_everything_that_it_meets() {
        let explanation = json!({
            "method": "POST", "path": "/v1/random", "host": "127.0.0.1:8080", "answer": null, "page": null,
            "route": {"path": "/v1/random", "host": null, "methods": ["POST"], "headers": ["x-a: 1"], "service": "vrf", "stripPrefix": null},
            "authentication": {"required": true, "scopes": ["randomness"], "takes": ["token", "apiKey"]},
            "rateLimits": [{"of": "address", "limit": "100 in 1s", "burst": 200}, {"of": "caller", "limit": null, "burst": null}],
            "body": {"maxBytes": 1024, "types": [{"mediaType": "application/json", "schema": true}]},
            "timeouts": {"requestMs": 30000, "perTryMs": 10000},
            "retries": {"attempts": 1, "on": ["connect", "reset"], "budgetPercent": 20},
            "balancing": {"policy": "maglev", "hashOn": "header x-user", "slowStartMs": 0, "panicThresholdPercent": 0},
            "versions": {"header": "service-version", "asked": "2.0.0", "weights": [], "rollout": {"to": "2.0.0-aa", "percent": 10}, "sticky": null},
            "replicas": [
                {"id": "vrf/0", "version": "2.0.0-aa", "selectable": true, "eligible": true, "reason": null},
                {"id": "vrf/1", "version": null, "selectable": false, "eligible": false, "reason": "Stopped: exited with code 1"},
            ],
            "others": [{"route": "GET /v1/random", "service": "vrf", "why": "method", "said": "takes GET"}],
            "more": 3, "nearest": [],
        });
        expect![[r#"
            POST /v1/random at 127.0.0.1:8080
              route    POST /v1/random, with x-a: 1 -> vrf
              caller   a caller with randomness, by token, apiKey
              limit    each address: 100 in 1s, 200 at once
                       each caller: as its tier says
              body     at most 1024 bytes, application/json by a schema
              timeout  30000 ms in all, 10000 ms a try while another is allowed
              retries  1 more, on connect, reset; at most 20 % of the calls in flight
              balance  maglev on header x-user
              version  2.0.0 is asked for
                       a rollout is on its way: 10 % to 2.0.0-aa, the rest to the others
              replica  vrf/0 2.0.0-aa may answer
                       vrf/1 - may not answer: Stopped: exited with code 1
              not      GET /v1/random -> vrf: takes GET
                       3 routes more"#]]
        .assert_eq(&text(&serde_json::from_value(explanation).unwrap()));
    }

    #[test]
    fn a_request_that_no_route_takes_shows_the_answer_and_what_may_have_been_meant() {
        let explanation = Explanation {
            answer: Some(control::ExplainedAnswer {
                status: 404,
                code: "ROUTE_NOT_FOUND".into(),
                detail: "no route matches this path".into(),
            }),
            method: "GET".into(),
            path: "/v1/randm".into(),
            host: "a".into(),
            nearest: vec!["POST /v1/random".into()],
            ..Explanation::default()
        };
        expect![[r#"
            GET /v1/randm at a
              answer   404 ROUTE_NOT_FOUND: no route matches this path
              nearest  POST /v1/random"#]]
        .assert_eq(&text(&explanation));
    }
}
