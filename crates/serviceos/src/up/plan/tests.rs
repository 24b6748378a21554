use super::*;

fn settings(text: &str) -> Settings {
    let cores = std::num::NonZeroUsize::new(2).unwrap();
    configuration::parse(
        text,
        "serviceos.yaml",
        std::path::Path::new("/srv"),
        cores,
        configuration::any_config,
    )
    .unwrap()
}

fn tls(settings: &Settings) -> UpstreamTls {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(UpstreamTls::default().of(settings)).unwrap()
}

/// A plan, with the services beside it.
struct Planned {
    plan: Plan,
    services: Vec<Arc<Service>>,
}

impl std::ops::Deref for Planned {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.plan
    }
}

fn plan(text: &str) -> Planned {
    let settings = settings(text);
    let (rules, versions) = (RequestRules::default(), Versions::default());
    let plan = Plan::of(&settings, &Metrics::new(1), &tls(&settings), &rules, &Former::new(), None);
    Planned { plan, services: services(&settings, &Registry::default(), &versions, None).0 }
}

#[test]
fn services_have_one_order_and_routes_know_their_place_in_it() {
    let plan = plan(
        "services: {vrf: {replicas: 2}, oracle: , a: {endpoints: [\"http://127.0.0.1:1\"], attestation: none}}",
    );
    let names: Vec<_> = plan.services.iter().map(|service| service.name.as_str()).collect();
    let called: Vec<_> = (0..plan.router.count()).map(|place| plan.router[place].name.as_str()).collect();
    assert_eq!((&names[..], &called), (&["vrf", "oracle", "a"][..], &names));
    let replicas: Vec<_> = plan.services.iter().map(|service| service.replicas.len()).collect();
    assert_eq!(replicas, [2, 1, 1]);
    for route in &plan.routes {
        let expected = match names[route.service] {
            "vrf" => "/v1/random",
            "oracle" => "/v1/oracle",
            _ => "/a",
        };
        assert!(route.template.starts_with(expected), "{} of {expected}", route.template);
    }
    let fleets: Vec<_> = plan.terms.keys().map(ServiceName::as_str).collect();
    assert_eq!(fleets, ["oracle", "vrf"], "nothing is launched for endpoints");
}

/// A plan, and the one of the settings that come after it.
fn replaced(before: &str, after: &str, between: impl FnOnce(&Registry)) -> (Planned, Planned) {
    let (registry, metrics) = (Registry::default(), Metrics::new(1));
    let (rules, versions) = (RequestRules::default(), Versions::default());
    let (before, after) = (settings(before), settings(after));
    let first = Plan::of(&before, &metrics, &tls(&before), &rules, &Former::new(), None);
    let (begun, _) = services(&before, &registry, &versions, None);
    registry.replace_services(|_none| begun);
    let first = Planned { plan: first, services: registry.snapshot().services.clone() };
    between(&registry);
    let previous = Previous { checks: &first.checks, router: &first.router, limits: &first.limits };
    let second = Plan::of(&after, &metrics, &tls(&after), &rules, &Former::new(), Some(&previous));
    let services = services(&after, &registry, &versions, Some(&before)).0;
    (first, Planned { plan: second, services })
}

#[test]
fn of_the_configuration_before_everything_is_kept_that_stays_the_same() {
    let (first, second) = replaced(
        "services: {vrf: , oracle: , datafeed: }",
        "services: {vrf: {retry: {attempts: 3}}, oracle: {circuit: {requests: 5}}, datafeed: {healthCheck: {interval: 9s}}}",
        |_| {},
    );
    let kept = |place: usize| {
        let (before, after) = (&first.router[place], &second.router[place]);
        let service = Arc::ptr_eq(&first.services[place], &second.services[place]);
        let policy = Arc::ptr_eq(&before.policy, &after.policy);
        let circuit = Arc::ptr_eq(&before.circuit, &after.circuit);
        let check = Arc::ptr_eq(&first.checks[&before.name], &second.checks[&before.name]);
        (service, policy, circuit, check)
    };
    assert_eq!(
        [kept(0), kept(1), kept(2)],
        [(true, false, true, true), (true, true, false, true), (true, true, true, false)]
    );
}

#[test]
fn an_endpoint_that_speaks_tls_from_now_on_is_checked_under_tls() {
    let of =
        |scheme| format!("services: {{a: {{endpoints: [\"{scheme}://127.0.0.1:1\"], attestation: none}}}}");
    let (_, second) = replaced(&of("http"), &of("https"), |_| {});
    let check = &second.checks[&second.router[0].name];
    assert!(check.latest.channel.tls.is_some() && second.router[0].policy.tls.is_some());
}

