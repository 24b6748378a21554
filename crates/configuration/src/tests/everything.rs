//! The settings of two whole files: one that leaves everything out, and one that writes every key.

use expect_test::{expect, expect_file};

use super::{FULL, read};

#[test]
fn what_is_left_out_has_its_documented_default() {
    let settings = read("services: {vrf: }").unwrap();
    expect![[r#"
        Settings {
            mode: Development,
            trust_domain: "serviceos.dev.invalid",
            data_dir: "/srv/mesh/.serviceos",
            node: None,
            store: Embedded,
            gateway: GatewaySettings {
                listen: [
                    127.0.0.1:8080,
                ],
                workers: 4,
                tls: None,
                proxy_protocol: [],
                trusted_proxies: [],
                limits: GatewayLimits {
                    header_bytes: ByteSize(
                        65536,
                    ),
                    headers: 100,
                    url_bytes: ByteSize(
                        8192,
                    ),
                    body_bytes: ByteSize(
                        1048576,
                    ),
                    header_timeout: 10s,
                    idle_timeout: 300s,
                    request_timeout: 15s,
                    connections: 10000,
                    requests: 10000,
                },
                authentication: Authentication {
                    api_keys: true,
                    jwt: [],
                    client_certificates: None,
                    signed_requests: None,
                },
                rate_limits: RateLimitSettings {
                    per_address: None,
                    failed_authentication: LimitSettings {
                        rate: Rate {
                            count: 10,
                            per: 1s,
                        },
                        burst: 20,
                    },
                    tiers: {},
                    shared: None,
                },
            },
            admin: 127.0.0.1:7070,
            mesh: 127.0.0.1:7071,
            telemetry: Telemetry {
                logs: Text,
                access_log: Some(
                    "/srv/mesh/.serviceos/logs/access.jsonl",
                ),
            },
            secrets: {},
            services: [
                ServiceSettings {
                    name: vrf,
                    version: "1.0.0",
                    required: true,
                    runs: Process(
                        ProcessSettings {
                            program: Builtin(
                                Vrf,
                            ),
                            replicas: 1,
                            config: Object {},
                            config_reload: File,
                            secrets: {},
                            allow: {},
                            attestation: AttestationSettings {
                                releases: Measured,
                                tcb: TcbSettings {
                                    accept: [
                                        UpToDate,
                                    ],
                                    grace_days: 0,
                                    reject_advisories: [],
                                },
                                platform: PlatformSettings {
                                    smt: true,
                                    dynamic_platform: true,
                                    cached_keys: true,
                                    allow: Any,
                                },
                                identity_ttl: 3600s,
                            },
                            grace: 10s,
                            restart: Restart {
                                min: 100ms,
                                max: 30s,
                                reset_after: 60s,
                            },
                            rollout: Rollout {
                                strategy: Rolling,
                                max_surge: 1,
                                max_unavailable: 0,
                                min_ready: 2s,
                                progress_deadline: 600s,
                            },
                            start_timeout: 60s,
                        },
                    ),
                    protocol: Http1,
                    health_check: HealthCheck {
                        probe: Http {
                            path: "/health",
                        },
                        interval: 10s,
                        timeout: 5s,
                        healthy_threshold: 1,
                        unhealthy_threshold: 3,
                    },
                    routes: [
                        RouteSettings {
                            host: None,
                            path: "/v1/random",
                            methods: [],
                            headers: [],
                            scopes: [
                                "randomness",
                            ],
                            request: None,
                            body_bytes: None,
                            rate_limit: None,
                            timeout: None,
                            access: Callers,
                            strip_prefix: false,
                        },
                        RouteSettings {
                            host: None,
                            path: "/v1/random/{*rest}",
                            methods: [],
                            headers: [],
                            scopes: [
                                "randomness",
                            ],
                            request: None,
                            body_bytes: None,
                            rate_limit: None,
                            timeout: None,
                            access: Callers,
                            strip_prefix: false,
                        },
                    ],
                    load_balancing: LoadBalancing {
                        policy: PeakEwma,
                        slow_start: 0ns,
                        panic_threshold: Percent(
                            0,
                        ),
                    },
                    traffic: None,
                    retry: Retry {
                        attempts: 1,
                        per_try_timeout: 2s,
                        on: RetryOn {
                            connect: true,
                            reset: true,
                            statuses: [
                                502,
                                503,
                                504,
                            ],
                        },
                        budget: Percent(
                            20,
                        ),
                    },
                    circuit: Circuit {
                        connections: 1024,
                        pending: 1024,
                        requests: 1024,
                    },
                    outlier: Outlier {
                        consecutive_failures: Some(
                            5,
                        ),
                        ejection: 30s,
                        max_ejected: Percent(
                            50,
                        ),
                    },
                    drain_timeout: 30s,
                },
            ],
        }
    "#]]
    .assert_eq(&format!("{settings:#?}\n"));
}

#[test]
fn every_key_arrives_where_it_belongs() {
    let settings = read(FULL).unwrap();
    expect_file!["full.settings"].assert_eq(&format!("{settings:#?}\n"));
}
