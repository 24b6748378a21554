use std::collections::BTreeSet;
use std::sync::Mutex;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::time::{advance, sleep};

use super::fetch::Fetching;
use super::*;
use crate::{Algorithm, Tenant, TokenRefusal};

const URL: &str = "https://idp.test/jwks?tenant=1";

/// A far side with a script: each fetch takes the next answer, and the last one stays.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Scripted>>);

#[derive(Default)]
struct Scripted {
    answers: Vec<Result<Fetched, String>>,
    /// When each fetch began.
    fetches: Vec<Instant>,
    takes: Duration,
    /// What the next fetch does in the place of an answer.
    panics: bool,
    running: usize,
    most_running: usize,
}

/// A fetch under way, until it is dropped.
struct RunningFetch(Script);

impl Drop for RunningFetch {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().running -= 1;
    }
}

impl Script {
    fn answer(&self, answer: Result<Fetched, &str>) {
        self.0.lock().unwrap().answers = vec![answer.map_err(str::to_owned)];
    }

    fn fetches(&self) -> usize {
        self.0.lock().unwrap().fetches.len()
    }

    fn takes(&self, time: Duration) {
        self.0.lock().unwrap().takes = time;
    }
}

impl FetchKeys for Script {
    fn fetch<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        assert!(url.starts_with("https://"));
        let (answer, takes, panics) = {
            let mut scripted = self.0.lock().unwrap();
            scripted.fetches.push(Instant::now());
            scripted.running += 1;
            scripted.most_running = scripted.most_running.max(scripted.running);
            (scripted.answers[0].clone(), scripted.takes, std::mem::take(&mut scripted.panics))
        };
        let running = RunningFetch(self.clone());
        Box::pin(async move {
            let _running = running;
            sleep(takes).await;
            assert!(!panics, "a bug of the test's own");
            answer
        })
    }
}

/// A set of keys of Ed25519 with these ids. Which points they are makes no difference here.
fn set(ids: &[&str], max_age: Option<u64>) -> Result<Fetched, &'static str> {
    let keys: Vec<_> = ids
        .iter()
        .map(|id| json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}))
        .collect();
    let body = json!({"keys": keys}).to_string().into();
    Ok(Fetched { body, max_age: max_age.map(Duration::from_secs) })
}

fn source(issuer: &str, url: Option<&str>) -> IssuerSource {
    let rules = IssuerRules {
        issuer: issuer.into(),
        audience: "a".to_owned(),
        algorithms: BTreeSet::from([Algorithm::EdDsa]),
        role_claim: None,
        scopes: BTreeMap::new(),
        tenant: Tenant::Fixed("default".to_owned()),
        tier: "free".into(),
    };
    IssuerSource { rules: Arc::new(rules), keys: Vec::new(), url: url.map(str::to_owned) }
}

/// Why the table refuses a token that names a key of this id.
fn refusal(keys: &KeysOfIssuers, issuer: &str, id: &str) -> TokenRefusal {
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"iss": issuer, "aud": "a", "sub": "ann", "exp": 1});
    let token = format!("{}.{}.", part(json!({"alg": "EdDSA", "kid": id})), part(claims));
    keys.tables.borrow().verify(token.as_bytes(), jiff::Timestamp::UNIX_EPOCH).unwrap_err()
}

/// Whether the table knows a key of this id.
fn knows(keys: &KeysOfIssuers, issuer: &str, id: &str) -> bool {
    match refusal(keys, issuer, id) {
        TokenRefusal::UnknownKey(_) | TokenRefusal::KeysAwaited(_) => false,
        TokenRefusal::Costly("its signature is not right") => true,
        other => panic!("{other}"),
    }
}

/// Runs an owner beside a test, as long as that.
async fn beside<F: Future<Output = ()>>(
    sources: Vec<IssuerSource>,
    script: &Script,
    test: impl FnOnce(Issuers, KeysOfIssuers) -> F,
) {
    let (issuers, owner) = Issuers::new(sources, script.clone());
    let keys = issuers.keys();
    tokio::select! {
        biased;
        () = test(issuers, keys) => {}
        () = owner.run(std::future::pending()) => panic!("nobody told it to end"),
    }
}

