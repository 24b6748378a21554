mod maker;

use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use maker::{AUDIENCE, ISSUER, Maker, NOW, part};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn rules(algorithms: &[Algorithm]) -> IssuerRules {
    IssuerRules {
        issuer: ISSUER.into(),
        audience: AUDIENCE.to_owned(),
        algorithms: algorithms.iter().copied().collect(),
        role_claim: Some("role".to_owned()),
        scopes: BTreeMap::from([
            ("authenticated".to_owned(), vec!["randomness".to_owned(), "datafeed".to_owned()]),
            ("service_role".to_owned(), vec!["admin".to_owned(), "datafeed".to_owned()]),
        ]),
        tenant: Tenant::Fixed("default".to_owned()),
        tier: "free".into(),
    }
}

const ALL: [Algorithm; 5] =
    [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];

fn table(rules: IssuerRules, keys: Vec<Arc<VerifyingKey>>) -> TokenTable {
    TokenTable::new([(Arc::new(rules), keys)])
}

/// A table in which every key of the maker is known.
fn all(maker: &Maker) -> TokenTable {
    table(rules(&ALL), maker.keys())
}

fn told(table: &TokenTable, token: impl AsRef<[u8]>) -> String {
    match table.verify(token.as_ref(), at(NOW)) {
        Ok(verified) => format!("{} may {:?}", verified.identity.subject, verified.identity.scopes),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn a_token_of_each_algorithm_is_good_for_what_the_file_grants() {
    let maker = Maker::new();
    let table = all(&maker);
    for algorithm in ["HS256", "RS256", "PS256", "ES256", "EdDSA"] {
        let verified = table.verify(maker.token(algorithm).as_bytes(), at(NOW)).unwrap();
        assert_eq!(verified.until, at(NOW + 3600 + 60), "{algorithm}");
        let identity = verified.identity;
        assert_eq!(identity.subject, "1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11");
        assert_eq!((&*identity.issuer, &*identity.tenant, &*identity.tier), (ISSUER, "default", "free"));
        assert_eq!(identity.scopes, ["randomness", "datafeed"]);
    }
}

#[test]
fn the_algorithm_belongs_to_the_key_and_never_to_the_token() {
    let maker = Maker::new();
    let table = all(&maker);
    let none = |name: &str| {
        let token = maker.token("HS256");
        let payload = token.split('.').nth(1).unwrap();
        format!("{}.{payload}.", part(&json!({"alg": name, "typ": "JWT"})))
    };
    let mut shown = String::new();
    for name in ["none", "None", "NONE", "nOnE", "", "hs256", "HS384", "ES256K", "RS512", "dir"] {
        shown += &format!("{name:?}: {}\n", told(&table, none(name)));
    }
    // The public key as a secret, in every form in which somebody may have it at hand.
    for (form, secret) in maker.public_forms() {
        shown += &format!("HS256 with {form}: {}\n", told(&table, maker.hs256_with(&secret, json!({}))));
    }
    let id = |algorithm: &str, id: &str| maker.signed(algorithm, json!({"kid": id}), maker.claims());
    shown += &format!("RS256 by the key of ES256: {}\n", told(&table, id("RS256", "es")));
    shown += &format!("ES256 by the key of EdDSA: {}\n", told(&table, id("ES256", "ed")));
    shown += &format!("RS256 by the key of PS256: {}\n", told(&table, id("RS256", "ps")));
    let es = self::table(rules(&[Algorithm::Es256]), maker.keys());
    for algorithm in ["HS256", "RS256", "PS256", "EdDSA"] {
        shown += &format!("{algorithm} where ES256 is allowed: {}\n", told(&es, maker.token(algorithm)));
    }
    expect![[r#"
        "none": its algorithm is none that is taken
        "None": its algorithm is none that is taken
        "NONE": its algorithm is none that is taken
        "nOnE": its algorithm is none that is taken
        "": its algorithm is none that is taken
        "hs256": its algorithm is none that is taken
        "HS384": its algorithm is none that is taken
        "ES256K": its algorithm is none that is taken
        "RS512": its algorithm is none that is taken
        "dir": its algorithm is none that is taken
        HS256 with PEM: its signature is not right
        HS256 with DER: its signature is not right
        HS256 with the JWK: its signature is not right
        HS256 with the modulus: its signature is not right
        HS256 with the point: its signature is not right
        HS256 with the id: its signature is not right
        HS256 with nothing: its signature is not right
        RS256 by the key of ES256: its key is not one of its algorithm
        ES256 by the key of EdDSA: its key is not one of its algorithm
        RS256 by the key of PS256: its key is not one of its algorithm
        HS256 where ES256 is allowed: its issuer may not sign with its algorithm
        RS256 where ES256 is allowed: its issuer may not sign with its algorithm
        PS256 where ES256 is allowed: its issuer may not sign with its algorithm
        EdDSA where ES256 is allowed: its issuer may not sign with its algorithm
    "#]]
    .assert_eq(&shown);
}

#[test]
fn only_a_token_that_public_keys_were_tried_on_is_called_costly() {
    let (maker, stranger) = (Maker::new(), Maker::new());
    let table = all(&maker);
    let refused = |token: String| table.verify(token.as_bytes(), at(NOW)).unwrap_err();
    let costly = TokenRefusal::Costly("its signature is not right");
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        assert_eq!(refused(stranger.token(algorithm)), costly, "{algorithm}");
        let expired = json!({"exp": NOW - 60});
        assert_eq!(refused(maker.with_claims(algorithm, expired)), Refused("it has expired"), "{algorithm}");
    }
    assert_eq!(
        refused(maker.hs256_with(b"another secret", json!({}))),
        Refused("its signature is not right")
    );
    assert_eq!(refused("not.a.token".to_owned()), Refused("a part of it is not base64url"));
}

#[test]
fn a_key_that_a_token_brings_along_is_not_looked_at() {
    let (maker, stranger) = (Maker::new(), Maker::new());
    let table = all(&maker);
    let with = |header: Value| told(&table, stranger.signed("ES256", header, maker.claims()));
    let mut shown = String::new();
    for (what, header) in [
        ("jwk", json!({"jwk": stranger.jwk("es")})),
        ("jwk of the same id", json!({"kid": "es", "jwk": stranger.jwk("es")})),
        ("jku", json!({"jku": "http://127.0.0.1:1/jwks", "kid": "other"})),
        ("x5u", json!({"x5u": "http://127.0.0.1:1/x5u"})),
        ("x5c", json!({"x5c": ["MIIB"]})),
        ("a path", json!({"kid": "../../../../dev/null"})),
        ("quotes", json!({"kid": "es' OR '1'='1"})),
        ("a NUL", json!({"kid": "es\0"})),
        ("a number", json!({"kid": 7})),
        ("crit", json!({"kid": "es", "crit": ["exp"]})),
        ("an empty crit", json!({"kid": "es", "crit": []})),
        ("b64", json!({"kid": "es", "b64": false})),
        ("another type", json!({"kid": "es", "typ": "JWE"})),
        ("a type that is no text", json!({"kid": "es", "typ": null})),
    ] {
        shown += &format!("{what}: {}\n", with(header));
    }
    expect![[r#"
        jwk: its signature is not right
        jwk of the same id: its signature is not right
        jku: the token is signed with a key of https://project.supabase.co/auth/v1 that is not known
        x5u: its signature is not right
        x5c: its signature is not right
        a path: the token is signed with a key of https://project.supabase.co/auth/v1 that is not known
        quotes: the token is signed with a key of https://project.supabase.co/auth/v1 that is not known
        a NUL: the token is signed with a key of https://project.supabase.co/auth/v1 that is not known
        a number: the id of its key is not text
        crit: its header asks for what is not understood
        an empty crit: its header asks for what is not understood
        b64: its header asks for what is not understood
        another type: its type is not that of a token for this
        a type that is no text: its type is not that of a token for this
    "#]]
    .assert_eq(&shown);
    for kind in ["JWT", "jwt", "at+jwt", "AT+JWT"] {
        let token = maker.signed("ES256", json!({"kid": "es", "typ": kind}), maker.claims());
        assert!(table.verify(token.as_bytes(), at(NOW)).is_ok(), "{kind}");
    }
}

#[test]
fn what_a_token_says_is_judged_claim_by_claim() {
    let maker = Maker::new();
    let table = all(&maker);
    let mut shown = String::new();
    for (what, changes) in [
        ("nothing else", json!({})),
        ("no exp", json!({"exp": null})),
        ("no iss", json!({"iss": null})),
        ("no aud", json!({"aud": null})),
        ("no sub", json!({"sub": null})),
        ("another issuer", json!({"iss": "https://evil.example.org"})),
        ("an issuer with a slash", json!({"iss": format!("{ISSUER}/")})),
        ("a list of issuers", json!({"iss": [ISSUER]})),
        ("another audience", json!({"aud": "others"})),
        ("several audiences", json!({"aud": ["others", AUDIENCE]})),
        ("other audiences", json!({"aud": ["others", "more"]})),
        ("an audience that is no text", json!({"aud": [AUDIENCE, 1]})),
        ("expired within the skew", json!({"exp": NOW - 59})),
        ("expired beyond the skew", json!({"exp": NOW - 60})),
        ("a fraction of a second", json!({"exp": NOW as f64 - 59.5})),
        ("exp as text", json!({"exp": "9999999999"})),
        ("exp beyond all years", json!({"exp": 1e300})),
        ("a negative exp", json!({"exp": -1})),
        ("not yet, within the skew", json!({"nbf": NOW + 60})),
        ("not yet, beyond the skew", json!({"nbf": NOW + 61})),
        ("nbf as text", json!({"nbf": "0"})),
        ("issued in the future", json!({"iat": NOW + 61})),
        ("the subject of a key", json!({"sub": "key_01J"})),
        ("the subject of a certificate", json!({"sub": "spiffe://a/b"})),
        ("a subject with a line end", json!({"sub": "a\r\nx-serviceos-scopes: admin"})),
        ("a subject beyond ASCII", json!({"sub": "jürgen"})),
        ("a long subject", json!({"sub": "a".repeat(256)})),
        ("an empty subject", json!({"sub": ""})),
        ("no role", json!({"role": null})),
        ("a role that the file does not name", json!({"role": "postgres"})),
        ("two roles", json!({"role": ["authenticated", "service_role"]})),
        ("a role that is a number", json!({"role": 1})),
        ("a scope of its own", json!({"role": null, "scope": "admin"})),
    ] {
        shown += &format!("{what}: {}\n", told(&table, maker.with_claims("ES256", changes)));
    }
    expect![[r#"
        nothing else: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may ["randomness", "datafeed"]
        no exp: it never expires
        no iss: it names no issuer
        no aud: it names no audience
        no sub: it has no subject
        another issuer: its issuer is not one of the file
        an issuer with a slash: its issuer is not one of the file
        a list of issuers: it names no issuer
        another audience: it is for another audience
        several audiences: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may ["randomness", "datafeed"]
        other audiences: it is for another audience
        an audience that is no text: its audience is none
        expired within the skew: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may ["randomness", "datafeed"]
        expired beyond the skew: it has expired
        a fraction of a second: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may ["randomness", "datafeed"]
        exp as text: a moment of it is none
        exp beyond all years: a moment of it is none
        a negative exp: a moment of it is none
        not yet, within the skew: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may ["randomness", "datafeed"]
        not yet, beyond the skew: it is not good yet
        nbf as text: a moment of it is none
        issued in the future: it was issued in the future
        the subject of a key: its subject looks like a caller of another kind
        the subject of a certificate: its subject looks like a caller of another kind
        a subject with a line end: its subject is not 1 to 255 visible characters of ASCII
        a subject beyond ASCII: its subject is not 1 to 255 visible characters of ASCII
        a long subject: its subject is not 1 to 255 visible characters of ASCII
        an empty subject: its subject is not 1 to 255 visible characters of ASCII
        no role: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may []
        a role that the file does not name: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may []
        two roles: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may ["randomness", "datafeed", "admin"]
        a role that is a number: its claim of the roles is neither text nor a list
        a scope of its own: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may []
    "#]]
    .assert_eq(&shown);
}

#[test]
fn roles_and_tenants_stand_where_the_file_says() {
    let maker = Maker::new();
    let of = |role_claim: Option<&str>, tenant: Tenant, changes: Value| {
        let rules = IssuerRules { role_claim: role_claim.map(str::to_owned), tenant, ..rules(&ALL) };
        let table = table(rules, maker.keys());
        match table.verify(maker.with_claims("ES256", changes).as_bytes(), at(NOW)) {
            Ok(verified) => format!("{} of {}", verified.identity.scopes.join(" "), verified.identity.tenant),
            Err(refusal) => refusal.to_string(),
        }
    };
    let fixed = || Tenant::Fixed("one".to_owned());
    let claim = || Tenant::Claim {
        path: "app_metadata.org".to_owned(),
        others: BTreeSet::from(["another".to_owned()]),
    };
    let metadata = |org: Value| json!({"app_metadata": {"role": "service_role", "org": org}});
    let told = [
        of(None, fixed(), json!({"scope": "authenticated  unknown"})),
        of(None, fixed(), json!({"scope": ["authenticated"]})),
        of(Some("app_metadata.role"), fixed(), metadata(json!("acme"))),
        of(
            Some("https://example.org/roles"),
            fixed(),
            json!({"https://example.org/roles": ["service_role"]}),
        ),
        of(Some("app_metadata.role"), claim(), metadata(json!("acme"))),
        of(Some("app_metadata.role"), claim(), metadata(json!("a b"))),
        of(Some("app_metadata.role"), claim(), metadata(json!(7))),
        of(Some("app_metadata.role"), claim(), json!({})),
        of(Some("app_metadata.role"), claim(), metadata(json!("another"))),
    ];
    expect![[r#"
        randomness datafeed of one
        its claim `scope` is not text
        admin datafeed of one
        admin datafeed of one
        admin datafeed of acme
        its claim of the tenant names none
        its claim of the tenant names none
        its claim of the tenant names none
        its claim names the tenant of another issuer"#]]
    .assert_eq(&told.join("\n"));
}

#[test]
fn a_signature_has_one_form() {
    let maker = Maker::new();
    let table = all(&maker);
    let token = maker.token("ES256");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let with = |signature: &[u8]| told(&table, format!("{signed}.{}", maker::encode(signature)));
    let raw = maker::decode(signature);
    let order = maker::decode("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE");
    let mut shown = String::new();
    for (what, signature) in [
        ("as it is", raw.clone()),
        ("empty", Vec::new()),
        ("r and s are zero", vec![0; 64]),
        ("r is zero", [&[0; 32], &raw[32..]].concat()),
        ("s is zero", [&raw[..32], &[0; 32]].concat()),
        ("r is the order", [&order, &raw[32..]].concat()),
        ("s is the order", [&raw[..32], &order].concat()),
        ("all ones", vec![0xff; 64]),
        ("a byte less", raw[..63].to_vec()),
        ("a byte more", [&raw[..], &[0]].concat()),
        ("DER", maker::der(&raw)),
    ] {
        shown += &format!("{what}: {}\n", with(&signature));
    }
    expect![[r#"
        as it is: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may ["randomness", "datafeed"]
        empty: its signature is not right
        r and s are zero: its signature is not right
        r is zero: its signature is not right
        s is zero: its signature is not right
        r is the order: its signature is not right
        s is the order: its signature is not right
        all ones: its signature is not right
        a byte less: its signature is not right
        a byte more: its signature is not right
        DER: its signature is not right
    "#]]
    .assert_eq(&shown);
}

#[test]
fn a_token_has_one_form() {
    let maker = Maker::new();
    let table = all(&maker);
    let token = maker.token("ES256");
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    let raw = |header: &str, payload: &str| {
        maker.sign(
            "ES256",
            &format!("{}.{}", maker::encode(header.as_bytes()), maker::encode(payload.as_bytes())),
        )
    };
    let claims = maker.claims().to_string();
    let head = r#"{"alg":"ES256","kid":"es"}"#;
    let json = json!({"payload": payload, "protected": header, "signature": signature}).to_string();
    let deep = format!(r#"{{"iss":"{ISSUER}","a":{}1{}}}"#, "[".repeat(1000), "]".repeat(1000));
    let mut shown = String::new();
    for (what, token) in [
        ("as it is", token.clone()),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("two parts", format!("{header}.{payload}")),
        ("a fourth part", format!("{token}.")),
        ("a fourth part that is none", format!("{token}.e30")),
        ("padded", format!("{token}==")),
        ("padded in the middle", format!("{header}=.{payload}.{signature}")),
        ("letters of the other alphabet", format!("{header}.{payload}.{}+", &signature[1..])),
        ("a space", format!("{header}. {payload}.{signature}")),
        ("a line end", format!("{token}\n")),
        ("as JSON", json),
        ("claims twice", raw(head, &claims.replacen('{', r#"{"sub":"admin","#, 1))),
        ("a header twice", raw(r#"{"alg":"none","alg":"ES256","kid":"es"}"#, &claims)),
        ("claims that are a list", raw(head, "[]")),
        ("something behind the claims", raw(head, &format!("{claims}{{}}"))),
        ("deep", raw(head, &deep)),
        ("long", format!("{header}.{}.{signature}", "A".repeat(MAX_TOKEN_BYTES))),
    ] {
        shown += &format!("{what}: {}\n", told(&table, token));
    }
    let latin = [&b"{\"alg\":\"ES256\",\"kid\":\"es\",\"x\":\"\xe9\"}"[..]].concat();
    let latin = maker.sign("ES256", &format!("{}.{payload}", maker::encode(&latin)));
    shown += &format!("a header that is no UTF-8: {}\n", told(&table, latin));
    shown += &format!("bytes that are no text: {}\n", told(&table, [token.as_bytes(), &[0xff]].concat()));
    // The last letter of 64 bytes has four bits that say nothing.
    let last = signature.chars().last().unwrap();
    let other = ('A'..='Z').chain('a'..='z').chain('0'..='9').find(|&letter| {
        let text = format!("{}{letter}", &signature[..signature.len() - 1]);
        letter != last && maker::lenient(&text) == maker::lenient(signature)
    });
    let other = format!("{header}.{payload}.{}{}", &signature[..signature.len() - 1], other.unwrap());
    shown += &format!("the same bytes in other letters: {}\n", told(&table, other));
    expect![[r#"
        as it is: 1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may ["randomness", "datafeed"]
        nothing: it has not three parts
        dots: its header is not read in one way only
        two parts: it has not three parts
        a fourth part: it has not three parts
        a fourth part that is none: it has not three parts
        padded: a part of it is not base64url
        padded in the middle: a part of it is not base64url
        letters of the other alphabet: a part of it is not base64url
        a space: a part of it is not base64url
        a line end: a part of it is not base64url
        as JSON: it has not three parts
        claims twice: its claims are not read in one way only
        a header twice: its header is not read in one way only
        claims that are a list: its claims are not read in one way only
        something behind the claims: its claims are not read in one way only
        deep: its claims are not read in one way only
        long: it is longer than 8 KiB
        a header that is no UTF-8: its header is not read in one way only
        bytes that are no text: a part of it is not base64url
        the same bytes in other letters: a part of it is not base64url
    "#]]
    .assert_eq(&shown);
}

#[test]
fn a_key_is_chosen_by_its_id_and_only_without_one_tried() {
    let (maker, other) = (Maker::new(), Maker::new());
    let es = |maker: &Maker, id: Option<&str>| {
        let mut jwk = maker.jwk("es");
        match id {
            Some(id) => jwk["kid"] = id.into(),
            None => drop(jwk.as_object_mut().unwrap().remove("kid")),
        }
        Jwks::read(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap().keys.remove(0)
    };
    let token = |id: Option<&str>| {
        let header = id.map_or(json!({}), |id| json!({"kid": id}));
        maker.signed("ES256", header, maker.claims())
    };
    let told = |keys: Vec<Arc<VerifyingKey>>, id| told(&table(rules(&ALL), keys), token(id));
    let good = "1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11 may [\"randomness\", \"datafeed\"]";
    let unknown = format!("the token is signed with a key of {ISSUER} that is not known");
    let wrong = "its signature is not right";
    let two = || vec![es(&other, Some("a")), es(&maker, Some("b"))];
    assert_eq!(told(two(), Some("b")), good);
    assert_eq!(told(two(), Some("a")), wrong, "the other key is not tried");
    assert_eq!(told(two(), None), good);
    assert_eq!(told(two(), Some("c")), unknown);
    assert_eq!(told(Vec::new(), None), unknown);
    assert_eq!(told(vec![es(&maker, None)], Some("c")), good, "a key without an id may be any");
    let many = |count: usize| {
        let mut keys: Vec<_> = (0..count).map(|_| es(&other, None)).collect();
        keys.push(es(&maker, None));
        keys
    };
    assert_eq!(told(many(MAX_KEYS_TRIED - 1), None), good);
    assert_eq!(told(many(MAX_KEYS_TRIED), None), wrong, "no more keys are tried than that");
}

#[test]
fn a_secret_is_as_long_as_its_hash() {
    assert!(VerifyingKey::secret(&[7; MIN_SECRET_BYTES]).is_some());
    assert!(VerifyingKey::secret(&[7; MIN_SECRET_BYTES - 1]).is_none());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_none_are_good(bytes: Vec<u8>) {
        let table = table(rules(&ALL), vec![Arc::new(VerifyingKey::secret(&[7; 32]).unwrap())]);
        prop_assert!(table.verify(&bytes, at(NOW)).is_err());
    }

    #[test]
    fn no_parts_make_it_panic(header in "\\PC{0,40}", payload in "\\PC{0,40}", signature: Vec<u8>) {
        let table = table(rules(&ALL), vec![Arc::new(VerifyingKey::secret(&[7; 32]).unwrap())]);
        let parts = [header.as_bytes(), payload.as_bytes(), &signature].map(maker::encode);
        prop_assert!(table.verify(parts.join(".").as_bytes(), at(NOW)).is_err());
    }

    #[test]
    fn a_token_with_one_bit_changed_is_not_good(algorithm in 0..5_usize, place: prop::sample::Index, bit in 0..8_u8) {
        let maker = maker::shared();
        let mut token = maker.token(["HS256", "RS256", "PS256", "ES256", "EdDSA"][algorithm]).into_bytes();
        let table = all(maker);
        prop_assert!(table.verify(&token, at(NOW)).is_ok());
        let place = place.index(token.len());
        token[place] ^= 1 << bit;
        prop_assert!(table.verify(&token, at(NOW)).is_err());
    }
}
