//! The keys under `gateway.authentication`.

use std::time::Duration;

use expect_test::expect;

use super::{check, read};
use crate::{JwksSource, TenantOf, TokenAlgorithm};

fn with(authentication: &str) -> String {
    format!("gateway:\n  authentication:\n    {authentication}\nservices: {{vrf: }}\n")
}

#[test]
fn an_issuer_says_who_it_is_and_where_its_keys_are() {
    check(
        &with("jwt: [{}]"),
        expect![[r#"
        serviceos.yaml:3:11: gateway.authentication.jwt[0].issuer: an issuer of tokens needs it
          3 |     jwt: [{}]
            |           ^
        help: write `issuer: https://project.supabase.co/auth/v1`

        serviceos.yaml:3:11: gateway.authentication.jwt[0].audience: an issuer of tokens needs it
          3 |     jwt: [{}]
            |           ^
        help: write `audience: authenticated`

        serviceos.yaml:3:11: gateway.authentication.jwt[0]: an issuer of tokens needs `jwks` or `secret`
          3 |     jwt: [{}]
            |           ^
        help: `jwks` is where its public keys are, `secret` the name of the secret that it signs with"#]],
    );
    check(
        &with(
            "jwt: [{issuer: a, audience: b, jwks: \"https://a.example.org/jwks\"}, {issuer: a, audience: b, secret: s}]",
        ),
        expect![[r#"
            serviceos.yaml:3:11: gateway.authentication.jwt[0].algorithms: expected `HS256`, `RS256`, `PS256`, `ES256` or `EdDSA`, found nothing
              3 |     jwt: [{issuer: a, audience: b, jwks: "https://a.example.org/jwks"}, {issuer: a, audience: b, secret: s}]
                |           ^
            help: write `algorithms: [ES256]`: what the issuer signs with

            serviceos.yaml:3:82: gateway.authentication.jwt[1].issuer: `a` is written twice
              3 |     jwt: [{issuer: a, audience: b, jwks: "https://a.example.org/jwks"}, {issuer: a, audience: b, secret: s}]
                |                                                                                  ^
            help: keep one of the two"#]],
    );
    check(
        &with("jwt: [{issuer: \"\", audience: \"a\\nb\", secret: Wrong, algorithms: [HS512, none]}]"),
        expect![[r#"
            serviceos.yaml:3:20: gateway.authentication.jwt[0].issuer: expected what `iss` says, found ``
              3 |     jwt: [{issuer: "", audience: "a\nb", secret: Wrong, algorithms: [HS512, none]}]
                |                    ^^
            help: it has 1 to 256 bytes, on one line

            serviceos.yaml:3:34: gateway.authentication.jwt[0].audience: expected what `aud` says, found `a�b`
              3 |     jwt: [{issuer: "", audience: "a\nb", secret: Wrong, algorithms: [HS512, none]}]
                |                                  ^^^^^^
            help: it has 1 to 256 bytes, on one line

            serviceos.yaml:3:50: gateway.authentication.jwt[0].secret: expected the name of a secret such as vrf-key, found `Wrong`
              3 |     jwt: [{issuer: "", audience: "a\nb", secret: Wrong, algorithms: [HS512, none]}]
                |                                                  ^^^^^
            help: a name is a lower-case letter, then lower-case letters, digits and hyphens, at most 63 bytes, the last one no hyphen

            serviceos.yaml:3:70: gateway.authentication.jwt[0].algorithms: expected `HS256`, `RS256`, `PS256`, `ES256` or `EdDSA`, found `HS512`
              3 |     jwt: [{issuer: "", audience: "a\nb", secret: Wrong, algorithms: [HS512, none]}]
                |                                                                      ^^^^^

            serviceos.yaml:3:77: gateway.authentication.jwt[0].algorithms: expected `HS256`, `RS256`, `PS256`, `ES256` or `EdDSA`, found `none`
              3 |     jwt: [{issuer: "", audience: "a\nb", secret: Wrong, algorithms: [HS512, none]}]
                |                                                                             ^^^^"#]],
    );
}

#[test]
fn a_secret_is_for_hs256_and_a_public_key_never() {
    check(
        &with("jwt: [{issuer: a, audience: b, secret: s, algorithms: [RS256]}]"),
        expect![[r#"
        serviceos.yaml:3:11: gateway.authentication.jwt[0].algorithms: a secret is for HS256, which is not among them
          3 |     jwt: [{issuer: a, audience: b, secret: s, algorithms: [RS256]}]
            |           ^
        help: add HS256, or leave `secret` out

        serviceos.yaml:3:60: gateway.authentication.jwt[0].algorithms: RS256 is verified with a public key, and there is no `jwks`
          3 |     jwt: [{issuer: a, audience: b, secret: s, algorithms: [RS256]}]
            |                                                            ^^^^^
        help: a secret is for HS256 alone"#]],
    );
    check(
        &with("jwt: [{issuer: a, audience: b, jwks: keys.json, algorithms: [HS256, ES256]}]"),
        expect![[r#"
            serviceos.yaml:3:66: gateway.authentication.jwt[0].algorithms: HS256 is verified with a secret, and there is none
              3 |     jwt: [{issuer: a, audience: b, jwks: keys.json, algorithms: [HS256, ES256]}]
                |                                                                  ^^^^^
            help: write `secret: supabase-jwt`"#]],
    );
    let settings = read(&with("jwt: [{issuer: a, audience: b, secret: s}]")).unwrap();
    let issuer = &settings.gateway.authentication.jwt[0];
    assert_eq!(issuer.algorithms, [TokenAlgorithm::Hs256].into());
    assert_eq!((issuer.secret.as_ref().unwrap().line, &issuer.tenant), (3, &TenantOf::Default));
}

#[test]
fn keys_are_fetched_under_tls_or_from_this_machine() {
    let jwks =
        |url: &str| with(&format!("jwt: [{{issuer: a, audience: b, jwks: \"{url}\", algorithms: [ES256]}}]"));
    for good in [
        "https://idp.example.org/.well-known/jwks.json?v=1",
        "https://10.0.0.5:8443/jwks",
        "http://127.0.0.1:8080/jwks",
        "http://[::1]:8080/jwks",
        "http://localhost/jwks",
    ] {
        let settings = read(&jwks(good)).unwrap_or_else(|report| panic!("{good}: {report}"));
        let source = &settings.gateway.authentication.jwt[0].jwks.as_ref().unwrap().value;
        assert_eq!(source, &JwksSource::Url(good.to_owned()));
    }
    for bad in [
        "http://idp.example.org/jwks",
        "http://10.0.0.5/jwks",
        "http://127.0.0.1.example.org/jwks",
        "http://2130706433/jwks",
        "https://user@idp.example.org/jwks",
        "https://idp.example.org/jwks#top",
        "https://idp.example.org\\\\@evil.org/",
        "https://idp.example.org:0/jwks",
        "https:///jwks",
        "ftp://idp.example.org/jwks",
    ] {
        assert!(read(&jwks(bad)).is_err(), "{bad}");
    }
    let settings = read(&jwks("keys/idp.json")).unwrap();
    let source = &settings.gateway.authentication.jwt[0].jwks.as_ref().unwrap().value;
    assert_eq!(source, &JwksSource::File("/srv/mesh/keys/idp.json".into()));
}

#[test]
fn what_a_caller_is_good_for_has_the_form_of_scopes_tenants_and_tiers() {
    check(
        &with(
            "jwt: [{issuer: a, audience: b, secret: s, scopes: {admin: [\"*\"], \"\": []}, tenant: a b, tenantClaim: org, tier: fre}]",
        ),
        expect![[r#"
            serviceos.yaml:3:64: gateway.authentication.jwt[0].scopes: expected a scope such as randomness, found `*`
              3 |     jwt: [{issuer: a, audience: b, secret: s, scopes: {admin: ["*"], "": []}, tenant: a b, tenantClaim: org, tier: fre}]
                |                                                                ^^^
            help: a scope is lower-case letters, digits and the characters : . _ -

            serviceos.yaml:3:70: gateway.authentication.jwt[0].scopes: expected the name of a role, found ``
              3 |     jwt: [{issuer: a, audience: b, secret: s, scopes: {admin: ["*"], "": []}, tenant: a b, tenantClaim: org, tier: fre}]
                |                                                                      ^^
            help: it has 1 to 256 bytes, on one line

            serviceos.yaml:3:87: gateway.authentication.jwt[0].tenant: the tenant is already said by `tenantClaim`
              3 |     jwt: [{issuer: a, audience: b, secret: s, scopes: {admin: ["*"], "": []}, tenant: a b, tenantClaim: org, tier: fre}]
                |                                                                                       ^^^
            help: keep one of the two

            serviceos.yaml:3:116: gateway.authentication.jwt[0].tier: there is no tier `fre`
              3 |     jwt: [{issuer: a, audience: b, secret: s, scopes: {admin: ["*"], "": []}, tenant: a b, tenantClaim: org, tier: fre}]
                |                                                                                                                    ^^^
            help: did you mean `free`?"#]],
    );
}

#[test]
fn no_two_issuers_share_a_tenant() {
    let issuer = |name: &str, more: &str| format!("{{issuer: {name}, audience: b, secret: s{more}}}");
    let two = |first: &str, second: &str| {
        with(&format!("jwt:\n    - {}\n    - {}", issuer("one", first), issuer("two", second)))
    };
    check(
        &two("", ", tenant: default"),
        expect![[r#"
            serviceos.yaml:5:53: gateway.authentication.jwt[1].tenant: `default` is the tenant of gateway.authentication.jwt[0] already
              5 |     - {issuer: two, audience: b, secret: s, tenant: default}
                |                                                     ^^^^^^^
            help: a caller is known by its tenant and its `sub`, so that each issuer needs another one: write `tenant: partner`"#]],
    );
    check(
        &two("", ""),
        expect![[r#"
        serviceos.yaml:5:7: gateway.authentication.jwt[1].tenant: `default` is the tenant of gateway.authentication.jwt[0] already
          5 |     - {issuer: two, audience: b, secret: s}
            |       ^
        help: a caller is known by its tenant and its `sub`, so that each issuer needs another one: write `tenant: partner`"#]],
    );
    check(
        &two(", tenantClaim: org", ", tenantClaim: org"),
        expect![[r#"
        serviceos.yaml:5:58: gateway.authentication.jwt[1].tenantClaim: gateway.authentication.jwt[0] names its tenants by a claim already
          5 |     - {issuer: two, audience: b, secret: s, tenantClaim: org}
            |                                                          ^^^
        help: both could name the same one, in which a `sub` could be two callers: write `tenant: partner` for one of them"#]],
    );
    for (first, second) in [("", ", tenant: a"), (", tenant: a", ", tenant: b"), ("", ", tenantClaim: org")] {
        assert!(read(&two(first, second)).is_ok(), "{first} {second}");
    }
}

#[test]
fn a_certificate_needs_somebody_who_asks_for_it() {
    check(
        &with("clientCertificates:"),
        expect![[r#"
        serviceos.yaml:3:23: gateway.authentication.clientCertificates: no client is asked for a certificate
          3 |     clientCertificates:
            |                       ^
        help: name the authority of your clients in gateway.tls.clientCa"#]],
    );
    let tls =
        "tls: {certificates: [{certificate: a.pem, key: a.key}], clientCa: ca.pem}\n  authentication:\n    ";
    let with = |names: &str| {
        format!("gateway:\n  {tls}clientCertificates: {{scopes: {{{names}}}}}\nservices: {{vrf: }}\n")
    };
    for bad in
        ["*", "spiffe://", "spiffe:///*", "spiffe://a/*/b", "spiffe://a/b*", "spiffe://a/", "feeds", "CN=ü"]
    {
        assert!(read(&with(&format!("\"{bad}\": []"))).is_err(), "{bad}");
    }
    for good in
        ["spiffe://a", "spiffe://a/*", "spiffe://a/b/c", "spiffe://a/b/*", "CN=feeds,O=Partner", "CN=*"]
    {
        assert!(read(&with(&format!("\"{good}\": [datafeed]"))).is_ok(), "{good}");
    }
}

#[test]
fn a_signature_is_good_for_five_minutes_at_most() {
    let age = |text: &str| {
        let settings = read(&with(text)).unwrap();
        settings.gateway.authentication.signed_requests.map(|signed| signed.max_age)
    };
    assert_eq!(age("apiKeys: true"), None);
    assert_eq!(age("signedRequests:"), Some(Duration::from_secs(300)));
    assert_eq!(age("signedRequests: {maxAge: 10s}"), Some(Duration::from_secs(10)));
    check(
        &with("signedRequests: {maxAge: 301s}"),
        expect![[r#"
        serviceos.yaml:3:30: gateway.authentication.signedRequests.maxAge: expected a duration from 1s to 5m, found `5m1s`
          3 |     signedRequests: {maxAge: 301s}
            |                              ^^^^"#]],
    );
}
