//! The gateway's keys: TLS, networks, tiers.

use expect_test::expect;

use super::{check, read};
use crate::LimitSettings;

fn with(gateway: &str) -> String {
    format!("gateway:\n  {gateway}\nservices: {{vrf: }}\n")
}

#[test]
fn tls_needs_certificates_with_both_files() {
    check(
        &with("tls:"),
        expect![[r#"
        serviceos.yaml:2:6: gateway.tls.certificates: expected at least one certificate
          2 |   tls:
            |      ^
        help: write `certificates: [{certificate: cert.pem, key: key.pem}]`"#]],
    );
    check(
        &with(
            "tls: {certificates: [{certificate: a.pem}, {}, {certificate: \"\", key: k.pem}], clientCa: \"\"}",
        ),
        expect![[r#"
            serviceos.yaml:2:24: gateway.tls.certificates[0].key: expected a path, found nothing
              2 |   tls: {certificates: [{certificate: a.pem}, {}, {certificate: "", key: k.pem}], clientCa: ""}
                |                        ^
            help: a certificate has two files: `{certificate: cert.pem, key: key.pem}`

            serviceos.yaml:2:46: gateway.tls.certificates[1].certificate: expected a path, found nothing
              2 |   tls: {certificates: [{certificate: a.pem}, {}, {certificate: "", key: k.pem}], clientCa: ""}
                |                                              ^
            help: a certificate has two files: `{certificate: cert.pem, key: key.pem}`

            serviceos.yaml:2:46: gateway.tls.certificates[1].key: expected a path, found nothing
              2 |   tls: {certificates: [{certificate: a.pem}, {}, {certificate: "", key: k.pem}], clientCa: ""}
                |                                              ^
            help: a certificate has two files: `{certificate: cert.pem, key: key.pem}`

            serviceos.yaml:2:64: gateway.tls.certificates[2].certificate: expected a path, found ``
              2 |   tls: {certificates: [{certificate: a.pem}, {}, {certificate: "", key: k.pem}], clientCa: ""}
                |                                                                ^^

            serviceos.yaml:2:92: gateway.tls.clientCa: expected a path, found ``
              2 |   tls: {certificates: [{certificate: a.pem}, {}, {certificate: "", key: k.pem}], clientCa: ""}
                |                                                                                            ^^"#]],
    );
}

#[test]
fn networks_are_written_without_host_bits() {
    check(
        &with("proxyProtocol: [10.0.0.5/8, 10.0.0.0/33, nowhere, 10, \"fd00::1/8\"]"),
        expect![[r#"
        serviceos.yaml:2:19: gateway.proxyProtocol: expected a network such as 10.0.0.0/8 or fd00::/8, or an IP address, found `10.0.0.5/8`
          2 |   proxyProtocol: [10.0.0.5/8, 10.0.0.0/33, nowhere, 10, "fd00::1/8"]
            |                   ^^^^^^^^^^
        help: the network that 10.0.0.5 lies in is 10.0.0.0/8; the address alone is 10.0.0.5

        serviceos.yaml:2:31: gateway.proxyProtocol: expected a network such as 10.0.0.0/8 or fd00::/8, or an IP address, found `10.0.0.0/33`
          2 |   proxyProtocol: [10.0.0.5/8, 10.0.0.0/33, nowhere, 10, "fd00::1/8"]
            |                               ^^^^^^^^^^^

        serviceos.yaml:2:44: gateway.proxyProtocol: expected a network such as 10.0.0.0/8 or fd00::/8, or an IP address, found `nowhere`
          2 |   proxyProtocol: [10.0.0.5/8, 10.0.0.0/33, nowhere, 10, "fd00::1/8"]
            |                                            ^^^^^^^

        serviceos.yaml:2:53: gateway.proxyProtocol: expected a network such as 10.0.0.0/8 or fd00::/8, or an IP address, found `10`
          2 |   proxyProtocol: [10.0.0.5/8, 10.0.0.0/33, nowhere, 10, "fd00::1/8"]
            |                                                     ^^

        serviceos.yaml:2:57: gateway.proxyProtocol: expected a network such as 10.0.0.0/8 or fd00::/8, or an IP address, found `fd00::1/8`
          2 |   proxyProtocol: [10.0.0.5/8, 10.0.0.0/33, nowhere, 10, "fd00::1/8"]
            |                                                         ^^^^^^^^^^^
        help: the network that fd00::1 lies in is fd00::/8; the address alone is fd00::1"#]],
    );
    let settings = read(&with("trustedProxies: [10.0.0.5, \"::1\", 10.0.0.5/32, 0.0.0.0/0]")).unwrap();
    let networks: Vec<String> = settings.gateway.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.5/32", "::1/128", "10.0.0.5/32", "0.0.0.0/0"]);
}

#[test]
fn a_network_of_ipv4_is_written_as_such() {
    check(
        &with("trustedProxies: [\"::ffff:10.0.0.0/104\", \"::ffff:10.0.0.5\", \"::ffff:10.1.2.3/112\"]"),
        expect![[r#"
            serviceos.yaml:2:20: gateway.trustedProxies: expected a network such as 10.0.0.0/8 or fd00::/8, or an IP address, found `::ffff:10.0.0.0/104`
              2 |   trustedProxies: ["::ffff:10.0.0.0/104", "::ffff:10.0.0.5", "::ffff:10.1.2.3/112"]
                |                    ^^^^^^^^^^^^^^^^^^^^^
            help: a client over IPv4 is known by its IPv4 address: write 10.0.0.0/8

            serviceos.yaml:2:43: gateway.trustedProxies: expected a network such as 10.0.0.0/8 or fd00::/8, or an IP address, found `::ffff:10.0.0.5`
              2 |   trustedProxies: ["::ffff:10.0.0.0/104", "::ffff:10.0.0.5", "::ffff:10.1.2.3/112"]
                |                                           ^^^^^^^^^^^^^^^^^
            help: a client over IPv4 is known by its IPv4 address: write 10.0.0.5

            serviceos.yaml:2:62: gateway.trustedProxies: expected a network such as 10.0.0.0/8 or fd00::/8, or an IP address, found `::ffff:10.1.2.3/112`
              2 |   trustedProxies: ["::ffff:10.0.0.0/104", "::ffff:10.0.0.5", "::ffff:10.1.2.3/112"]
                |                                                              ^^^^^^^^^^^^^^^^^^^^^
            help: a client over IPv4 is known by its IPv4 address: write 10.1.0.0/16"#]],
    );
    assert!(read(&with("trustedProxies: [\"::/0\", \"64:ff9b::/96\"]")).is_ok());
}

#[test]
fn tiers_have_a_rate_and_a_burst() {
    check(
        &with(
            "rateLimits:
    tiers:
      partner:
      Big: {rate: 1/s, burst: 1}
      unlimited: {rate: 1/s, burst: 1}
      a: {rate: 5000/m, burst: 0}
      b: {rate: 0/s, burst: 1}
      c: {rate: 60, burst: 1}
      d: {rate: [], burst: x}
      e: {rate: 1000000001/d, burst: 1}
      daily: {rate: 1/s, burst: 1}",
        ),
        expect![[r#"
            serviceos.yaml:4:7: gateway.rateLimits.tiers.partner.rate: a tier needs a rate
              4 |       partner:
                |       ^^^^^^^
            help: write `rate: 5000/min`

            serviceos.yaml:4:7: gateway.rateLimits.tiers.partner.burst: a tier needs a burst
              4 |       partner:
                |       ^^^^^^^
            help: write `burst: 500`: so many at once after a pause

            serviceos.yaml:5:7: gateway.rateLimits.tiers: expected a name such as partner, found `Big`
              5 |       Big: {rate: 1/s, burst: 1}
                |       ^^^
            help: a name is a lower-case letter, then lower-case letters, digits and hyphens, at most 40 bytes

            serviceos.yaml:6:7: gateway.rateLimits.tiers.unlimited: this tier has no limits and takes none
              6 |       unlimited: {rate: 1/s, burst: 1}
                |       ^^^^^^^^^
            help: give the tier another name

            serviceos.yaml:7:17: gateway.rateLimits.tiers.a.rate: expected a rate such as 10/s, 600/min, 5000/h or 100000/d, found `5000/m`
              7 |       a: {rate: 5000/m, burst: 0}
                |                 ^^^^^^
            help: write a whole number from 1 to 1000000000, a slash, and s, min, h or d

            serviceos.yaml:7:32: gateway.rateLimits.tiers.a.burst: expected a whole number from 1 to 1000000000, found `0`
              7 |       a: {rate: 5000/m, burst: 0}
                |                                ^

            serviceos.yaml:8:17: gateway.rateLimits.tiers.b.rate: expected a rate such as 10/s, 600/min, 5000/h or 100000/d, found `0/s`
              8 |       b: {rate: 0/s, burst: 1}
                |                 ^^^
            help: write a whole number from 1 to 1000000000, a slash, and s, min, h or d

            serviceos.yaml:9:17: gateway.rateLimits.tiers.c.rate: expected a rate such as 10/s, 600/min, 5000/h or 100000/d, found `60`
              9 |       c: {rate: 60, burst: 1}
                |                 ^^
            help: add a unit: 60/s for each second, 60/min for each minute

            serviceos.yaml:10:17: gateway.rateLimits.tiers.d.rate: expected a rate such as 10/s, 600/min, 5000/h or 100000/d, found a list
              10 |       d: {rate: [], burst: x}
                 |                 ^

            serviceos.yaml:10:28: gateway.rateLimits.tiers.d.burst: expected a whole number from 1 to 1000000000, found `x`
              10 |       d: {rate: [], burst: x}
                 |                            ^

            serviceos.yaml:11:17: gateway.rateLimits.tiers.e.rate: expected a rate such as 10/s, 600/min, 5000/h or 100000/d, found `1000000001/d`
              11 |       e: {rate: 1000000001/d, burst: 1}
                 |                 ^^^^^^^^^^^^
            help: write a whole number from 1 to 1000000000, a slash, and s, min, h or d

            serviceos.yaml:12:7: gateway.rateLimits.tiers.daily: callers are told of another limit by this name
              12 |       daily: {rate: 1/s, burst: 1}
                 |       ^^^^^
            help: give the tier another name"#]],
    );
}

#[test]
fn rates_count_over_a_second_a_minute_an_hour_or_a_day() {
    let settings = read(&with(
        "rateLimits: {tiers: {a: {rate: 10/s, burst: 1}, b: {rate: 20/min, burst: 2}, c: {rate: 30/h, burst: 3}, d: {rate: 1000000000/d, burst: 4}}}",
    ))
    .unwrap();
    let tiers = settings.gateway.rate_limits.tiers.iter();
    let rates: Vec<_> = tiers
        .map(|(name, tier)| {
            (name.as_str(), tier.limit.rate.count, tier.limit.rate.per.as_secs(), tier.limit.burst)
        })
        .collect();
    let expected = [("a", 10, 1, 1), ("b", 20, 60, 2), ("c", 30, 3_600, 3), ("d", 1_000_000_000, 86_400, 4)];
    assert_eq!(rates, expected);
}

#[test]
fn addresses_failures_and_days_have_limits_with_ranges() {
    let settings = read(&with("limits: {requests: 5}")).unwrap().gateway.rate_limits;
    assert_eq!(settings.per_address, None);
    let shown = |limit: &LimitSettings| (limit.rate.count, limit.rate.per.as_secs(), limit.burst);
    assert_eq!(shown(&settings.failed_authentication), (10, 1, 20));
    let settings = read(&with(
        "rateLimits: {perAddress: {rate: 600/min, burst: 100}, failedAuthentication: {burst: 3}, tiers: {a: {rate: 1/s, burst: 1, daily: 5}}}",
    ));
    let settings = settings.unwrap().gateway.rate_limits;
    assert_eq!(settings.per_address.as_ref().map(shown), Some((600, 60, 100)));
    assert_eq!(shown(&settings.failed_authentication), (10, 1, 3));
    assert_eq!(settings.tiers["a"].daily, Some(5));
    check(
        &with(
            "rateLimits: {perAddress: {rate: 0/min}, failedAuthentication: {burst: 0, daily: 1}, tiers: {a: {rate: 1/s, burst: 1, daily: 0}}}",
        ),
        expect![[r#"
            serviceos.yaml:2:28: gateway.rateLimits.perAddress.burst: a limit needs a burst
              2 |   rateLimits: {perAddress: {rate: 0/min}, failedAuthentication: {burst: 0, daily: 1}, tiers: {a: {rate: 1/s, burst: 1, d…
                |                            ^
            help: write `burst: 500`: so many at once after a pause

            serviceos.yaml:2:35: gateway.rateLimits.perAddress.rate: expected a rate such as 10/s, 600/min, 5000/h or 100000/d, found `0/min`
              2 |   rateLimits: {perAddress: {rate: 0/min}, failedAuthentication: {burst: 0, daily: 1}, tiers: {a: {rate: 1/s, burst: 1, d…
                |                                   ^^^^^
            help: write a whole number from 1 to 1000000000, a slash, and s, min, h or d

            serviceos.yaml:2:73: gateway.rateLimits.failedAuthentication.burst: expected a whole number from 1 to 1000000000, found `0`
              2 | …: 0/min}, failedAuthentication: {burst: 0, daily: 1}, tiers: {a: {rate: 1/s, burst: 1, daily: 0}}}
                |                                          ^

            serviceos.yaml:2:76: unknown key `daily`
              2 | …/min}, failedAuthentication: {burst: 0, daily: 1}, tiers: {a: {rate: 1/s, burst: 1, daily: 0}}}
                |                                          ^^^^^
            help: the keys here are `rate` and `burst`

            serviceos.yaml:2:127: gateway.rateLimits.tiers.a.daily: expected a whole number from 1 to 1000000000, found `0`
              2 | …tiers: {a: {rate: 1/s, burst: 1, daily: 0}}}
                |                                          ^"#]],
    );
    check(
        &with(
            "rateLimits: {perAddress: , failedAuthentication: , tiers: {a: {rate: 1/s, burst: 1, daily: 1000000001}}}",
        ),
        expect![[r#"
            serviceos.yaml:2:26: gateway.rateLimits.perAddress.rate: a limit needs a rate
              2 |   rateLimits: {perAddress: , failedAuthentication: , tiers: {a: {rate: 1/s, burst: 1, daily: 1000000001}}}
                |                          ^
            help: write `rate: 5000/min`

            serviceos.yaml:2:26: gateway.rateLimits.perAddress.burst: a limit needs a burst
              2 |   rateLimits: {perAddress: , failedAuthentication: , tiers: {a: {rate: 1/s, burst: 1, daily: 1000000001}}}
                |                          ^
            help: write `burst: 500`: so many at once after a pause

            serviceos.yaml:2:94: gateway.rateLimits.tiers.a.daily: expected a whole number from 1 to 1000000000, found `1000000001`
              2 |   rateLimits: {perAddress: , failedAuthentication: , tiers: {a: {rate: 1/s, burst: 1, daily: 1000000001}}}
                |                                                                                              ^^^^^^^^^^"#]],
    );
}

#[test]
fn limits_have_ranges_in_which_they_can_be_kept() {
    check(
        &with(
            "limits: {headerBytes: 513KiB, headers: 1001, urlBytes: 4294967296GiB, bodyBytes: 1025GiB,
    connections: 4294967296, requests: 0}",
        ),
        expect![[r#"
            serviceos.yaml:2:25: gateway.limits.headerBytes: expected a size from 256B to 512KiB, found `513KiB`
              2 |   limits: {headerBytes: 513KiB, headers: 1001, urlBytes: 4294967296GiB, bodyBytes: 1025GiB,
                |                         ^^^^^^

            serviceos.yaml:2:42: gateway.limits.headers: expected a whole number from 1 to 1000, found `1001`
              2 |   limits: {headerBytes: 513KiB, headers: 1001, urlBytes: 4294967296GiB, bodyBytes: 1025GiB,
                |                                          ^^^^

            serviceos.yaml:2:58: gateway.limits.urlBytes: expected a size from 64B to 32KiB, found `4294967296GiB`
              2 |   limits: {headerBytes: 513KiB, headers: 1001, urlBytes: 4294967296GiB, bodyBytes: 1025GiB,
                |                                                          ^^^^^^^^^^^^^

            serviceos.yaml:2:84: gateway.limits.bodyBytes: expected a size from 1B to 1024GiB, found `1025GiB`
              2 |   limits: {headerBytes: 513KiB, headers: 1001, urlBytes: 4294967296GiB, bodyBytes: 1025GiB,
                |                                                                                    ^^^^^^^

            serviceos.yaml:3:18: gateway.limits.connections: expected a whole number from 1 to 1000000, found `4294967296`
              3 |     connections: 4294967296, requests: 0}
                |                  ^^^^^^^^^^

            serviceos.yaml:3:40: gateway.limits.requests: expected a whole number from 1 to 1000000, found `0`
              3 |     connections: 4294967296, requests: 0}
                |                                        ^"#]],
    );
    check(
        &with(
            "limits: {headerBytes: 255B, headers: 0, urlBytes: 63B, connections: 1000001, requests: 1000001}",
        ),
        expect![[r#"
            serviceos.yaml:2:25: gateway.limits.headerBytes: expected a size from 256B to 512KiB, found `255B`
              2 |   limits: {headerBytes: 255B, headers: 0, urlBytes: 63B, connections: 1000001, requests: 1000001}
                |                         ^^^^

            serviceos.yaml:2:40: gateway.limits.headers: expected a whole number from 1 to 1000, found `0`
              2 |   limits: {headerBytes: 255B, headers: 0, urlBytes: 63B, connections: 1000001, requests: 1000001}
                |                                        ^

            serviceos.yaml:2:53: gateway.limits.urlBytes: expected a size from 64B to 32KiB, found `63B`
              2 |   limits: {headerBytes: 255B, headers: 0, urlBytes: 63B, connections: 1000001, requests: 1000001}
                |                                                     ^^^

            serviceos.yaml:2:71: gateway.limits.connections: expected a whole number from 1 to 1000000, found `1000001`
              2 |   limits: {headerBytes: 255B, headers: 0, urlBytes: 63B, connections: 1000001, requests: 1000001}
                |                                                                       ^^^^^^^

            serviceos.yaml:2:90: gateway.limits.requests: expected a whole number from 1 to 1000000, found `1000001`
              2 |   limits: {headerBytes: 255B, headers: 0, urlBytes: 63B, connections: 1000001, requests: 1000001}
                |                                                                                          ^^^^^^^"#]],
    );
    let widest = "limits: {headerBytes: 512KiB, headers: 1000, urlBytes: 32KiB, bodyBytes: 1024GiB, connections: 1000000, requests: 1000000}";
    let least =
        "limits: {headerBytes: 256B, headers: 1, urlBytes: 64B, bodyBytes: 1B, connections: 1, requests: 1}";
    for good in [widest, least] {
        assert!(read(&with(good)).is_ok(), "{good}");
    }
}