/// What is known of the endpoints of `a` after a reload, all of which were healthy before it.
fn endpoints(before: &str, after: &str) -> Vec<String> {
    let text = |list: &str| format!("services: {{a: {{endpointSet: [{list}], attestation: none}}}}");
    let healthy = |registry: &Registry| {
        for replica in &registry.snapshot().services[0].replicas {
            registry.update(&replica.id, |replica| {
                replica.health.verdict = service_registry::Verdict::Healthy;
                service_registry::Change::Made
            });
        }
    };
    let (_, second) = replaced(&text(before), &text(after), healthy);
    let shown = |replica: &Replica| {
        let instance = replica.instance.as_ref().unwrap();
        let health = replica.health.verdict.as_str();
        format!(
            "{} {} run {} weight {} {health}",
            replica.id, instance.identity, instance.incarnation, replica.weight
        )
    };
    second.services[0].replicas.iter().map(shown).collect()
}

#[test]
fn an_endpoint_stays_what_it_is_wherever_it_stands_in_the_file() {
    let two = r#"{url: "http://10.0.0.1:1"}, {url: "http://10.0.0.2:1"}"#;
    let one = "a/0 10.0.0.1:1 run 1 weight 1 healthy";
    let other = "a/1 10.0.0.2:1 run 2 weight 1 healthy";
    assert_eq!(endpoints(two, r#"{url: "http://10.0.0.2:1"}"#), [other]);
    let turned = r#"{url: "http://10.0.0.2:1"}, {url: "http://10.0.0.1:1"}"#;
    assert_eq!(endpoints(two, turned), [other, one]);
    let inserted = r#"{url: "http://10.0.0.3:1"}, {url: "http://10.0.0.1:1"}, {url: "http://10.0.0.2:1"}"#;
    assert_eq!(endpoints(two, inserted), ["a/2 10.0.0.3:1 run 3 weight 1 unknown", one, other]);
    let instead = r#"{url: "http://10.0.0.3:1"}, {url: "http://10.0.0.2:1"}"#;
    assert_eq!(endpoints(two, instead), ["a/0 10.0.0.3:1 run 3 weight 1 unknown", other]);
}

#[test]
fn another_weight_or_version_takes_no_endpoint_out() {
    let before = r#"{url: "http://10.0.0.1:1"}, {url: "http://10.0.0.2:1"}"#;
    let after = r#"{url: "http://10.0.0.1:1", weight: 9}, {url: "http://10.0.0.2:1", version: "2"}"#;
    assert_eq!(
        endpoints(before, after),
        ["a/0 10.0.0.1:1 run 1 weight 9 healthy", "a/1 10.0.0.2:1 run 3 weight 1 healthy"]
    );
}

#[test]
fn an_endpoint_that_is_exchanged_before_it_has_an_address_says_nothing_of_the_one_before() {
    let text = |host: &str| format!("services: {{a: {{endpoints: [\"http://{host}\"], attestation: none}}}}");
    let fails = |registry: &Registry| {
        registry.update(&"a/0".parse().unwrap(), |replica| {
            replica.reason = Some("foo.test cannot be looked up".into());
            service_registry::Change::Made
        });
    };
    let reason = |after: &str| {
        let (_, second) = replaced(&text("foo.test"), &text(after), fails);
        second.services[0].replicas[0].reason.clone().unwrap()
    };
    assert_eq!(reason("bar.test"), "bar.test is being looked up");
    assert_eq!(reason("foo.test"), "foo.test cannot be looked up");
}

#[test]
fn whole_segments_are_taken_off_a_path() {
    for (pattern, prefix) in [
        ("/name/{*rest}", "/name"),
        ("/name", "/name"),
        ("/name/", "/name"),
        ("/a/b/{c}/d", "/a/b"),
        ("/a/p{id}/secret", "/a"),
        ("/p{id}/secret", ""),
        ("/{*rest}", ""),
        ("/", ""),
    ] {
        assert_eq!(literal_prefix(pattern), prefix, "{pattern}");
    }
}

#[test]
fn the_example_goes_through_a_route_that_exists() {
    let example = |text| plan(text).plan.example.map(|example| example.path);
    assert_eq!(example("services: {oracle: , vrf: }").as_deref(), Some("/v1/random"));
    assert_eq!(example("services: {dice: {builtin: vrf}}").as_deref(), Some("/dice/v1/random"));
    assert_eq!(example("services: {vrf: {replicas: 0}, datafeed: }").as_deref(), Some("/v1/feeds"));
    assert_eq!(example("services: {oracle: }"), None);
    assert_eq!(example("services: {vrf: {endpoints: [\"http://a\"], attestation: none}}"), None);
}