/// Lets everything that can happen at this moment happen.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_at_once_and_again_when_they_are_old() {
    let script = Script::default();
    script.answer(set(&["a"], None));
    beside(vec![source("idp", Some(URL)), source("other", Some(URL))], &script, |_issuers, keys| {
        let script = script.clone();
        async move {
            assert!(!knows(&keys, "idp", "a"), "nothing is waited for before the first table");
            settle().await;
            assert!(knows(&keys, "idp", "a") && knows(&keys, "other", "a"));
            assert_eq!(script.fetches(), 1, "two issuers, one URL");
            let number = keys.tables.borrow().number();
            pass(599).await;
            assert_eq!(script.fetches(), 1);
            pass(1).await;
            assert_eq!(script.fetches(), 2);
            assert_eq!(keys.tables.borrow().number(), number, "the same keys make no other table");
            script.answer(set(&["b"], Some(120)));
            pass(600).await;
            assert!(
                knows(&keys, "idp", "b") && !knows(&keys, "idp", "a"),
                "a key that is gone counts no more"
            );
            // What the answer says counts, within its limits.
            for (age, counts) in [(120, 120), (0, 60), (86_400, 3_600)] {
                script.answer(set(&["b"], Some(age)));
                let before = script.fetches();
                // The answer before this one said how long this takes.
                loop {
                    pass(1).await;
                    if script.fetches() > before {
                        break;
                    }
                }
                pass(counts - 1).await;
                assert_eq!(script.fetches(), before + 1, "{age}");
                pass(1).await;
                assert_eq!(script.fetches(), before + 2, "{age}");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn until_keys_were_fetched_once_nobody_knows_whether_a_token_is_good() {
    let script = Script::default();
    script.answer(Err("no connection"));
    beside(vec![source("idp", Some(URL)), source("static", None)], &script, |_issuers, keys| {
        let script = script.clone();
        async move {
            let awaited = TokenRefusal::KeysAwaited("idp".into());
            assert_eq!(refusal(&keys, "idp", "a"), awaited);
            assert_eq!(refusal(&keys, "static", "a"), TokenRefusal::UnknownKey("static".into()));
            settle().await;
            assert_eq!(refusal(&keys, "idp", "a"), awaited, "it has failed");
            script.answer(Ok(Fetched { body: "<html>".into(), max_age: None }));
            pass(1).await;
            assert_eq!(refusal(&keys, "idp", "a"), awaited, "what is no set of keys says nothing of them");
            script.answer(set(&[], None));
            pass(2).await;
            assert_eq!(refusal(&keys, "idp", "a"), TokenRefusal::UnknownKey("idp".into()), "there are none");
            script.answer(Err("no connection"));
            pass(600).await;
            assert_eq!(refusal(&keys, "idp", "a"), TokenRefusal::UnknownKey("idp".into()));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_fetched_out_of_turn_and_not_too_often() {
    let script = Script::default();
    script.answer(set(&["a"], None));
    beside(vec![source("idp", Some(URL)), source("static", None)], &script, |_issuers, keys| {
        let script = script.clone();
        async move {
            settle().await;
            script.answer(set(&["a", "b"], None));
            script.takes(Duration::from_secs(2));
            let number = || keys.tables.borrow().number();
            let ask = || keys.ask("idp".into(), number()).unwrap();
            // However many ask, one fetch answers all of them.
            let (one, two, three) = (ask(), ask(), ask());
            let began = Instant::now();
            tokio::join!(one, two, three);
            assert_eq!((script.fetches(), began.elapsed()), (2, Duration::from_secs(2)));
            assert!(knows(&keys, "idp", "b"));
            let began = Instant::now();
            ask().await;
            assert_eq!((script.fetches(), began.elapsed()), (2, Duration::ZERO), "too soon");
            pass(27).await;
            ask().await;
            assert_eq!(script.fetches(), 2, "29 seconds");
            pass(1).await;
            ask().await;
            assert_eq!(script.fetches(), 3);
            pass(60).await;
            keys.ask("idp".into(), number() - 1).unwrap().await;
            keys.ask("static".into(), number()).unwrap().await;
            keys.ask("nobody".into(), number()).unwrap().await;
            assert_eq!(script.fetches(), 3, "an older table, an issuer without a URL, and none at all");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn keys_stay_in_force_while_they_cannot_be_fetched_which_is_tried_ever_more_seldom() {
    let script = Script::default();
    script.answer(set(&["a"], None));
    beside(vec![source("idp", Some(URL))], &script, |_issuers, keys| {
        let script = script.clone();
        async move {
            settle().await;
            script.answer(Err("no connection"));
            pass(600).await;
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(300) {
                pass(1).await;
            }
            assert!(knows(&keys, "idp", "a"));
            let waits: Vec<u64> = {
                let scripted = script.0.lock().unwrap();
                scripted.fetches.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect()
            };
            assert_eq!(waits, [600, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
            script.answer(Ok(Fetched { body: "<html>".into(), max_age: None }));
            pass(60).await;
            assert!(knows(&keys, "idp", "a"), "what is no set of keys is a failure too");
            script.answer(set(&["b"], None));
            pass(60).await;
            assert!(knows(&keys, "idp", "b") && !knows(&keys, "idp", "a"));
            let fetches = script.fetches();
            pass(599).await;
            assert_eq!(script.fetches(), fetches, "it is as before");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn other_issuers_take_the_place_of_these_and_keep_what_was_fetched() {
    let script = Script::default();
    script.answer(set(&["a"], None));
    beside(vec![source("idp", Some(URL))], &script, |issuers, keys| {
        let script = script.clone();
        async move {
            settle().await;
            issuers.set(vec![source("renamed", Some(URL)), source("new", Some("https://new.test/"))]);
            settle().await;
            assert_eq!(script.fetches(), 2, "only the new URL");
            assert!(knows(&keys, "renamed", "a") && knows(&keys, "new", "a"));
            issuers.set(vec![source("renamed", None)]);
            settle().await;
            assert!(!knows(&keys, "renamed", "a"));
            pass(10_000).await;
            assert_eq!(script.fetches(), 2, "nobody wants them any more");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_ends_by_a_bug_has_failed_and_is_tried_again() {
    let script = Script::default();
    script.answer(set(&["a"], None));
    script.0.lock().unwrap().panics = true;
    beside(vec![source("idp", Some(URL))], &script, |_issuers, keys| {
        let script = script.clone();
        async move {
            settle().await;
            assert_eq!((script.fetches(), knows(&keys, "idp", "a")), (1, false));
            pass(1).await;
            assert_eq!((script.fetches(), knows(&keys, "idp", "a")), (2, true));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_url_that_comes_back_while_it_was_fetched_is_fetched_anew_and_once_at_a_time() {
    let script = Script::default();
    script.answer(set(&["old"], None));
    script.takes(Duration::from_secs(5));
    beside(vec![source("idp", Some(URL))], &script, |issuers, keys| {
        let script = script.clone();
        async move {
            settle().await;
            pass(2).await;
            issuers.set(Vec::new());
            settle().await;
            script.answer(set(&["new"], None));
            issuers.set(vec![source("idp", Some(URL))]);
            settle().await;
            pass(3).await;
            assert!(!knows(&keys, "idp", "old"), "the answer to the first fetch");
            pass(2).await;
            assert!(knows(&keys, "idp", "new"));
            assert_eq!((script.fetches(), script.0.lock().unwrap().most_running), (2, 1));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_also_while_another_issuer_changes_the_table() {
    let script = Script::default();
    script.answer(set(&["a"], None));
    beside(vec![source("idp", Some(URL))], &script, |issuers, keys| {
        let script = script.clone();
        async move {
            settle().await;
            let number = keys.tables.borrow().number();
            script.answer(set(&["a", "b"], None));
            issuers.set(vec![source("idp", Some(URL)), source("other", Some("https://other.test/"))]);
            settle().await;
            assert!(keys.tables.borrow().number() > number && !knows(&keys, "idp", "b"));
            keys.ask("idp".into(), number).unwrap().await;
            assert!(knows(&keys, "idp", "b"));
            let fetches = script.fetches();
            keys.ask("idp".into(), number).unwrap().await;
            assert_eq!(script.fetches(), fetches, "the key is in a table that whoever asks has not seen");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_waits_for_the_fetch_that_goes_on_and_only_so_many_do() {
    let script = Script::default();
    script.answer(set(&["a"], None));
    script.takes(Duration::from_secs(5));
    beside(vec![source("idp", Some(URL))], &script, |_issuers, keys| async move {
        settle().await;
        let number = keys.tables.borrow().number();
        let began = Instant::now();
        keys.ask("idp".into(), number).unwrap().await;
        assert!(knows(&keys, "idp", "a") && began.elapsed() == Duration::from_secs(5));
    })
    .await;
    let (issuers, owner) = Issuers::new(Vec::new(), script);
    let keys = issuers.keys();
    let asked: Vec<_> = (0..QUEUED_QUESTIONS).map(|_| keys.ask("idp".into(), 0)).collect();
    assert!(asked.iter().all(Option::is_some));
    assert!(keys.ask("idp".into(), 0).is_none(), "there is no room");
    drop(owner);
    assert!(keys.ask("idp".into(), 0).is_none(), "there is no owner");
}
